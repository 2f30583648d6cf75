"""One call for a test: does a loss compute what it should, in these formats and modes?"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.arguments import (
    device_of,
    families_of,
    formats_of,
    modes_of,
    rows_of,
    seconds_of,
    seed_of,
    shapes_of,
    time_limit_of,
)
from lossfuzz.audit import audit_findings
from lossfuzz.fitting import Fitted, fitted
from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.losses.targets import BY_CLASS
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.kinds import DEFECT, KINDS, TIMEOUT
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.selection import worst_findings
from lossfuzz.harness.running.trial import NOT_DETERMINISTIC
from lossfuzz.harness.users.guarded import USUAL_ERRORS
from lossfuzz.harness.users.time_limit import TIME_LIMIT_SECONDS, limited
from lossfuzz.mathematics import spec_of
from lossfuzz.observers import OBSERVERS
from lossfuzz.plan import Plan
from lossfuzz.reports import assertion
from lossfuzz.reports.notes import not_judged, not_reached, notes
from lossfuzz.rounds import rounds_of
from lossfuzz.session import Session
from lossfuzz.strategies.bounds import checked_bounds
from lossfuzz.strategies.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.results.findings import Finding

SMALL_BATCHES: tuple[tuple[int, ...], ...] = ((1, 3), (3, 5), (7, 3))
"""Batches that no vector register is filled with: kernels end them by their scalar code alone."""

CHECK_SHAPES: tuple[tuple[int, ...], ...] = (
    (256, 10),
    (8, 16, 257),
    (4, 32000),
    (4096, 2),
    (2, 70000),
    *SMALL_BATCHES,
)
"""What a check runs: few and many rows, [batch, time, classes], and large vocabularies; the
largest, which half formats alone are asked, has more classes than float16 has integers."""

DEAR_SHAPES: tuple[tuple[int, ...], ...] = (
    (128, 10),
    (4, 8, 33),
    (2048, 2),
    (4, 1025),
    (1, 70000),
    *SMALL_BATCHES,
)
"""The same for losses whose exact values take longer: of sigmoids, and of users' formulas."""

CHECK_ROWS = 20_000
"""Rows per cell after the sweeps, rounded up to whole batches."""

_MEASURING = 0.7
"""The share of a budget in seconds for measuring; the rest is for making a finding small."""


class LossDefect(AssertionError):  # noqa: N818 - a test that fails is no error of the program
    """A loss has a defect; the message shows the minimal row.

    To run that row again later, or elsewhere, write ``json.dumps(defect.finding.to_json())`` to a
    file and give it to ``lossfuzz replay FILE``.

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


class LossNotJudged(AssertionError):  # noqa: N818 - the same
    """Too few rows of a loss have an exact value, so that nothing can be said of it.

    Attributes:
        result: its cells, with how many of their rows were judged.
    """

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


class NotReachedWarning(UserWarning):
    """A check's budget did not let it reach all formats and modes; the text names them."""


def check(
    loss: Callable[..., Any],
    against: str | LossSpec | Callable[..., Any],
    *,
    formats: str | FloatFormat | Sequence[str | FloatFormat] = ("float32", "float16", "bfloat16"),
    modes: str | Sequence[str] = MODES,
    device: str = "CPU:0",
    reduction: str | None = None,
    rows: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    shapes: Sequence[tuple[int, ...]] | None = None,
    families: str | Sequence[str] = tuple(FAMILIES),
    bounds: tuple[float, float] | None = None,
    stop_early: bool = True,
    time_limit: float | None = None,
) -> RunResult:
    """Run a loss on extreme logits and compare it with exact values; returns if it is sound.

    Every family is run on every shape, in sweeps, and then again for the budget; the first defect
    ends the check: it is made small and raised. The same arguments find the same row again. The
    result's ``notes`` say what the verdict leaves out: what was not reached, and lost tails.

    Args:
        loss: ``(logits, labels) -> losses`` on TensorFlow's tensors, see `own_path`.
        against: what it is to compute: a name such as ``softmax-cross-entropy``, a `LossSpec`, or
            a formula ``(x, logits, label)``, see `formula`.
        formats: of the logits: float32, float16, bfloat16; or one of them.
        modes: eager, graph, xla; or one of them.
        device: of TensorFlow.
        reduction: of a loss that returns one number for the batch: mean, sum, weighted mean
            (the sum of w l, divided by the rows) or mean with sample weight (divided by the sum
            of w); the weights are `sample_weights`.
        rows: budget per cell after the sweeps; 20,000 unless seconds are given.
        seconds: budget of the whole check, in seconds, after TensorFlow's start; the shrinking of
            a defect is included. What was not reached in it is warned of.
        seed: of the rows.
        shapes: of the batches, classes last; by default `CHECK_SHAPES`, or `DEAR_SHAPES`. The
            loss must take each of them, or is refused; but by default, and of [batch, time,
            classes] beside [rows, classes], what it takes is found out: [rows, classes] only, one
            number of classes only, or a loss of every element. It is judged there, and the
            result's ``notes`` say so.
        families: of the logits, by name; or one of them.
        bounds: the interval that all logits lie in, such as (-1, 1) for cosines; by default any.
        stop_early: whether the first defect ends the check; without, its whole budget is measured
            before it is judged.
        time_limit: seconds that one call of the loss, or of a formula, may take, tracing and
            compiling included; by default 300, or the whole budget in seconds if that is more. A
            call that takes longer is interrupted and the loss refused; a loop in Python is, and a
            graph's. What TensorFlow cannot cancel, such as a loop that XLA compiled, ends the
            process after some seconds more, with exit code 124 and one line on standard error.
            What keeps Python's lock for good, inside a function written in C, is not reached.

    Whatever the loss does, afterwards NumPy's error state, the working folder, the standard
    streams, Keras's policy and the like are what they were before each of its calls.

    Raises:
        LossDefect: it has a defect.
        LossRefusal: it has none where it runs, and a cell cannot be run: it raises, has no
            gradient, returns the wrong shape or dtype, or not the same twice. Or the loss was not
            meant to be called so: it is right with its arguments exchanged, on probabilities, or
            on other labels; or the loss of a row changes with other rows. Or a call of it took
            longer than its time limit.
        LossNotJudged: fewer than 5 % of a cell's rows have an exact value.
        FormulaError: the formula it is held against cannot be evaluated.
        ValueError: an argument is not known; the message lists what is.
        TypeError: an argument is of another kind than it should be, such as a class of losses.
        BackendError: TensorFlow or the device is missing.
    """
    __tracebackhide__ = True
    budget = seconds_of(seconds)
    limit = time_limit_of(time_limit, budget, TIME_LIMIT_SECONDS)
    with limited(limit), np.errstate(**USUAL_ERRORS):
        spec = spec_of(against, reduction)
        given = None if bounds is None else checked_bounds(bounds)
        plan = Plan(
            paths=(own_path(loss, spec, bounds=given),),
            formats=formats_of(formats),
            modes=modes_of(modes),
            families=families_of(families),
            shapes=_shapes(spec) if shapes is None else shapes_of(shapes),
            rows=CHECK_ROWS if rows is None and seconds is None else rows_of(rows),
            seconds=budget,
            seed=seed_of(seed),
            bounds=given,
        )
        device = device_of(device)
        started = time.perf_counter()
        tf = start_tensorflow()
        plan = replace(plan, devices=(device_named(tf, device),))
        budget_from = time.perf_counter()
        fit = fitted(plan, chosen=shapes is not None, device=plan.devices[0])
        session = _Check(fit, stop_early=stop_early)
        session.start_budget(_MEASURING, budget_from)
        session.measuring.spend("start", started)
        if not fit.refusal:
            session.measure(rounds_of(session.plan))
        result = session.result({"versions": versions(), "devices": devices(tf)})
        for observe in OBSERVERS:
            observe(result, time.perf_counter() - started)
        _raise_for(result, session, seed)
        return result


def _raise_for(result: RunResult, session: _Check, seed: int) -> None:
    """Raise what a check's result comes to, if that is not that its loss is sound."""
    __tracebackhide__ = True
    cells = session.cells
    unavailable = [one for one in cells if one.unavailable is not None and not one.was_not_tried]
    refused = assertion.refused(unavailable, cells)
    overdue = "\n".join(session.measuring.overdue.values())
    refused = overdue or refused
    if session.is_random():
        raise LossRefusal(refused, result)
    if result.worst and result.worst[0].tier == DEFECT and result.worst[0].kind != TIMEOUT:
        again = f"lossfuzz.check(…, seed={seed})"
        shown = result.worst[0]
        message = assertion.failure(shown, _others(cells, shown), again, session.told)
        raise LossDefect(f"{message}\n{refused}" if refused else message, shown, result)
    if refused:
        raise LossRefusal(refused, result)
    told = "; ".join(result.notes)
    if not_judged(cells) or not any(one.summary.judged for one in cells):
        raise LossNotJudged(f"{cells[0].cell.path.name}: {told}", result)
    if not_reached(cells):
        warnings.warn(told, NotReachedWarning, stacklevel=3)


class _Check(Session):
    """The state of one check."""

    def __init__(self, fit: Fitted, *, stop_early: bool) -> None:
        super().__init__(fit.plan)
        self.stop_early, self.told = stop_early, fit.notes
        for one in self.cells:
            if one.cell == fit.refused:
                one.unavailable = fit.refusal

    def is_over(self) -> bool:
        """Whether the budget is spent, or the loss took too long."""
        return self.measuring.is_over() or bool(self.measuring.overdue)

    def is_hopeless(self) -> bool:
        """Whether nothing can be run, or what can be is random."""
        nothing_runs = all(cell.unavailable is not None for cell in self.cells)
        return nothing_runs or self.is_random() or bool(self.measuring.overdue)

    def has_enough(self) -> bool:
        """Whether there is a defect, which may end the check."""
        return self.stop_early and bool(self._defects())

    def is_random(self) -> bool:
        """Whether a cell did not return the same twice, so that no result of the loss tells."""
        return any(NOT_DETERMINISTIC in (one.unavailable or "") for one in self.cells)

    def _defects(self) -> list[Finding]:
        return [one for cell in self.cells for one in cell.findings.values() if one.tier == DEFECT]

    def result(self, environment: dict[str, Any]) -> RunResult:
        """What was found, its worst defect made small; audited."""
        worst = worst_findings(self.cells)
        if worst and worst[0].tier == DEFECT:
            finding = min((one for one in worst if one.tier == DEFECT), key=_telling)
            small = self.small(finding, self.deadline)
            worst = [small, *(one for one in worst if one is not finding)]
        else:
            self.ask_policies()
        audit_findings([*worst, *self._defects()], deadline=self.deadline)
        families = {family for _, family in self.measuring.without_value}
        return RunResult(
            plan=self.plan.to_json(),
            environment=environment,
            cells=self.cells,
            worst=worst,
            interrupted=False,
            reference_rows=self.measuring.reference_rows,
            seconds=self.measuring.seconds,
            notes=(*self.told, *notes(self.cells, families)),
        )


def _telling(finding: Finding) -> int:
    """Kinds in the order of `KINDS`: what is not finite tells most, and a time limit nothing."""
    return list(KINDS).index(finding.kind) if finding.kind != TIMEOUT else len(KINDS)


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
