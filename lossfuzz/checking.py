"""One call for a test: does a loss compute what it should, in these formats and modes?"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_findings
from lossfuzz.fitting import Fitted, fitted
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.cells import MODES
from lossfuzz.harness.findings import DEFECT, KINDS, Finding
from lossfuzz.harness.formats import FloatFormat, training_format
from lossfuzz.harness.losses.targets import BY_CLASS
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.results import CellResult, RunResult, worst_findings
from lossfuzz.mathematics import spec_of
from lossfuzz.measuring import Measuring
from lossfuzz.observers import OBSERVERS
from lossfuzz.plan import Plan
from lossfuzz.reports import assertion
from lossfuzz.search import Searches
from lossfuzz.shrinking import shrunk
from lossfuzz.strategies.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.strategies.recipes import Recipe

CHECK_SHAPES: tuple[tuple[int, ...], ...] = (
    (256, 10),
    (8, 16, 257),
    (4, 32000),
    (4096, 2),
)
"""What a check runs: few and many rows, [batch, time, classes], and a large vocabulary."""

DEAR_SHAPES: tuple[tuple[int, ...], ...] = ((128, 10), (4, 8, 33), (2048, 2), (4, 1025))
"""The same for losses whose exact values take longer: of sigmoids, and of users' formulas."""

CHECK_ROWS = 20_000
"""Rows per cell, rounded up to whole batches."""

_WIDE = 1000
_WIDE_FAMILIES = ("large_labels", "constant", "long_tail", "ties", "normal", "equal_rows")
"""What a large vocabulary adds to few classes: sums and labels; the other families come later."""


class LossDefect(AssertionError):  # noqa: N818 - a test that fails is no error of the program
    """A loss has a defect; the message shows the minimal row.

    Attributes:
        finding: the one that the message shows.
        result: everything that was measured until then.
    """

    def __init__(self, message: str, finding: Finding, result: RunResult) -> None:
        super().__init__(message)
        self.finding, self.result = finding, result


class LossRefusal(AssertionError):  # noqa: N818 - the same
    """A loss cannot be measured: it raises, or returns what no loss can be.

    Attributes:
        result: its cells, with what each of them said.
    """

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


def check(
    loss: Callable[..., Any],
    against: str | LossSpec | Callable[..., Any],
    *,
    formats: Sequence[str | FloatFormat] = ("float32", "float16", "bfloat16"),
    modes: Sequence[str] = MODES,
    device: str = "CPU:0",
    reduction: str | None = None,
    rows: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    shapes: Sequence[tuple[int, ...]] | None = None,
    families: Sequence[str] = tuple(FAMILIES),
    stop_early: bool = True,
) -> RunResult:
    """Run a loss on extreme logits and compare it with exact values; returns if it is sound.

    The first mode is tried on every family before the others are, and the first defect ends the
    check: it is made small and raised. The same arguments find the same row again.

    Args:
        loss: ``(logits, labels) -> losses`` on TensorFlow's tensors, see `own_path`.
        against: what it is to compute: a name such as ``softmax-cross-entropy``, a `LossSpec`, or
            a formula ``(x, logits, label)``, see `formula`.
        formats: of the logits: float32, float16, bfloat16.
        modes: eager, graph, xla.
        device: of TensorFlow.
        reduction: of a loss that returns one number for the batch: mean, sum, weighted mean
            (the sum of w l, divided by the rows) or mean with sample weight (divided by the sum
            of w); the weights are `sample_weights`.
        rows: budget per cell; 20,000 unless seconds are given.
        seconds: budget of the whole check, in seconds.
        seed: of the rows.
        shapes: of the batches, classes last; by default `CHECK_SHAPES`, or `DEAR_SHAPES`. The
            loss must take each of them, or is refused; but by default, and of [batch, time,
            classes] beside [rows, classes], what it takes is found out: [rows, classes] only, one
            number of classes only, or a loss of every element. It is judged there, and the
            result's ``notes`` say so.
        families: of the logits, by name.
        stop_early: whether the first defect, or the first cell that cannot be run, ends the
            check; without, its whole budget is measured before it is judged.

    Raises:
        LossDefect: it has a defect.
        LossRefusal: a cell cannot be run: it raises, has no gradient, returns the wrong shape or
            dtype, or not the same twice. Or the loss was not meant to be called so: it is right
            with its arguments exchanged, on probabilities, or on other labels; or the loss of a
            row changes with other rows.
        FormulaError: the formula it is held against cannot be evaluated.
        ValueError: an argument is not known; the message lists what is.
        BackendError: TensorFlow or the device is missing.
    """
    spec = spec_of(against, reduction)
    plan = Plan(
        paths=(own_path(loss, spec),),
        formats=tuple(training_format(one) for one in formats),
        modes=tuple(modes),
        families=tuple(families),
        shapes=_shapes(spec) if shapes is None else tuple(tuple(shape) for shape in shapes),
        rows=CHECK_ROWS if rows is None and seconds is None else rows,
        seconds=seconds,
        seed=seed,
    )
    __tracebackhide__ = True
    started = time.perf_counter()
    tf = start_tensorflow()
    plan = replace(plan, devices=(device_named(tf, device),))
    fit = fitted(plan, chosen=shapes is not None, device=plan.devices[0])
    session = _Check(fit, stop_early=stop_early)
    session.measuring.spend("start", started)
    if not fit.refusal:
        session.measure(started)
    result = session.result({"versions": versions(), "devices": devices(tf)})
    for observe in OBSERVERS:
        observe(result, time.perf_counter() - started)
    unavailable = [one for one in session.cells if one.unavailable is not None]
    if unavailable:
        raise LossRefusal(assertion.refused(unavailable, session.cells), result)
    if result.worst and result.worst[0].tier == DEFECT:
        again = f"lossfuzz.check(…, seed={seed})"
        message = assertion.failure(
            result.worst[0], _others(session.cells, result.worst[0]), again, result.notes
        )
        raise LossDefect(message, result.worst[0], result)
    return result


class _Check:
    """The state of one check."""

    def __init__(self, fit: Fitted, *, stop_early: bool) -> None:
        self.plan, self.stop_early, self._notes = fit.plan, stop_early, fit.notes
        self.cells = [CellResult(cell) for cell in self.plan.cells()]
        self.measuring = Measuring(shapes=self.plan.shapes)
        for one in self.cells:
            if one.cell == fit.refused:
                one.unavailable = fit.refusal

    def measure(self, started: float) -> None:
        """Run rounds, a batch of every format each, until a defect or the end of the budget."""
        deadline = started + (self.plan.seconds or math.inf)
        tried: set[str] = set()
        searches = Searches(self.plan, self.cells)
        for number, cells, recipes in self._rounds():
            new = [one for one in cells if one.cell.name not in tried]
            tried |= {one.cell.name for one in new}
            self.measuring.find_routes(new)
            enough = any if self.stop_early else all
            if enough(one.unavailable is not None for one in cells):
                return
            if number is None:
                for recipe in recipes:
                    self.measuring.measure_batch(recipe, cells)
            else:
                self._measure_and_search(number, recipes, searches)
            if (self.stop_early and self._defects()) or time.perf_counter() > deadline:
                return

    def _measure_and_search(
        self, number: int, recipes: tuple[Recipe, ...], searches: Searches
    ) -> None:
        searches.start(number)
        for recipe in recipes:
            self.measuring.measure_batch(recipe, self.cells, learn=searches.learn)
            for mutant, cells in searches.mutants(recipe.format, number):
                self.measuring.measure_batch(mutant, cells, learn=searches.learn, counted=False)

    def _rounds(self) -> Iterator[tuple[int | None, list[CellResult], tuple[Recipe, ...]]]:
        """First sweeps of the first mode over every family, then the plan in all modes.

        The plan's rounds are numbered.
        """
        first = [one for one in self.cells if one.cell.mode == self.plan.modes[0]]
        if len(self.plan.modes) > 1:
            for shape in self.plan.shapes:
                telling = [name for name in _WIDE_FAMILIES if name in self.plan.families]
                families = tuple(telling) if shape[-1] >= _WIDE and telling else self.plan.families
                sweep = replace(
                    self.plan,
                    families=families,
                    shapes=(shape,),
                    rows=len(families) * math.prod(shape[:-1]),
                    seconds=None,
                )
                for recipes in _side_by_side(sweep):
                    yield None, first, recipes
        for number, recipes in enumerate(_side_by_side(self.plan)):
            yield number, self.cells, recipes

    def _defects(self) -> list[Finding]:
        return [one for cell in self.cells for one in cell.findings.values() if one.tier == DEFECT]

    def result(self, environment: dict[str, Any]) -> RunResult:
        """What was found, its worst defect made small; audited."""
        worst = worst_findings(self.cells)
        by_name = {one.cell.name: one for one in self.cells}
        if worst and worst[0].tier == DEFECT:
            finding = min((one for one in worst if one.tier == DEFECT), key=_telling)
            runner = self.measuring.runner(by_name[finding.cell_name])
            worst = [shrunk(finding, runner), *(one for one in worst if one is not finding)]
        audit_findings([*worst, *self._defects()])
        return RunResult(
            plan=self.plan.to_json(),
            environment=environment,
            cells=self.cells,
            worst=worst,
            notes=self._notes,
            interrupted=False,
            reference_rows=self.measuring.reference_rows,
            seconds=self.measuring.seconds,
        )


def _telling(finding: Finding) -> int:
    """Kinds in the order of `KINDS`: what is not finite tells most."""
    return list(KINDS).index(finding.kind)


def _others(cells: Sequence[CellResult], shown: Finding) -> list[Finding]:
    """The defects of other cells and kinds than the one that is shown."""
    return [
        one
        for cell in cells
        for one in cell.findings.values()
        if one.tier == DEFECT and (one.kind, one.cell_name) != (shown.kind, shown.cell_name)
    ]


def _shapes(spec: LossSpec) -> tuple[tuple[int, ...], ...]:
    dear = spec.target in BY_CLASS or (spec.base or spec).derived is not None
    return DEAR_SHAPES if dear else CHECK_SHAPES


def _side_by_side(plan: Plan) -> Iterator[tuple[Recipe, ...]]:
    """The plan's recipes, one of every format at a time."""
    return itertools.zip_longest(*(plan.recipes(fmt) for fmt in plan.formats))
