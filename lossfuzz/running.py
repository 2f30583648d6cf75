"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.audit import audit_findings
from lossfuzz.cliffs import find_cliffs
from lossfuzz.fitting import RefusedLossError, fitted
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.results.causes import causes_of, finding_key, findings_to_shrink
from lossfuzz.harness.results.run import RunResult
from lossfuzz.harness.results.selection import cells_to_walk, worst_findings
from lossfuzz.harness.users.guarded import USUAL_ERRORS
from lossfuzz.harness.users.time_limit import TIME_LIMIT_SECONDS, limited
from lossfuzz.plan import MEASURING_SHARE, SHRINKING_ENDS
from lossfuzz.rounds import planned_rounds
from lossfuzz.session import Session
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

if TYPE_CHECKING:
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe

Progress = Callable[[int, int, str], None]
"""Called with batches done, batches in all (0 when time is the budget), and what runs now."""


Keep = Callable[[RunResult], None]
"""Given what a run has measured so far, now and then while it goes on."""

KEEP_SECONDS = 30.0
"""From one time to the next that results so far are kept, at the least."""

_FIRST_KEEP_SECONDS = 5.0
_MOST_KEEPING = 0.05
"""Share of a run's time that keeping its results may take."""


def run(
    plan: Plan,
    *,
    logical_cpus: int = 1,
    progress: Progress | None = None,
    keep: Keep | None = None,
    time_limit: float = TIME_LIMIT_SECONDS,
) -> RunResult:
    """Carry out a plan in this process; Ctrl-C ends it early, with what was measured until then.

    Args:
        plan: what to run.
        logical_cpus: how many CPU devices TensorFlow shall show.
        progress: told of every batch.
        keep: given the results so far, every half minute or so; they say that they are not all.
        time_limit: seconds that one call of a user's own loss may take. One that takes longer is
            interrupted, told as a finding or a refusal, and not called again. What cannot be
            interrupted ends the process, with exit code 124, after `keep` got the results so far.

    Raises:
        BackendError: TensorFlow cannot be started, or lacks a device of the plan.
        AuditError: the exact reference disagrees with mpmath on one of the run's own rows.
        RefusedLossError: an own loss of the plan cannot be measured; shapes other than the
            default ones count as chosen.
    """
    begun: list[_Run] = []

    def keep_now() -> None:
        for one in begun:
            one.keep_now()

    with limited(time_limit, keep_now), np.errstate(**USUAL_ERRORS):
        started = time.perf_counter()
        tf = start_tensorflow(logical_cpus=logical_cpus)
        chosen = [device_named(tf, name) for name in plan.devices] or devices(tf)
        fit = fitted(plan, chosen=plan.shapes != DEFAULT_SHAPES, device=chosen[0])
        if fit.refusal:
            raise RefusedLossError(fit.refusal)
        campaign = _Run(
            replace(fit.plan, devices=tuple(dict.fromkeys(chosen))),
            progress or (lambda *_: None),
            keep or (lambda _: None),
            fit.notes,
        )
        begun.append(campaign)
        campaign.measuring.spend("start", started)
        interrupted = campaign.carry_out()
        campaign.measuring.spend("total", started)
        return campaign.result(interrupted=interrupted)


class _Run(Session):
    """The state of one run."""

    def __init__(
        self, plan: Plan, progress: Progress, keep: Keep, told: tuple[str, ...] = ()
    ) -> None:
        super().__init__(plan)
        self._small: dict[str, Finding] = {}
        self._progress, self._keep, self._told = progress, keep, told
        self._next_keep = time.perf_counter() + _FIRST_KEEP_SECONDS
        self._shrinking_ends = math.inf
        self._batches, self._total = 0, plan.batches() or 0

    def carry_out(self) -> bool:
        """Measure, and follow up what that shows; returns whether Ctrl-C ended it early."""
        try:
            started = time.perf_counter()
            self.start_budget(MEASURING_SHARE, started)
            if self.plan.seconds is not None:
                self._shrinking_ends = started + SHRINKING_ENDS * self.plan.seconds
            self.measuring.find_routes(self.cells)
            self.measure(planned_rounds(self.plan))
            self.ask_policies()
            self.shrink_findings()
            self.find_cliffs()
            self.audit_findings()
        except KeyboardInterrupt:
            return True
        return False

    def keep_now(self) -> None:
        """Hand over what there is, since the process ends."""
        self._keep(self.result(interrupted=True))

    def result(self, *, interrupted: bool) -> RunResult:
        """What was measured so far."""
        return RunResult(
            plan=self.plan.to_json(),
            environment={"versions": versions(), "devices": devices(start_tensorflow())},
            cells=self.cells,
            worst=self.worst(),
            causes=causes_of(self.cells, self._small),
            notes=self._told,
            interrupted=interrupted,
            reference_rows=self.measuring.reference_rows,
            seconds=self.measuring.seconds,
            progress=self._done() if interrupted else "",
        )

    def _done(self) -> str:
        """How much was measured, in a sentence."""
        if self._total and self._batches == self._total:
            return "all batches were measured, and what they showed was not all followed up"
        of = f" of {self._total:,}" if self._total else ""
        are = "was" if self._batches == 1 else "were"
        noun = "batch" if (self._total or self._batches) == 1 else "batches"
        return f"{self._batches:,}{of} {noun} {are} measured"

    def _go_on(self, what: str) -> None:
        """Tell what comes next, and hand over what there is, if it is time to."""
        self._progress(self._batches, self._total, what)
        started = time.perf_counter()
        if started >= self._next_keep:
            self._keep(self.result(interrupted=True))
            now = time.perf_counter()
            self._next_keep = now + max(KEEP_SECONDS, (now - started) / _MOST_KEEPING)
            self.measuring.spend("keep", started)

    def begin(self, recipe: Recipe) -> None:
        """Tell what comes next."""
        self._go_on(f"{recipe.format} {recipe.family}")

    def end(self) -> None:
        """Count the batch."""
        self._batches += 1

    def worst(self) -> list[Finding]:
        """The worst finding of each kind, made small where that was done."""
        worst = worst_findings(self.cells)
        return [self._small.get(finding_key(finding), finding) for finding in worst]

    def shrink_findings(self) -> None:
        """Make the worst finding of each kind small, and one of each cause."""
        started = time.perf_counter()
        for finding in findings_to_shrink(self.cells, worst_findings(self.cells)):
            self._go_on("shrinking findings")
            if time.perf_counter() > self._shrinking_ends:
                break
            self._small[finding_key(finding)] = self.small(finding, self._shrinking_ends)
        self.measuring.spend("shrink", started)

    def find_cliffs(self) -> None:
        """Find the exact margins at which cells with such defects break."""
        started = time.perf_counter()
        for result in cells_to_walk(self.cells):
            self._go_on("walking to cliffs")
            if time.perf_counter() > self.deadline:
                break
            find_cliffs(result, self.measuring.runner(result))
        self.measuring.spend("cliffs", started)

    def audit_findings(self) -> None:
        """Check the exact values of all findings that are kept."""
        started = time.perf_counter()
        self._go_on("auditing findings")
        kept = [finding for result in self.cells for finding in result.findings.values()]
        audited = audit_findings([*self._small.values(), *kept], deadline=self.deadline)
        self.measuring.reference_rows["audited"] += audited
        self.measuring.spend("audit", started)
