"""Whether a user's own loss can be measured at all, and on which shapes: tried on tame rows."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.numbers import FLOAT64
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.targets import Targets, targets_of
from lossfuzz.harness.running.execution import TimedOutError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.running.execution import Observed, Runner

_ROWS, _CLASSES = 16, 5
_MOST_LOGITS = 1 << 22
_FORMULA_ROWS = 2
NOT_DETERMINISTIC = "not deterministic"
"""What is said of a loss that does not return the same twice."""

_INSIDE = 0.9
_FEW_ROWS = 8


def trial_shape(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape on which a loss is tried that will run on some shapes.

    It is the smallest of them that has a few rows, since one row alone shows little.
    """
    if not shapes:
        return _ROWS, _CLASSES
    return min(shapes, key=lambda shape: (math.prod(shape[:-1]) < _FEW_ROWS, math.prod(shape)))


def within(values: NDArray[np.float64], bounds: tuple[float, float] | None) -> NDArray[np.float64]:
    """Ordinary numbers, brought well inside an interval if there is one."""
    if bounds is None:
        return values
    low, high = bounds
    if np.isinf(low) or np.isinf(high):
        size = 1 / 4 + np.abs(values)
        return low + size if np.isfinite(low) else high - size if np.isfinite(high) else values
    return np.asarray((low + high) / 2 + _INSIDE * (high - low) / 2 * np.tanh(values / 4))


def trial_rows(
    loss: LossSpec,
    fmt: FloatFormat,
    shape: tuple[int, ...],
    bounds: tuple[float, float] | None = None,
) -> _Rows:
    """Ordinary rows of a shape, always the same, with their targets; fewer of a huge one.

    Args:
        loss: whose targets.
        fmt: of the logits.
        shape: of the logits.
        bounds: the interval that they lie in; None for any.
    """
    first = max(1, min(shape[0], _MOST_LOGITS // max(1, math.prod(shape[1:]))))
    shape = (first, *shape[1:])
    generator = np.random.default_rng(0)
    logits = fmt.cast(within(generator.normal(size=shape) * 2, bounds))
    labels = generator.integers(0, shape[-1], math.prod(shape[:-1])).astype(np.int32)
    return logits, targets_of(loss.target, logits.reshape(-1, shape[-1]), labels)


class Trial:
    """A cell, tried on tame batches; every shape once.

    Attributes:
        runner: of the cell.
        deadline: of `time.perf_counter`; from then on nothing more is tried.
    """

    def __init__(self, runner: Runner, deadline: float = math.inf) -> None:
        self.runner, self.deadline = runner, deadline
        self._refusals: dict[tuple[int, ...], str | None] = {}

    def refusal(self, shape: tuple[int, ...]) -> str | None:
        """What loss or formula says of a tame batch of a shape; None if both take it.

        From the deadline on a shape that was not tried is taken to be taken.
        """
        if shape not in self._refusals:
            if time.perf_counter() > self.deadline:
                return None
            self._refusals[shape] = self._told(shape)
        return self._refusals[shape]

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether the cell's loss, and the formula that it is held against, take a shape."""
        return self.refusal(shape) is None

    def observed(self, shape: tuple[int, ...]) -> Observed:
        """What the cell returns for a tame batch.

        Raises:
            UnavailableError: it refuses it.
        """
        logits, targets = self.rows(shape)
        return self.runner.run(logits, targets.fed(logits.shape, logits.dtype))

    def rows(self, shape: tuple[int, ...]) -> _Rows:
        """The tame batch of a shape."""
        cell = self.runner.cell
        return trial_rows(cell.path.loss, cell.format, shape, cell.path.bounds)

    def _told(self, shape: tuple[int, ...]) -> str | None:
        cell = self.runner.cell
        try:
            evaluate_some(cell.path.loss, cell.format, shape[-1], cell.path.bounds)
            self.observed(shape)
        except FormulaError as error:
            return str(error)
        except UnavailableError as error:
            return told_with_shape(error, cell, shape)
        return None


def told_with_shape(error: UnavailableError, cell: Cell, shape: tuple[int, ...]) -> str:
    """What a cell said of a batch, and what it was given, if it did not say that itself."""
    told = str(error)
    if "(given " in told or not cell.path.own or isinstance(error, TimedOutError):
        return told
    return f"{told} (given logits {cell.format.dtype_name} {list(shape)})"


def evaluate_some(
    loss: LossSpec,
    fmt: FloatFormat,
    classes: int,
    bounds: tuple[float, float] | None = None,
) -> None:
    """Evaluate a user's formula on a few rows of so many classes.

    Raises:
        FormulaError: it does not take them.
    """
    base = loss.base or loss
    if base.derived is None:
        return
    logits, targets = trial_rows(base, fmt, (_FORMULA_ROWS, classes), bounds)
    with np.errstate(all="ignore"):
        base.evaluate(Enclosure.exactly(logits.astype(np.float64), FLOAT64), targets)


def try_twice(runner: Runner, shape: tuple[int, ...] = (_ROWS, _CLASSES)) -> None:
    """Run a cell twice on the same ordinary rows.

    Raises:
        UnavailableError: it refuses them, has no gradient, or does not return the same twice.
    """
    trial = Trial(runner)
    first, second = trial.observed(shape), trial.observed(shape)
    rows = math.prod(shape[:-1])
    for what, one, other in (
        ("losses", first.loss, second.loss),
        ("gradient components", first.gradient, second.gradient),
    ):
        if one.shape != other.shape or one.tobytes() != other.tobytes():
            raise UnavailableError(
                f"{runner.cell.path.written} is {NOT_DETERMINISTIC}: of two runs on the same "
                f"{rows} rows {_difference(one, other, what)} (does it use "
                "dropout, random numbers or a state that it changes?)"
            )


def _difference(one: NDArray[Any], other: NDArray[Any], what: str) -> str:
    if one.shape != other.shape:
        return f"the {what} have shapes {list(one.shape)} and {list(other.shape)}"
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    count = int((apart > 0).sum()) or int((one != other).sum())
    return f"{count} of {one.size} {what} differ, by up to {np.nanmax(apart):.3g}"


_Rows = tuple["NDArray[Any]", Targets]
