"""Measuring cells on recipes: batch by batch, one loss after the other, all modes side by side."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_batch
from lossfuzz.harness.measuring.measure import disagreements
from lossfuzz.harness.measuring.outcome import Outcome, outcome_of, refusal_of
from lossfuzz.harness.measuring.policy import has_policy, may_not_end, policy_of
from lossfuzz.harness.measuring.prepared import Prepared, prepare
from lossfuzz.harness.measuring.upstream import upstream_finding
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.results.run import NOT_REACHED
from lossfuzz.harness.running.execution import (
    CellRunner,
    TimedOutError,
    UnavailableError,
    own_name,
)
from lossfuzz.harness.running.subject import SubjectRunner
from lossfuzz.harness.running.trial import told_with_shape, try_twice
from lossfuzz.runners import Runners
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.paths.route import Route
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult
    from lossfuzz.harness.running.execution import Observed
    from lossfuzz.strategies.recipes import Batch

Announce = Callable[[str, Recipe | None], None]
"""Told a cell's name before TensorFlow is called for it, and the recipe of the batch, if any.

An empty name says that the call has returned, and that what follows is no path's.
"""

_ENOUGH_ASKED = 64
"""Rows of a family that are asked for their exact values before it is given up."""

Learn = Callable[[Recipe, "CellResult", Outcome], None]
"""Told what a cell did on a recipe's batch."""


class Measuring(Runners):
    """What is kept while cells are measured: their runners, and where rows and time went.

    Attributes:
        reference_rows: kind of reference to rows that it answered for.
        seconds: phase to time.
        deadline: of `time.perf_counter`; no cell is run after it.
        without_value: names of a user's mathematics and of a family none of whose rows has an
            exact value; such families are not asked again.
        overdue: name of a user's function to what is told of its taking too long; it is not
            called again.
    """

    def __init__(
        self,
        announce: Announce | None = None,
        pythons: Mapping[str, str] | None = None,
        shapes: Sequence[tuple[int, ...]] = (),
    ) -> None:
        """Nothing compiled, nothing started.

        Args:
            announce: told of every call of TensorFlow before it is made.
            pythons: name of a subject to its interpreter's program.
            shapes: that cells will run on; a user's own loss is tried on the smallest of them.
        """
        super().__init__(pythons, shapes)
        self.reference_rows = {"rows": 0, "float64": 0, "extended": 0, "mpmath": 0, "audited": 0}
        self.seconds: dict[str, float] = {}
        self.deadline = math.inf
        self.without_value: set[tuple[str, str]] = set()
        self.overdue: dict[str, str] = {}
        self._asked: dict[tuple[str, str], tuple[int, bool]] = {}
        self._announce = announce or (lambda *_: None)
        self._routes: dict[str, Route | str] = {}
        self._audited_losses: set[str] = set()
        self._tried_upstream: set[tuple[str, ...]] = set()
        self._upstream: dict[str, Finding] = {}

    def spend(self, phase: str, started: float) -> None:
        """Book the time since a start under a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def start_task(self) -> None:
        """Forget what would make a task's figures depend on the tasks before it."""
        self._audited_losses.clear()
        self.without_value.clear()
        self._asked.clear()

    def find_routes(self, results: Iterable[CellResult]) -> None:
        """Learn every cell's route; a path that refuses a tame batch is unavailable."""
        started = time.perf_counter()
        for result in results:
            name = result.cell.name
            if name not in self._routes and self.is_over():
                result.unavailable = NOT_REACHED
                continue
            if name not in self._routes:
                self._announce(name, None)
                try:
                    self._routes[name] = self.route(result.cell)
                    self._try(result)
                except UnavailableError as error:
                    self._note_overdue(result.cell, error)
                    self._routes[name] = (
                        told_with_shape(error, result.cell, self._trial_shape)
                        if result.cell.path.own
                        else str(error)
                    )
            found = self._routes[name]
            if isinstance(found, str):
                result.unavailable = found
            else:
                result.route = found
                if name in self._upstream:
                    result.findings[kinds.UPSTREAM_IGNORED, DEFECT] = self._upstream[name]
        self._announce("", None)
        self.spend("routes", started)

    def is_over(self) -> bool:
        """Whether the time for measuring is spent."""
        return time.perf_counter() > self.deadline

    def _try(self, result: CellResult) -> None:
        """Try a user's own loss: does it return the same twice, and mind its upstream gradient?

        The latter is asked once for each format, in the first of its modes.

        Raises:
            UnavailableError: it refuses ordinary rows, or differs between two runs.
        """
        cell, runner = result.cell, self.runner(result)
        if not cell.path.own or not isinstance(runner, CellRunner):
            return
        try_twice(runner, self._trial_shape)
        place = (cell.path.name, cell.format.name, cell.device)
        if place not in self._tried_upstream:
            self._tried_upstream.add(place)
            finding = upstream_finding(runner, self._trial_shape)
            if finding is not None:
                self._upstream[cell.name] = finding

    def measure_batch(
        self,
        recipe: Recipe,
        results: Iterable[CellResult],
        *,
        learn: Learn | None = None,
        counted: bool = True,
    ) -> None:
        """Run a batch through every cell of its format, one loss after the other.

        Args:
            recipe: of the batch.
            results: of cells of any format; those of other formats are left alone.
            learn: told of every outcome.
            counted: whether the batch is one of the plan's, so that it counts in the statistics;
                one of a search adds nothing but findings.
        """
        cells: dict[str, list[CellResult]] = {}
        losses: dict[str, LossSpec] = {}
        for result in results:
            if own_name(result.cell) in self.overdue:
                continue
            if result.cell.format.dtype_name == recipe.format and result.unavailable is None:
                loss = result.cell.path.loss
                cells.setdefault(loss.name, []).append(result)
                losses[loss.name] = loss
        if not cells:
            return
        batch = expand(recipe)
        for name, loss in losses.items():
            if (name, recipe.family) in self.without_value:
                continue
            prepared = self._prepare(
                batch, loss, whole=not any(one.cell.path.own for one in cells[name])
            )
            if (loss.base or loss).derived is not None:
                self._note_value((name, recipe.family), prepared)
            use = _Use(recipe=recipe, learn=learn or (lambda *_: None), counted=counted)
            self._measure_loss(prepared, cells[name], use)
            if counted:  # of a search's rows, those of its findings are audited
                self._audit(prepared, len(cells[name]))

    def _note_value(self, place: tuple[str, str], prepared: Prepared) -> None:
        """Give up a family of which many rows were asked and none has an exact value."""
        judged = prepared.reference.judged
        asked, valued = self._asked.get(place, (0, False))
        self._asked[place] = asked, valued = asked + len(judged), valued or bool(judged.any())
        if asked >= _ENOUGH_ASKED and not valued:
            self.without_value.add(place)

    def _prepare(self, batch: Batch, loss: LossSpec, *, whole: bool) -> Prepared:
        started = time.perf_counter()
        recipe = batch.recipe.to_json()
        prepared = prepare(batch.logits, batch.labels, recipe, loss, whole=whole)
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

    def _measure_loss(self, prepared: Prepared, cells: list[CellResult], use: _Use) -> None:
        """Run a batch through the cells of one loss, all modes of a path side by side."""
        outcomes: list[tuple[CellResult, Outcome]] = []
        for result, observed in self._observed(prepared, cells, use):
            self._announce("", None)
            if observed is not None:
                started = time.perf_counter()
                outcome = outcome_of(self.runner(result), prepared, observed)
                outcomes.append((result, outcome))
                self.spend("measure", started)
        for _, group in itertools.groupby(outcomes, key=lambda pair: _path_and_device(pair[0])):
            self._summarise({result.cell.mode: (result, one) for result, one in group}, use)

    def _observed(
        self, prepared: Prepared, cells: list[CellResult], use: _Use
    ) -> Iterator[tuple[CellResult, Observed | None]]:
        """Run the cells in order; one in another subject runs while the last one is measured."""
        ahead: SubjectRunner | None = None
        for result, following in zip(cells, [*cells[1:], None], strict=True):
            if self.is_over():
                return
            runner = self.runner(result)
            self._announce(result.cell.name, use.recipe)
            try:
                if isinstance(runner, SubjectRunner) and ahead is not runner:
                    runner.submit(prepared.logits, prepared.fed)
                observed = (
                    runner.result()
                    if isinstance(runner, SubjectRunner)
                    else runner.run(prepared.logits, prepared.fed)
                )
            except UnavailableError as error:
                ahead = None
                self._refused(result, prepared, error, use)
                yield result, None
                continue
            self.spend("tensorflow", time.perf_counter() - observed.seconds)
            ahead = self._ahead(following, result, prepared)
            yield result, observed

    def _ahead(
        self, following: CellResult | None, result: CellResult, prepared: Prepared
    ) -> SubjectRunner | None:
        """Start the next cell, if it is of the same subject."""
        if following is None or following.cell.subject != result.cell.subject:
            return None
        runner = self.runner(following)
        if not isinstance(runner, SubjectRunner):
            return None
        try:
            runner.submit(prepared.logits, prepared.fed)
        except UnavailableError:
            return None  # it is submitted again in its turn, and refuses then
        return runner

    def _note_overdue(self, cell: Cell, error: UnavailableError) -> None:
        if isinstance(error, TimedOutError):
            where = f"{cell.format.dtype_name} {cell.mode}"
            self.overdue.setdefault(own_name(cell), f"{error} [{where}]")

    def _refused(
        self, result: CellResult, prepared: Prepared, error: UnavailableError, use: _Use
    ) -> None:
        runner = self.runner(result)
        self._note_overdue(result.cell, error)
        if isinstance(error, TimedOutError) and result.summary.rows:
            if use.counted:
                rows = len(prepared.row_labels)
                result.summary.add_refusal(rows, family=prepared.recipe["family"])
            result.findings[kinds.TIMEOUT, DEFECT] = refusal_of(runner, prepared, error)
        elif result.summary.rows or self._runs(runner):
            told = functools.partial(refusal_of, runner, prepared, error)
            result.refuse(prepared, told, counted=use.counted)
        else:
            result.unavailable = str(error)

    def ask_policy(self, result: CellResult, shape: tuple[int, ...]) -> None:
        """Record what a cell does with logits that have no exact value, where it has a policy."""
        started = time.perf_counter()
        path = result.cell.path
        runner = self.runner(result)
        if has_policy(path.loss) and not path.trained and isinstance(runner, CellRunner):
            self._announce(result.cell.name, None)
            if not may_not_end(runner, shape):
                result.policy = policy_of(runner, shape)
            self._announce("", None)
        self.spend("policy", started)

    def _summarise(self, outcomes: dict[str, tuple[CellResult, Outcome]], use: _Use) -> None:
        started = time.perf_counter()
        apart = disagreements({mode: one.measurement for mode, (_, one) in outcomes.items()})
        for mode, (result, outcome) in outcomes.items():
            outcome.measurement.defects[kinds.MODE_DISAGREEMENT] = apart[mode]
            if use.counted:
                result.summary.add(
                    outcome.measurement,
                    outcome.observed.loss,
                    outcome.prepared.conditions,
                    outcome.rounding,
                    family=outcome.prepared.recipe["family"],
                )
            else:
                result.searched += len(outcome.measurement.judged)
            use.learn(use.recipe, result, outcome)
            result.keep_worst(outcome)
        self.spend("measure", started)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """What a batch is run for."""

    recipe: Recipe
    learn: Learn
    counted: bool


def _path_and_device(result: CellResult) -> tuple[Any, ...]:
    return result.cell.path.name, result.cell.device
