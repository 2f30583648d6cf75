"""The second referee: the same values by Arb's ball arithmetic (Johansson 2017), independently.

Nothing is shared with the mpmath reference but the final integer rounding. The formulas are the
textbook ones, cancellation and all,

    loss = log(sum_k exp(x_k - m)) + (m - x_y),   dloss/dx_j = softmax_j - [j = y],

with the enclosure that Arb certifies itself, at a precision that is raised until it decides. An
exponential below 2**-1400 is given as a ball around 2**-1300 that excludes 0: it is known to be
positive, and no format sees more of it (see `exact` for the argument).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

from lossfuzz.harness.exact.rounded import RoundedRow
from lossfuzz.harness.numbers.ulp import round_scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat

_FIRST_PRECISION = 256
_LAST_PRECISION = 1 << 14
_VANISHING_DIFFERENCE = -1400 * math.log(2)


def arb_rounded_row(
    logits: NDArray[np.float64], label: int, formats: Sequence[FloatFormat]
) -> RoundedRow:
    """Loss and gradient of one row, correctly rounded to each of the formats, by Arb.

    Args:
        logits: shape ``[classes]``, finite or -inf, finite at the label.
        label: index of the true class.
        formats: what to round to.

    Raises:
        ArithmeticError: the rounding is undecided at the highest precision.
    """
    values = logits.tolist()
    precision = _FIRST_PRECISION
    while precision <= _LAST_PRECISION:
        with ctx.workprec(precision):
            loss, gradient = _enclose(values, label)
            rows = [_decide(ball, formats) for ball in (loss, *gradient)]
        if all(row is not None for row in rows):
            decided = [row for row in rows if row is not None]
            return RoundedRow(
                loss=dict(zip(formats, decided[0], strict=True)),
                gradient={
                    fmt: np.array([row[index] for row in decided[1:]])
                    for index, fmt in enumerate(formats)
                },
            )
        precision *= 2
    raise ArithmeticError(f"Arb left logits {values} with label {label} undecided")


def _enclose(values: list[float], label: int) -> tuple[arb, list[arb]]:
    largest = max(values)
    weights = [_exponential(value, largest) for value in values]
    total = sum(weights, arb(0))
    gradient = [weight / total for weight in weights]
    gradient[label] -= 1
    return total.log() + (arb(largest) - arb(values[label])), gradient


def _exponential(value: float, largest: float) -> arb:
    if value == -math.inf:
        return arb(0)
    if value - largest < _VANISHING_DIFFERENCE:
        return arb(arb(2) ** -1300, arb(2) ** -1301)
    return (arb(value) - arb(largest)).exp()


def _decide(ball: Any, formats: Sequence[FloatFormat]) -> list[float] | None:
    if not ball.is_finite():
        return None
    lower, upper = ball.lower(), ball.upper()
    ends = [[_round(end, fmt) for fmt in formats] for end in (lower, upper)]
    return ends[0] if ends[0] == ends[1] else None


def _round(end: Any, fmt: FloatFormat) -> float:
    mantissa, exponent = (int(part) for part in end.man_exp())
    if mantissa == 0:
        return 0.0
    return math.copysign(round_scaled(abs(mantissa), exponent, fmt), 1 if mantissa > 0 else -1)
