"""Correctly rounded loss and gradient of one row, by mpmath with rising precision (Ziv 1991).

The row is evaluated at some precision, with a bound on the relative error; when both ends of the
enclosure round to the same number of every wanted format, that number is the correct rounding;
else the precision is doubled.

It terminates, since no value lies on a rounding boundary except where `_rational_gradient`
answers: by the theorem of Lindemann and Weierstrass, exponentials of distinct rationals are
linearly independent over the algebraic numbers, so a softmax component is rational only if all
unmasked logits are equal, and the loss is algebraic only if one class is unmasked.

How long it takes is bounded by a floor: an exponential below 2**-1300 is replaced by 2**-1300.
Every value is monotone in it, and the rounding boundaries of all formats are multiples of
2**-1076, so what counts is only that it is positive: it moves a value off a boundary that the
other terms hit exactly (a rational value, which lies on a boundary or at least
2**-1076 / classes away from it), to the same side as the true exponential does. Without the
floor, 34960 + log1p(exp(-34960)), a tie of binary16, would need 50,437 bits, and rows near the
end of binary32 more than there are atoms.

The error bound: differences are exact; mpmath's exp, log1p and division err by less than 2 units
in the last bit, its fsum by one. All terms are positive, so relative errors add: fewer than 16
units for any number of classes, of which `_GUARD_UNITS` is the double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY, evaluate_row
from lossfuzz.harness.numbers.ulp import correctly_rounded, round_scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat

    Rounded = dict[FloatFormat, float]

_FIRST_PRECISION = 96
_LAST_PRECISION = 1 << 14
_FLOOR_EXPONENT = -1300
_GUARD_UNITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedRow:
    """Correctly rounded loss and gradient of one row, once per format.

    Attributes:
        loss: format to loss.
        gradient: format to gradient, shape ``[classes]``, numbers of the format in float64.
    """

    loss: dict[FloatFormat, float]
    gradient: dict[FloatFormat, NDArray[np.float64]]


class _MpmathArithmetic:
    """The operations of a loss in an mpmath context of its own."""

    def __init__(self, precision: int) -> None:
        self._context = mpmath.MPContext()
        self._context.prec = precision
        self._floor = self._context.ldexp(1, _FLOOR_EXPONENT)

    def number(self, value: float) -> Any:
        return self._context.mpf(value)

    def subtract(self, left: Any, right: Any) -> Any:
        return self._context.fsub(left, right, exact=True)

    def exp(self, value: Any) -> Any:
        return max(self._context.exp(value), self._floor)

    def log1p(self, value: Any) -> Any:
        return self._context.log1p(value)

    def sum(self, values: Sequence[Any]) -> Any:
        return self._context.fsum(values)

    def divide(self, left: Any, right: Any) -> Any:
        return self._context.fdiv(left, right)


@cache
def _arithmetic(precision: int) -> _MpmathArithmetic:
    return _MpmathArithmetic(precision)


def has_exact_value(logits: NDArray[np.float64], label: int) -> bool:
    """Whether the loss of a row exists and is finite: see the loss's ``domain``."""
    in_domain = not (np.isnan(logits).any() or np.isposinf(logits).any())
    return bool(in_domain and np.isfinite(logits[label]))


def correctly_rounded_row(
    logits: NDArray[np.float64], label: int, formats: Sequence[FloatFormat]
) -> RoundedRow:
    """Loss and gradient of one row, correctly rounded to each of the formats.

    Args:
        logits: shape ``[classes]``; -inf masks a class, whose gradient is 0.
        label: index of the true class.
        formats: what to round to, up to binary64.

    Raises:
        ValueError: the row has no exact value.
    """
    if not has_exact_value(logits, label):
        raise ValueError(
            f"the row has no exact value: expected {SOFTMAX_CROSS_ENTROPY.domain}; "
            f"got logits {logits.tolist()} with label {label}"
        )
    unmasked = np.flatnonzero(np.isfinite(logits))
    position = int(np.searchsorted(unmasked, label))
    loss, gradient = _round_values(logits[unmasked].tolist(), position, formats)
    full = {fmt: np.zeros(logits.size) for fmt in formats}
    for fmt in formats:
        full[fmt][unmasked] = [component[fmt] for component in gradient]
    return RoundedRow(loss=loss, gradient=full)


def _round_values(
    values: list[float], label: int, formats: Sequence[FloatFormat]
) -> tuple[Rounded, list[Rounded]]:
    rational = _rational_gradient(values, label, formats)
    precision = _FIRST_PRECISION
    while precision <= _LAST_PRECISION:
        arithmetic = _arithmetic(precision)
        loss, gradient = evaluate_row(
            [arithmetic.number(value) for value in values], label, arithmetic
        )
        rounded_loss = _decide(loss, precision, formats)
        rounded = rational or _decide_all(gradient, precision, formats)
        if rounded_loss is not None and rounded is not None:
            return rounded_loss, rounded
        precision *= 2
    raise ArithmeticError(
        f"rounding undecided at {_LAST_PRECISION} bits for logits {values} with label {label}"
    )


def _rational_gradient(
    values: list[float], label: int, formats: Sequence[FloatFormat]
) -> list[Rounded] | None:
    if min(values) != max(values):
        return None
    softmax = Fraction(1, len(values))
    return [
        {fmt: correctly_rounded(softmax - (k == label), fmt) for fmt in formats}
        for k in range(len(values))
    ]


def _decide_all(
    values: list[Any], precision: int, formats: Sequence[FloatFormat]
) -> list[Rounded] | None:
    decided = []
    for value in values:
        rounded = _decide(value, precision, formats)
        if rounded is None:
            return None
        decided.append(rounded)
    return decided


def _decide(value: Any, precision: int, formats: Sequence[FloatFormat]) -> Rounded | None:
    """The roundings of an enclosed value to all formats, or None where one is undecided."""
    sign, mantissa, exponent, _ = value._mpf_
    if mantissa == 0:
        return dict.fromkeys(formats, 0.0)
    shift = precision + 8 - int(mantissa).bit_length()  # so that the slack is a whole number
    scaled = int(mantissa) << max(shift, 0)
    slack = (scaled * _GUARD_UNITS >> precision) + 1
    rounded = {}
    for fmt in formats:
        lower = round_scaled(scaled - slack, int(exponent) - max(shift, 0), fmt)
        if lower != round_scaled(scaled + slack, int(exponent) - max(shift, 0), fmt):
            return None
        rounded[fmt] = math.copysign(lower, -1.0 if sign else 1.0)
    return rounded
