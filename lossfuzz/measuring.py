"""Measuring cells on recipes: batch by batch, one loss after the other, all modes side by side."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_batch
from lossfuzz.harness import findings as kinds
from lossfuzz.harness.execution import CellRunner, UnavailableError
from lossfuzz.harness.measure import disagreements
from lossfuzz.harness.outcome import Outcome, outcome_of
from lossfuzz.harness.prepared import Prepared, prepare
from lossfuzz.harness.routes import route_of, tame_batch
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.results import CellResult
    from lossfuzz.harness.routes import Route
    from lossfuzz.strategies.recipes import Batch

Announce = Callable[[str, Recipe | None], None]
"""Told a cell's name before TensorFlow is called for it, and the recipe of the batch, if any."""


class Measuring:
    """What is kept while cells are measured: their runners, and where rows and time went.

    Attributes:
        reference_rows: kind of reference to rows that it answered for.
        seconds: phase to time.
    """

    def __init__(self, announce: Announce | None = None) -> None:
        self.reference_rows = {"rows": 0, "float64": 0, "extended": 0, "mpmath": 0, "audited": 0}
        self.seconds: dict[str, float] = {}
        self._announce = announce or (lambda *_: None)
        self._runners: dict[str, CellRunner] = {}
        self._routes: dict[str, Route | str] = {}
        self._audited_losses: set[str] = set()

    def spend(self, phase: str, started: float) -> None:
        """Book the time since a start under a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def start_task(self) -> None:
        """Forget what would make a task's figures depend on the tasks before it."""
        self._audited_losses.clear()

    def find_routes(self, results: Iterable[CellResult]) -> None:
        """Learn every cell's route; a path that refuses a tame batch is unavailable."""
        started = time.perf_counter()
        for result in results:
            name = result.cell.name
            if name not in self._routes:
                self._announce(name, None)
                try:
                    self._routes[name] = route_of(result.cell)
                except UnavailableError as error:
                    self._routes[name] = str(error)
            found = self._routes[name]
            if isinstance(found, str):
                result.unavailable = found
            else:
                result.route = found
        self.spend("routes", started)

    def measure_batch(self, recipe: Recipe, results: Iterable[CellResult]) -> None:
        """Run a batch through every cell of its format, one loss after the other."""
        batch = expand(recipe)
        cells: dict[str, list[CellResult]] = {}
        losses: dict[str, LossSpec] = {}
        for result in results:
            if result.cell.format.dtype_name == recipe.format and result.unavailable is None:
                loss = result.cell.path.loss
                cells.setdefault(loss.name, []).append(result)
                losses[loss.name] = loss
        for name, loss in losses.items():
            prepared = self._prepare(batch, loss)
            self._measure_loss(prepared, cells[name], recipe)
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
        at_least = int(prepared.loss.name not in self._audited_losses)
        count = audit_batch(prepared, cells=cells, at_least=at_least)
        self.reference_rows["audited"] += count
        if count:
            self._audited_losses.add(prepared.loss.name)
        self.spend("audit", started)

    def _measure_loss(self, prepared: Prepared, cells: list[CellResult], recipe: Recipe) -> None:
        """Run a batch through the cells of one loss, all modes of a path side by side."""
        for _, group in itertools.groupby(cells, key=_path_and_device):
            outcomes = {}
            for result in group:
                outcome = self._run_cell(result, prepared, recipe)
                if outcome is not None:
                    outcomes[result.cell.mode] = (result, outcome)
            if outcomes:
                self._summarise(outcomes)

    def _run_cell(self, result: CellResult, prepared: Prepared, recipe: Recipe) -> Outcome | None:
        name = result.cell.name
        self._announce(name, recipe)
        if name not in self._runners:
            self._runners[name] = CellRunner(result.cell, result.documented)
        started = time.perf_counter()
        try:
            outcome = outcome_of(self._runners[name], prepared)
        except UnavailableError as error:
            if result.summary.rows or _runs(self._runners[name]):
                result.refuse(self._runners[name], prepared, error)
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
