"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.audit import audit_batch, audit_findings
from lossfuzz.harness import findings as kinds
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.cells import Cell
from lossfuzz.harness.execution import CellRunner, UnavailableError
from lossfuzz.harness.measure import disagreements
from lossfuzz.harness.outcome import Outcome, Prepared, outcome_of, prepare
from lossfuzz.harness.results import CellResult, RunResult, worst_findings
from lossfuzz.harness.routes import route_of
from lossfuzz.reduction import reduced
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from lossfuzz.harness.findings import Finding
    from lossfuzz.plan import Plan

Progress = Callable[[int, int, str], None]
"""Called with batches done, batches in all (0 when time is the budget), and what runs now."""

_ROUTE_LOGITS = [[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]]
_ROUTE_LABELS = [0, 0]


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
    campaign.spend("start", started)
    interrupted = False
    try:
        campaign.find_routes()
        campaign.measure_all(progress or (lambda *_: None))
        campaign.reduce_findings()
        campaign.audit_findings()
    except KeyboardInterrupt:
        interrupted = True
    campaign.spend("total", started)
    return RunResult(
        plan=campaign.plan.to_json(),
        environment={"versions": versions(), "devices": devices(tf)},
        cells=campaign.results,
        worst=campaign.worst or worst_findings(campaign.results),
        interrupted=interrupted,
        reference_rows=campaign.reference_rows,
        seconds=campaign.seconds,
    )


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seconds: dict[str, float] = {}
        self.results = [
            CellResult(Cell(path=path, format=fmt, mode=mode, device=device))
            for path in plan.paths
            for fmt in plan.formats
            for device in plan.devices
            for mode in plan.modes
        ]
        self.runners: dict[str, CellRunner] = {}
        self.worst: list[Finding] = []
        self.reference_rows = {"rows": 0, "float64": 0, "extended": 0, "mpmath": 0, "audited": 0}

    def spend(self, phase: str, started: float) -> None:
        """Book the time since a start under a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def find_routes(self) -> None:
        """Learn every cell's route; a path that refuses a tame batch is unavailable."""
        started = time.perf_counter()
        labels = np.array(_ROUTE_LABELS, np.int32)
        for result in self.results:
            try:
                result.route = route_of(
                    result.cell, result.cell.format.cast(_ROUTE_LOGITS), labels
                )
            except UnavailableError as error:
                result.unavailable = str(error)
        self.spend("routes", started)

    def measure_all(self, progress: Progress) -> None:
        """Run batches in rounds over the formats, until the budget is spent."""
        deadline = time.perf_counter() + (self.plan.seconds or math.inf)
        total = self.plan.batches() or 0
        streams = zip(*(self.plan.recipes(fmt) for fmt in self.plan.formats), strict=True)
        for done, recipe in enumerate(itertools.chain.from_iterable(streams)):
            if done and time.perf_counter() > deadline:
                break
            progress(done, total, f"{recipe.format} {recipe.family}")
            self._measure_batch(self._prepare(recipe), recipe.format)
        progress(1, 1, "reducing findings")

    def reduce_findings(self) -> None:
        """Make the worst finding of each kind small."""
        started = time.perf_counter()
        cells = {result.cell.name: result.cell for result in self.results}
        found = worst_findings(self.results)
        self.worst = [reduced(finding, cells[finding.cell_name]) for finding in found]
        self.spend("reduce", started)

    def audit_findings(self) -> None:
        """Check the exact values of all findings that are kept."""
        started = time.perf_counter()
        kept = [finding for result in self.results for finding in result.findings.values()]
        self.reference_rows["audited"] += audit_findings([*kept, *self.worst])
        self.spend("audit", started)

    def _prepare(self, recipe: Recipe) -> Prepared:
        started = time.perf_counter()
        batch = expand(recipe)
        prepared = prepare(batch.logits, batch.labels, recipe.to_json())
        reference = prepared.reference
        rows = len(prepared.row_labels)
        self.reference_rows["rows"] += rows
        self.reference_rows["float64"] += rows - reference.extended_rows
        self.reference_rows["extended"] += reference.extended_rows - reference.mpmath_rows
        self.reference_rows["mpmath"] += reference.mpmath_rows
        self.spend("reference", started)
        started = time.perf_counter()
        cells = sum(one.cell.format.dtype_name == recipe.format for one in self.results)
        at_least = int(self.reference_rows["audited"] == 0)
        self.reference_rows["audited"] += audit_batch(prepared, cells=cells, at_least=at_least)
        self.spend("audit", started)
        return prepared

    def _measure_batch(self, prepared: Prepared, dtype_name: str) -> None:
        """Run a batch through every cell of its format, all modes of a path side by side."""
        open_cells = [
            result
            for result in self.results
            if result.cell.format.dtype_name == dtype_name and result.unavailable is None
        ]
        for _, group in itertools.groupby(open_cells, key=_path_and_device):
            outcomes = {}
            for result in group:
                outcome = self._run_cell(result, prepared)
                if outcome is not None:
                    outcomes[result.cell.mode] = (result, outcome)
            if outcomes:
                self._summarise(outcomes)

    def _run_cell(self, result: CellResult, prepared: Prepared) -> Outcome | None:
        name = result.cell.name
        if name not in self.runners:
            self.runners[name] = CellRunner(result.cell)
        started = time.perf_counter()
        try:
            outcome = outcome_of(self.runners[name], prepared)
        except UnavailableError as error:
            # its route was found on a tame batch, so the path is there and refuses this one
            result.refuse(self.runners[name], prepared, error)
            self.spend("measure", started)
            return None
        self.spend("measure", started + outcome.observed.seconds)
        self.spend("tensorflow", time.perf_counter() - outcome.observed.seconds)
        return outcome

    def _summarise(self, outcomes: dict[str, tuple[CellResult, Outcome]]) -> None:
        started = time.perf_counter()
        apart = disagreements({mode: one.measurement for mode, (_, one) in outcomes.items()})
        for mode, (result, outcome) in outcomes.items():
            outcome.measurement.defects[kinds.MODE_DISAGREEMENT] = apart[mode]
            result.summary.add(
                outcome.measurement, outcome.observed.loss, outcome.prepared.conditions
            )
            result.keep_worst(outcome)
        self.spend("measure", started)


def _path_and_device(result: CellResult) -> tuple[Any, ...]:
    return result.cell.path.name, result.cell.device
