"""Arrays of enclosed real numbers: a computed midpoint and a bound on its absolute error.

A loss that is written over enclosures yields its value and its error bound at once, in float64
for a whole batch, in extended precision, or in mpmath for the rows that need it. The rules are
those of mid-rad interval arithmetic (Rump 1999, "Fast and parallel interval arithmetic"): to the
propagated radius every operation adds what it may have rounded itself.

The radii are float64 whatever the middles are, and computed without directed rounding. All terms
of a radius are nonnegative, so their own relative rounding errors add up to less than one part in
2**30 for any formula of fewer than a million operations; whoever reads a radius doubles it (see
`relative`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from lossfuzz.harness.exact.numbers import Numbers

    Reals = NDArray[np.float64]

_TINY = 2.0**-1060
"""Bounds the absolute error of a result, or of a radius, that underflows float64."""


class Enclosure:
    """Real numbers, each within `radius` of its `middle`; arrays of any one shape.

    Attributes:
        middle: what was computed.
        radius: float64, bounds its error up to the factor that the module explains; infinite
            where nothing is known.
        numbers: what the middles are.
    """

    __array_ufunc__ = None  # NumPy shall leave operators to this class
    __slots__ = ("middle", "numbers", "radius")

    def __init__(self, middle: NDArray[Any], radius: Reals, numbers: Numbers) -> None:
        self.middle, self.radius, self.numbers = middle, radius, numbers

    @classmethod
    def exactly(cls, values: ArrayLike, numbers: Numbers) -> Enclosure:
        """Float64 values without any error."""
        return cls(numbers.convert(values), np.zeros(np.shape(values)), numbers)

    def constant(self, value: float) -> Enclosure:
        """One exact number, of the kind that this enclosure is made of."""
        return Enclosure.exactly(value, self.numbers)

    def _lift(self, other: Enclosure | float) -> Enclosure:
        return other if isinstance(other, Enclosure) else self.constant(other)

    def _magnitude(self) -> Reals:
        return np.abs(self.numbers.floats(self.middle))

    def _rounded(self, middle: Any, radius: Any, units: int = 1) -> Enclosure:
        magnitude = np.abs(self.numbers.floats(middle))
        rounding = magnitude * (units * self.numbers.unit_roundoff)
        return Enclosure(middle, radius + rounding + _TINY, self.numbers)

    def __neg__(self) -> Enclosure:
        return Enclosure(-self.middle, self.radius, self.numbers)

    def __add__(self, other: Enclosure | float) -> Enclosure:
        right = self._lift(other)
        return self._rounded(self.middle + right.middle, self.radius + right.radius)

    __radd__ = __add__

    def __sub__(self, other: Enclosure | float) -> Enclosure:
        return self + -self._lift(other)

    def __rsub__(self, other: float) -> Enclosure:
        return -self + other

    def __mul__(self, other: Enclosure | float) -> Enclosure:
        right = self._lift(other)
        radius = self._magnitude() * right.radius + right._magnitude() * self.radius
        return self._rounded(self.middle * right.middle, radius + self.radius * right.radius)

    __rmul__ = __mul__

    def __truediv__(self, other: Enclosure | float) -> Enclosure:
        right = self._lift(other)
        room = right._magnitude() - 2 * right.radius
        known = room > 0
        quotient = self.middle / np.where(known, right.middle, self.numbers.convert(1.0))
        # the product may underflow, and what it loses is divided by the room as well
        spread = self.radius + np.abs(self.numbers.floats(quotient)) * right.radius + _TINY
        return self._rounded(quotient, np.where(known, spread / np.where(known, room, 1), np.inf))

    def __rtruediv__(self, other: float) -> Enclosure:
        return self.constant(other) / self

    def exp(self) -> Enclosure:
        """Exponential of numbers that do not overflow."""
        middle = self.numbers.exp(self.middle)
        return self._rounded(middle, self._exp_spread(), self.numbers.function_units)

    def expm1(self) -> Enclosure:
        """Exponential less one."""
        middle = self.numbers.expm1(self.middle)
        return self._rounded(middle, self._exp_spread(), self.numbers.function_units)

    def _exp_spread(self) -> Reals:
        """How far the exponential moves within the radius r: ``exp(x) (exp(r) - 1)``.

        Beyond a radius of 1 the largest exponential itself bounds it, for it may vanish.
        """
        near = self.radius < 1
        at = self.numbers.floats(self.middle)
        spread = np.exp(at) * np.expm1(np.where(near, self.radius, 0.0)) * (1 + 1e-12)
        return np.asarray(np.where(near, spread, np.exp(at + 2 * self.radius)))

    def log(self) -> Enclosure:
        """Natural logarithm; nothing is known where 0 lies inside."""
        return self._logarithm(self.numbers.log, shift=0.0)

    def log1p(self) -> Enclosure:
        """Logarithm of one plus the numbers; nothing is known where -1 lies inside."""
        return self._logarithm(self.numbers.log1p, shift=1.0)

    def _logarithm(self, function: Any, shift: float) -> Enclosure:
        room = self.numbers.floats(self.middle) + shift - 2 * self.radius
        known = room > 0
        middle = function(np.where(known, self.middle, self.numbers.convert(1.0)))
        radius = np.where(known, self.radius / np.where(known, room, 1.0), np.inf)
        return self._rounded(middle, radius, self.numbers.function_units)

    def sum(self) -> Enclosure:
        """Sum over the last axis, which stays with length 1; folded in halves.

        Folding n terms errs by ceil(log2 n) u relative to the sum of magnitudes, whatever the
        order (Higham 2002, section 4.2).
        """
        folds = math.ceil(math.log2(max(1, self.middle.shape[-1])))
        slack = self._magnitude() * (folds * self.numbers.unit_roundoff)
        return Enclosure(_folded(self.middle), _folded(slack + self.radius) + _TINY, self.numbers)

    def at(self, columns: NDArray[np.intp]) -> Enclosure:
        """One number of every row, by its column; shape ``[rows, 1]``."""
        index = columns[:, None]
        return Enclosure(
            np.take_along_axis(self.middle, index, axis=1),
            np.take_along_axis(self.radius, index, axis=1),
            self.numbers,
        )

    def where(self, condition: NDArray[np.bool_], other: Enclosure | float) -> Enclosure:
        """These numbers where a condition holds, others elsewhere."""
        right = self._lift(other)
        return Enclosure(
            np.where(condition, self.middle, right.middle),
            np.where(condition, self.radius, right.radius),
            self.numbers,
        )

    def clip(self, low: Enclosure, high: Enclosure) -> Enclosure:
        """Clipped to [low, high]; the radius is kept, since clipping moves no two apart.

        The bounds may have radii of their own: the largest of the three bounds the result's.
        """
        middle = np.minimum(np.maximum(self.middle, low.middle), high.middle)
        radius = np.maximum(self.radius, np.maximum(low.radius, high.radius))
        return Enclosure(middle, radius, self.numbers)

    def certainly_below(self, other: Enclosure) -> NDArray[np.bool_]:
        """Where every number inside is below every number inside the other."""
        gap = self.numbers.floats(other.middle - self.middle)
        return np.asarray(gap > 2 * (self.radius + other.radius))

    def relative(self) -> Reals:
        """A bound on the relative error of every middle; 0 for an exact zero."""
        magnitude = self._magnitude()
        known = magnitude > 0
        with np.errstate(over="ignore"):
            spread = 2 * self.radius / np.where(known, magnitude, 1.0)
        return np.asarray(np.where(known | (self.radius == 0), spread, np.inf))

    def absolute(self) -> Reals:
        """A bound on the absolute error of every middle."""
        return np.asarray(2 * self.radius)

    def to_float64(self) -> Reals:
        """The middles, rounded to float64."""
        return self.numbers.floats(self.middle)


def _folded(terms: NDArray[Any]) -> NDArray[Any]:
    """Sum over the last axis, halving until one is left."""
    count = terms.shape[-1]
    while count > 1:
        half = (count + 1) // 2
        folded = terms[..., :half].copy()
        folded[..., : count - half] += terms[..., half:count]
        terms, count = folded, half
    return terms
