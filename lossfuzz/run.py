"""Carrying out a plan: every recipe through every cell, measured against its reference."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness import findings as kinds
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.cells import Cell
from lossfuzz.harness.execution import CellRunner, Observed, UnavailableError
from lossfuzz.harness.findings import DEFECT, INACCURACY, Finding
from lossfuzz.harness.formats import BINARY32, FloatFormat, format_named, format_of
from lossfuzz.harness.measure import (
    Conditions,
    Measurement,
    conditions_of,
    disagreements,
    measure,
)
from lossfuzz.harness.reference.judge import Reference, reference_of
from lossfuzz.harness.results import CellResult, RunResult, worst_findings
from lossfuzz.harness.routes import route_of
from lossfuzz.strategies.recipes import Batch, Recipe, expand

if TYPE_CHECKING:
    from lossfuzz.plan import Plan

Progress = Callable[[int, int, str], None]
"""Called with batches done, batches in all (0 when time is the budget), and what runs now."""

_ROUTE_LOGITS = [[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]]
_ROUTE_LABELS = [0, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A batch with all that its cells share."""

    batch: Batch
    reference: Reference
    conditions: Conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    observed: Observed
    measurement: Measurement


class _Stopwatch:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def timed(self, phase: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        self.add(phase, time.perf_counter() - start)
        return result


def run(plan: Plan, *, logical_cpus: int = 1, progress: Progress | None = None) -> RunResult:
    """Carry out a plan in this process.

    Args:
        plan: what to run.
        logical_cpus: how many CPU devices TensorFlow shall show.
        progress: told of every batch.

    Raises:
        BackendError: TensorFlow cannot be started, or lacks a device of the plan.
    """
    started = time.perf_counter()
    watch = _Stopwatch()
    tf = watch.timed("start", lambda: start_tensorflow(logical_cpus=logical_cpus))
    chosen = [device_named(tf, name) for name in plan.devices] or devices(tf)
    plan = replace(plan, devices=tuple(dict.fromkeys(chosen)))
    campaign = _Run(plan, watch)
    interrupted = False
    try:
        watch.timed("routes", campaign.find_routes)
        campaign.measure_all(progress or (lambda *_: None))
        watch.timed("reduce", campaign.reduce_findings)
    except KeyboardInterrupt:
        interrupted = True
    watch.add("total", time.perf_counter() - started)
    return RunResult(
        plan=plan.to_json(),
        environment={"versions": versions(), "devices": devices(tf)},
        cells=campaign.results,
        worst=campaign.worst or worst_findings(campaign.results),
        reference_rows=campaign.reference_rows,
        interrupted=interrupted,
        seconds=watch.seconds,
    )


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan, watch: _Stopwatch) -> None:
        self.plan = plan
        self.watch = watch
        self.results = [
            CellResult(Cell(path=path, format=fmt, mode=mode, device=device))
            for path in plan.paths
            for fmt in plan.formats
            for device in plan.devices
            for mode in plan.modes
        ]
        self.runners: dict[int, CellRunner] = {}
        self.worst: list[Finding] = []
        self.reference_rows = {"rows": 0, "float64": 0, "extended": 0, "mpmath": 0}

    def find_routes(self) -> None:
        """Learn every cell's route; a path that refuses a tame batch is unavailable."""
        labels = np.array(_ROUTE_LABELS, np.int32)
        for result in self.results:
            try:
                result.route = route_of(
                    result.cell, result.cell.format.cast(_ROUTE_LOGITS), labels
                )
            except UnavailableError as error:
                result.unavailable = str(error)

    def reduce_findings(self) -> None:
        """Make the worst finding of each kind small."""
        cells = {result.cell.name: result.cell for result in self.results}
        self.worst = worst_findings(self.results)
        for position, finding in enumerate(self.worst):
            self.worst[position] = reduced(finding, cells[finding.cell_name])

    def measure_all(self, progress: Progress) -> None:
        """Run batches in rounds over the formats, until the budget is spent."""
        deadline = time.perf_counter() + (self.plan.seconds or math.inf)
        total = self.plan.batches() or 0
        streams = zip(*(self.plan.recipes(fmt) for fmt in self.plan.formats), strict=True)
        for done, recipe in enumerate(itertools.chain.from_iterable(streams)):
            if done and time.perf_counter() > deadline:
                break
            progress(done, total, f"{recipe.format} {recipe.family}")
            self._measure_batch(self._prepare(recipe), format_named(recipe.format))
        progress(1, 1, "reducing findings")

    def _prepare(self, recipe: Recipe) -> _Prepared:
        start = time.perf_counter()
        batch = expand(recipe)
        formats = tuple(dict.fromkeys((format_of(batch.logits), BINARY32)))
        reference = reference_of(batch.rows, batch.row_labels, formats)
        count = len(batch.row_labels)
        self.reference_rows["rows"] += count
        self.reference_rows["float64"] += count - reference.extended_rows
        self.reference_rows["extended"] += reference.extended_rows - reference.mpmath_rows
        self.reference_rows["mpmath"] += reference.mpmath_rows
        conditions = conditions_of(batch.rows, batch.row_labels, reference)
        self.watch.add("reference", time.perf_counter() - start)
        return _Prepared(batch=batch, reference=reference, conditions=conditions)

    def _measure_batch(self, prepared: _Prepared, fmt: FloatFormat) -> None:
        group: dict[str, tuple[CellResult, _Outcome]] = {}
        previous: tuple[str, str] | None = None
        for index, result in enumerate(self.results):
            if result.cell.format != fmt or result.unavailable is not None:
                continue
            key = (result.cell.path.name, result.cell.device)
            if key != previous:
                self._close_group(group, prepared)
                group, previous = {}, key
            outcome = self._run_cell(index, result, prepared)
            if outcome is not None:
                group[result.cell.mode] = (result, outcome)
        self._close_group(group, prepared)

    def _run_cell(self, index: int, result: CellResult, prepared: _Prepared) -> _Outcome | None:
        batch = prepared.batch
        if index not in self.runners:
            self.runners[index] = CellRunner(result.cell)
        try:
            observed = self.runners[index].run(batch.logits, batch.labels)
        except UnavailableError as error:
            result.unavailable = str(error)
            return None
        self.watch.add("tensorflow", observed.seconds)
        measurement = self.watch.timed(
            "measure",
            lambda: measure(
                observed.loss,
                observed.gradient,
                prepared.reference,
                batch.row_labels,
                prepared.conditions,
            ),
        )
        return _Outcome(observed=observed, measurement=measurement)

    def _close_group(
        self, group: dict[str, tuple[CellResult, _Outcome]], prepared: _Prepared
    ) -> None:
        """Summarise the modes of one path on one batch, once all of them are known."""
        if not group:
            return
        start = time.perf_counter()
        apart = disagreements({mode: outcome.measurement for mode, (_, outcome) in group.items()})
        for mode, (result, outcome) in group.items():
            outcome.measurement.defects[kinds.MODE_DISAGREEMENT] = apart[mode]
            result.summary.add(outcome.measurement, outcome.observed.loss, prepared.conditions)
            _keep_findings(result, outcome, prepared)
        self.watch.add("measure", time.perf_counter() - start)


def _keep_findings(result: CellResult, outcome: _Outcome, prepared: _Prepared) -> None:
    measurement = outcome.measurement
    mixed = np.maximum(measurement.loss_mixed, measurement.gradient_mixed.max(axis=1))
    strict = np.maximum(measurement.loss_ulp, measurement.gradient_ulp.max(axis=1))
    for tier, flags in ((DEFECT, measurement.defects), (INACCURACY, measurement.inaccuracies)):
        for kind, flagged in flags.items():
            rows = np.flatnonzero(flagged)
            if rows.size:
                worst = int(rows[(mixed if tier == DEFECT else strict)[rows].argmax()])
                result.keep_worst(_finding(kind, tier, result.cell, outcome, prepared, worst))


def _finding(
    kind: str, tier: str, cell: Cell, outcome: _Outcome, prepared: _Prepared, row: int
) -> Finding:
    batch, reference, measurement = prepared.batch, prepared.reference, outcome.measurement
    observed = outcome.observed
    return Finding(
        kind=kind,
        tier=tier,
        path=cell.path.name,
        format=cell.format.dtype_name,
        mode=cell.mode,
        device=cell.device,
        logits=_floats(batch.rows[row]),
        label=int(batch.row_labels[row]),
        loss_dtype=observed.loss.dtype.name,
        observed_loss=float(observed.loss[row]),
        exact_loss=float(reference.loss[row]),
        observed_gradient=_floats(observed.gradient[row]),
        exact_gradient=_floats(reference.gradient[row]),
        ulp_error=float(max(measurement.loss_ulp[row], measurement.gradient_ulp[row].max())),
        mixed_error=float(max(measurement.loss_mixed[row], measurement.gradient_mixed[row].max())),
        bound=float(measurement.bound),
        margin=float(prepared.conditions.margin[row]),
        recipe=batch.recipe.to_json(),
        row=row,
    )


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(values.astype(np.float64).tolist())
