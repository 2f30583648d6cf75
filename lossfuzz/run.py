"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.audit import audit_findings
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.results import CellResult, RunResult, worst_findings
from lossfuzz.measuring import Measuring
from lossfuzz.reduction import reduced

if TYPE_CHECKING:
    from lossfuzz.harness.findings import Finding
    from lossfuzz.plan import Plan

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
    """
    started = time.perf_counter()
    tf = start_tensorflow(logical_cpus=logical_cpus)
    chosen = [device_named(tf, name) for name in plan.devices] or devices(tf)
    campaign = _Run(replace(plan, devices=tuple(dict.fromkeys(chosen))))
    campaign.measuring.spend("start", started)
    interrupted = False
    try:
        campaign.measuring.find_routes(campaign.results)
        campaign.measure_all(progress or (lambda *_: None))
        campaign.reduce_findings()
        campaign.audit_findings()
    except KeyboardInterrupt:
        interrupted = True
    campaign.measuring.spend("total", started)
    return RunResult(
        plan=campaign.plan.to_json(),
        environment={"versions": versions(), "devices": devices(tf)},
        cells=campaign.results,
        worst=campaign.worst or worst_findings(campaign.results),
        interrupted=interrupted,
        reference_rows=campaign.measuring.reference_rows,
        seconds=campaign.measuring.seconds,
    )


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.results = [CellResult(cell) for cell in plan.cells()]
        self.measuring = Measuring()
        self.worst: list[Finding] = []

    def measure_all(self, progress: Progress) -> None:
        """Run batches in rounds over the formats, until the budget is spent."""
        deadline = time.perf_counter() + (self.plan.seconds or math.inf)
        total = self.plan.batches() or 0
        streams = zip(*(self.plan.recipes(fmt) for fmt in self.plan.formats), strict=True)
        for done, recipe in enumerate(itertools.chain.from_iterable(streams)):
            if done and time.perf_counter() > deadline:
                break
            progress(done, total, f"{recipe.format} {recipe.family}")
            self.measuring.measure_batch(recipe, self.results)
        progress(1, 1, "reducing findings")

    def reduce_findings(self) -> None:
        """Make the worst finding of each kind small."""
        started = time.perf_counter()
        by_name = {result.cell.name: result for result in self.results}
        for finding in worst_findings(self.results):
            result = by_name[finding.cell_name]
            self.worst.append(reduced(finding, self.measuring.runner(result)))
        self.measuring.spend("reduce", started)

    def audit_findings(self) -> None:
        """Check the exact values of all findings that are kept."""
        started = time.perf_counter()
        kept = [finding for result in self.results for finding in result.findings.values()]
        self.measuring.reference_rows["audited"] += audit_findings([*kept, *self.worst])
        self.measuring.spend("audit", started)
