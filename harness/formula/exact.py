"""The exact loss and gradient of one row by a formula over Arb's balls.

The precision is raised until every ball is narrow. At an exact tie the row is evaluated both
ways: where loss or gradient differ, the formula has no derivative there, and the row no exact
value. Neither has it where the highest precision leaves a ball wide, or where nothing is finite.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

from lossfuzz.harness.exact.series import PRECISIONS, UndecidedError, is_narrow
from lossfuzz.harness.formula.nodes import Node, differentiate
from lossfuzz.harness.formula.rows import RowAlgebra

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lossfuzz.harness.formula.terms import Term

    Function = Callable[[RowAlgebra, Term, NDArray[np.float64]], Term]
    Balls = tuple[arb, list[arb]]

_SAME = 2.0**-100
"""Loss and gradient of the two sides of a tie are equal up to this, relatively and absolutely."""

_TELLING = 1024
"""Bits at which a gradient that still is no number is taken to be none."""

_MOST_WASTED_WORK = 1 << 19
"""Bits times classes beyond which an undecided row is given up: some 50 ms."""


def exact_row(
    evaluate: Function, logits: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]] | None:
    """Loss and gradient to float64, or None where there is no exact value.

    Args:
        evaluate: ``(x, logits, weights) -> loss``; the weights are those of all classes.
        logits: shape ``[classes]``; a class of -inf is left out, and its gradient is 0.
        weights: shape ``[classes]``.
    """
    columns = np.flatnonzero(~np.isneginf(logits)).tolist()
    values = logits[columns].tolist()
    for precision in PRECISIONS:
        if precision * len(columns) > _MOST_WASTED_WORK and precision > PRECISIONS[1]:
            return None
        with ctx.workprec(precision):
            try:
                found, seen = _balls(evaluate, values, columns, weights, upper=False)
                if seen.outside and found[0].is_nan():
                    return None  # and no precision helps
                if not _narrow(found):
                    if (seen.singular or precision >= _TELLING) and _is_unbounded(found):
                        return None
                    continue
                if seen.tied:
                    other, _ = _balls(evaluate, values, columns, weights, upper=True)
                    if not _narrow(other):
                        continue
                    if not _same(found, other):
                        return None
            except UndecidedError:
                continue
            return _floats(found, columns, logits.size)
    return None


def exact_loss(
    evaluate: Function, logits: NDArray[np.float64], weights: NDArray[np.float64]
) -> float | None:
    """The loss alone, to float64, of a row that need not have a derivative; None if it has none.

    Args:
        evaluate: as `exact_row` has it.
        logits: shape ``[classes]``, finite numbers.
        weights: shape ``[classes]``.
    """
    columns = list(range(logits.size))
    for precision in PRECISIONS:
        with ctx.workprec(precision):
            sides = []
            for upper in (False, True):
                algebra = RowAlgebra(columns, weights.size, upper=upper)
                values = [arb(value) for value in logits.tolist()]
                try:
                    found: Any = evaluate(algebra, algebra.vector(values), weights).value[0]
                except UndecidedError:
                    break
                if algebra.outside and found.is_nan():
                    return None  # and no precision helps
                sides.append(found)
            if len(sides) == 2 and all(map(is_narrow, sides)):
                first, second = (float(side.mid()) for side in sides)
                return first if first == second and math.isfinite(first) else None
    return None


def _balls(
    evaluate: Function,
    values: list[float],
    columns: list[int],
    weights: NDArray[np.float64],
    *,
    upper: bool,
) -> tuple[Balls, RowAlgebra]:
    """Loss and gradient, and the algebra, which tells what was met on the way."""
    algebra = RowAlgebra(columns, weights.size, upper=upper)
    tape: list[Node] = []
    logits = [Node(arb(value), tape) for value in values]
    loss: Any = evaluate(algebra, algebra.vector(logits), weights).value[0]
    if not isinstance(loss, Node):
        return (loss, [arb(0)] * len(logits)), algebra
    differentiate(loss)
    gradient = [arb(0) if node.adjoint is None else node.adjoint for node in logits]
    return (loss.value, gradient), algebra


def _narrow(balls: Balls) -> bool:
    return is_narrow(balls[0]) and all(map(is_narrow, balls[1]))


def _is_unbounded(balls: Balls) -> bool:
    """Whether the loss is known and its gradient is no number, as a root's at 0."""
    return is_narrow(balls[0]) and not all(ball.is_finite() for ball in balls[1])


def _same(left: Balls, right: Balls) -> bool:
    pairs = zip([left[0], *left[1]], [right[0], *right[1]], strict=True)
    return all(bool(abs(a - b) < arb(_SAME) * (1 + abs(a))) for a, b in pairs)


def _floats(
    balls: Balls, columns: list[int], classes: int
) -> tuple[float, NDArray[np.float64]] | None:
    gradient = np.zeros(classes)
    gradient[columns] = [float(ball.mid()) for ball in balls[1]]
    loss = float(balls[0].mid())
    return (loss, gradient) if math.isfinite(loss) and np.isfinite(gradient).all() else None
