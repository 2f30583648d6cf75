"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.audit import audit_findings
from lossfuzz.cliffs import find_cliffs
from lossfuzz.fitting import RefusedLossError, fitted
from lossfuzz.harness import findings as kinds
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.causes import causes_of, finding_key, findings_to_shrink
from lossfuzz.harness.results import CellResult, RunResult, cells_to_walk, worst_findings
from lossfuzz.measuring import Measuring
from lossfuzz.search import Searches
from lossfuzz.shrinking import shrunk
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.harness.execution import Runner
    from lossfuzz.harness.findings import Finding
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe

Progress = Callable[[int, int, str], None]
"""Called with batches done, batches in all (0 when time is the budget), and what runs now."""


def run(plan: Plan, *, logical_cpus: int = 1, progress: Progress | None = None) -> RunResult:
    """Carry out a plan in this process; Ctrl-C ends it early, with what was measured until then.

    Args:
        plan: what to run.
        logical_cpus: how many CPU devices TensorFlow shall show.
        progress: told of every batch.

    Raises:
        BackendError: TensorFlow cannot be started, or lacks a device of the plan.
        AuditError: the exact reference disagrees with mpmath on one of the run's own rows.
        RefusedLossError: an own loss of the plan cannot be measured; shapes other than the
            default ones count as chosen.
    """
    started = time.perf_counter()
    tf = start_tensorflow(logical_cpus=logical_cpus)
    chosen = [device_named(tf, name) for name in plan.devices] or devices(tf)
    fit = fitted(plan, chosen=plan.shapes != DEFAULT_SHAPES, device=chosen[0])
    if fit.refusal:
        raise RefusedLossError(fit.refusal)
    campaign = _Run(replace(fit.plan, devices=tuple(dict.fromkeys(chosen))))
    campaign.measuring.spend("start", started)
    interrupted = False
    try:
        campaign.measuring.find_routes(campaign.results)
        campaign.measure_all(progress or (lambda *_: None))
        campaign.shrink_findings()
        campaign.find_cliffs()
        campaign.audit_findings()
    except KeyboardInterrupt:
        interrupted = True
    campaign.measuring.spend("total", started)
    return RunResult(
        plan=campaign.plan.to_json(),
        environment={"versions": versions(), "devices": devices(tf)},
        cells=campaign.results,
        worst=campaign.worst(),
        causes=causes_of(campaign.results, campaign.small),
        notes=fit.notes,
        interrupted=interrupted,
        reference_rows=campaign.measuring.reference_rows,
        seconds=campaign.measuring.seconds,
    )


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results = [CellResult(cell) for cell in plan.cells()]
        self.measuring = Measuring(shapes=plan.shapes)
        self.small: dict[str, Finding] = {}

    def measure_all(self, progress: Progress) -> None:
        """Run batches in rounds over the formats, until the budget is spent."""
        deadline = time.perf_counter() + (self.plan.seconds or math.inf)
        total = self.plan.batches() or 0
        searches = Searches(self.plan, self.results)
        for done, (number, recipe) in enumerate(self._recipes()):
            if done and time.perf_counter() > deadline:
                break
            progress(done, total, f"{recipe.format} {recipe.family}")
            if done % len(self.plan.formats) == 0:
                searches.start(number)
            self.measuring.measure_batch(recipe, self.results, learn=searches.learn)
            for mutant, results in searches.mutants(recipe.format, number):
                self.measuring.measure_batch(mutant, results, learn=searches.learn, counted=False)
                if time.perf_counter() > deadline:
                    break
        progress(1, 1, "shrinking findings")

    def _recipes(self) -> Iterator[tuple[int, Recipe]]:
        """The plan's recipes with their numbers within each format."""
        streams = zip(*(self.plan.recipes(fmt) for fmt in self.plan.formats), strict=True)
        for number, recipes in enumerate(streams):
            for recipe in recipes:
                yield number, recipe

    def worst(self) -> list[Finding]:
        """The worst finding of each kind, made small where that was done."""
        worst = worst_findings(self.results)
        return [self.small.get(finding_key(finding), finding) for finding in worst]

    def shrink_findings(self) -> None:
        """Make the worst finding of each kind small, and one of each cause."""
        started = time.perf_counter()
        by_name = {result.cell.name: result for result in self.results}
        for finding in findings_to_shrink(self.results, worst_findings(self.results)):
            result = by_name[finding.cell_name]
            others = self._other_modes(result) if finding.kind == kinds.MODE_DISAGREEMENT else {}
            runner = self.measuring.runner(result)
            self.small[finding_key(finding)] = shrunk(finding, runner, others=others)
        self.measuring.spend("shrink", started)

    def find_cliffs(self) -> None:
        """Find the exact margins at which cells with such defects break."""
        started = time.perf_counter()
        for result in cells_to_walk(self.results):
            find_cliffs(result, self.measuring.runner(result))
        self.measuring.spend("cliffs", started)

    def _other_modes(self, result: CellResult) -> dict[str, Runner]:
        """Mode to runner of the same path, where it runs."""
        return {
            one.cell.mode: self.measuring.runner(one)
            for one in self.results
            if replace(one.cell, mode=result.cell.mode) == result.cell
            and one is not result
            and one.unavailable is None
        }

    def audit_findings(self) -> None:
        """Check the exact values of all findings that are kept."""
        started = time.perf_counter()
        kept = [finding for result in self.results for finding in result.findings.values()]
        self.measuring.reference_rows["audited"] += audit_findings([*kept, *self.small.values()])
        self.measuring.spend("audit", started)
