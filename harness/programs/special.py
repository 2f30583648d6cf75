"""Functions that Arb has and NumPy has not, for balls and for float64 numbers with radii."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_PRECISION = 80
"""Bits at which float64 numbers go through Arb."""


def _lgamma(value: arb) -> arb:
    """The logarithm of |gamma|, as libraries have it for negative numbers too."""
    if value > 0:
        return value.lgamma()
    return abs(value.gamma()).log()


def _trigamma(value: arb) -> arb:
    if value > 0:
        return arb(2).zeta(value)
    # the reflection formula: trigamma(1 - x) + trigamma(x) = pi^2 / sin(pi x)^2
    return (arb.pi() / value.sin_pi()) ** 2 - arb(2).zeta(1 - value)


def _ndtri(value: arb) -> arb:
    return (2 * value - 1).erfinv() * arb(2).sqrt()


def _power(base: arb, exponent: arb) -> arb:
    """A real power: of a negative number where the exponent is an integer."""
    if exponent.is_integer() and abs(exponent) < 1 << 20:
        whole = int(float(exponent.mid()))
        if whole < 0:
            return 1 / base ** (-whole)
        return _square(base ** (whole // 2)) if whole % 2 == 0 else base**whole
    if base.is_zero() and exponent > 0:
        return arb(0)
    return base**exponent


def _square(value: arb) -> arb:
    """A square is never negative, whatever its ball."""
    return abs(value) * abs(value)


SPECIAL: dict[str, Callable[..., arb]] = {
    "erf": lambda value: value.erf(),
    "erfc": lambda value: value.erfc(),
    "erfinv": lambda value: value.erfinv(),
    "ndtri": _ndtri,
    "lgamma": _lgamma,
    "digamma": lambda value: value.digamma(),
    "trigamma": _trigamma,
    "tan": lambda value: value.tan(),
    "asin": lambda value: value.asin(),
    "acos": lambda value: value.acos(),
    "atan": lambda value: value.atan(),
    "sinh": lambda value: value.sinh(),
    "cosh": lambda value: value.cosh(),
    "asinh": lambda value: value.asinh(),
    "acosh": lambda value: value.acosh(),
    "atanh": lambda value: value.atanh(),
    "atan2": arb.atan2,
    "power": _power,
    "square": _square,
}
"""By name."""


def through_arb(
    name: str, arrays: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A function of middles and radii, element by element.

    Args:
        name: among `SPECIAL`.
        arrays: middle and radius of each argument in turn, all of one shape.
    """
    function = SPECIAL[name]
    shape = arrays[0].shape
    lists = [array.ravel().tolist() for array in arrays]
    found: list[tuple[float, float]] = []
    with ctx.workprec(_PRECISION):
        for parts in zip(*lists, strict=True):
            balls = [arb(parts[at], 2 * parts[at + 1]) for at in range(0, len(parts), 2)]
            ball: Any = function(*balls)
            middle = float(ball.mid())
            # the conversion errs by half an ulp, or by half the smallest subnormal
            found.append((middle, float(ball.rad()) + abs(middle) * 2.0**-52 + 2.0**-1074))
    both = np.array(found, np.float64).reshape(*shape, 2)
    return both[..., 0], both[..., 1]
