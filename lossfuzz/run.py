"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_batch, audit_findings
from lossfuzz.harness import findings as kinds
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.cells import Cell
from lossfuzz.harness.execution import CellRunner, UnavailableError
from lossfuzz.harness.measure import disagreements
from lossfuzz.harness.outcome import Outcome, outcome_of
from lossfuzz.harness.prepared import Prepared, prepare
from lossfuzz.harness.results import CellResult, RunResult, worst_findings
from lossfuzz.harness.routes import route_of, tame_batch
from lossfuzz.reduction import reduced
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from lossfuzz.harness.findings import Finding
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Batch

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
        self.audited_losses: set[str] = set()
        self.reference_rows = {"rows": 0, "float64": 0, "extended": 0, "mpmath": 0, "audited": 0}

    def spend(self, phase: str, started: float) -> None:
        """Book the time since a start under a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def find_routes(self) -> None:
        """Learn every cell's route; a path that refuses a tame batch is unavailable."""
        started = time.perf_counter()
        for result in self.results:
            try:
                result.route = route_of(result.cell)
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
            self._measure_batch(recipe)
        progress(1, 1, "reducing findings")

    def reduce_findings(self) -> None:
        """Make the worst finding of each kind small."""
        started = time.perf_counter()
        by_name = {result.cell.name: result for result in self.results}
        for finding in worst_findings(self.results):
            result = by_name[finding.cell_name]
            self.worst.append(reduced(finding, result.cell, result.documented))
        self.spend("reduce", started)

    def audit_findings(self) -> None:
        """Check the exact values of all findings that are kept."""
        started = time.perf_counter()
        kept = [finding for result in self.results for finding in result.findings.values()]
        self.reference_rows["audited"] += audit_findings([*kept, *self.worst])
        self.spend("audit", started)

    def _measure_batch(self, recipe: Recipe) -> None:
        """Run a batch through every cell of its format, one loss after the other."""
        batch = expand(recipe)
        cells: dict[str, list[CellResult]] = {}
        losses: dict[str, LossSpec] = {}
        for result in self.results:
            if result.cell.format.dtype_name == recipe.format and result.unavailable is None:
                loss = result.cell.path.loss
                cells.setdefault(loss.name, []).append(result)
                losses[loss.name] = loss
        for name, loss in losses.items():
            prepared = self._prepare(batch, loss)
            self._measure_loss(prepared, cells[name])
            self._audit(prepared, len(cells[name]))

    def _prepare(self, batch: Batch, loss: LossSpec) -> Prepared:
        started = time.perf_counter()
        prepared = prepare(batch.logits, batch.labels, batch.recipe.to_json(), loss)
        reference = prepared.reference
        rows = len(prepared.row_labels)
        self.reference_rows["rows"] += rows
        self.reference_rows["float64"] += rows - reference.extended_rows
        self.reference_rows["extended"] += reference.extended_rows - reference.mpmath_rows
        self.reference_rows["mpmath"] += reference.mpmath_rows
        self.spend("reference", started)
        return prepared

    def _audit(self, prepared: Prepared, cells: int) -> None:
        started = time.perf_counter()
        at_least = int(prepared.loss.name not in self.audited_losses)
        count = audit_batch(prepared, cells=cells, at_least=at_least)
        self.reference_rows["audited"] += count
        if count:
            self.audited_losses.add(prepared.loss.name)
        self.spend("audit", started)

    def _measure_loss(self, prepared: Prepared, cells: list[CellResult]) -> None:
        """Run a batch through the cells of one loss, all modes of a path side by side."""
        for _, group in itertools.groupby(cells, key=_path_and_device):
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
            self.runners[name] = CellRunner(result.cell, result.documented)
        started = time.perf_counter()
        try:
            outcome = outcome_of(self.runners[name], prepared)
        except UnavailableError as error:
            if result.summary.rows or _runs(self.runners[name]):
                result.refuse(self.runners[name], prepared, error)
            else:
                result.unavailable = str(error)
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
                outcome.measurement,
                outcome.observed.loss,
                outcome.prepared.conditions,
                outcome.rounding,
            )
            result.keep_worst(outcome)
        self.spend("measure", started)


def _runs(runner: CellRunner) -> bool:
    """Whether a cell runs on a tame batch, so that its path is there and refused another one."""
    try:
        runner.run(*tame_batch(runner.cell))
    except UnavailableError:
        return False
    return True


def _path_and_device(result: CellResult) -> tuple[Any, ...]:
    return result.cell.path.name, result.cell.device
