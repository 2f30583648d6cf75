"""Arrays of float64 numbers with a bound on each one's error, of any shape.

The rules are those of `exact.enclosure` (Rump 1999, "Fast and parallel interval arithmetic"):
a radius is computed without directed rounding, and whoever reads it doubles it. Beyond that, what
is exact is known to be (its radius is None): constants, masks, and sums of those that do not
round, so that a product with an exact 0 is an exact 0. A radius that is NaN bounds nothing, and
every comparison is written so that NaN leaves it unsure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.special import through_arb

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Reals = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_U = 2.0**-53
_FUNCTION = 4 * _U  # two ulp: see exact.numbers
_TINY = 2.0**-1060
_LOW = 2.0**-1000
"""Products below it may have lost bits to underflow."""

_SMALL_RADIUS = 2.0**-12


class Enclosed:
    """Numbers within `radius` of their `middle`; exact where the radius is None."""

    __slots__ = ("middle", "radius")

    def __init__(self, middle: Reals, radius: Reals | None = None) -> None:
        self.middle, self.radius = middle, radius

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.middle.shape


def _radius(value: Enclosed) -> Any:
    return 0.0 if value.radius is None else value.radius


class Enclosures:
    """The arithmetic of `Enclosed` numbers.

    Attributes:
        partial: whether elements may be absent; here never.
        decides: whether every comparison is decided; here some are left unsure.
    """

    partial = False
    decides = False

    def __init__(self) -> None:
        self._infinite = False  # inputs or constants hold infinities, which cost some care

    def exactly(self, values: ArrayLike) -> Enclosed:
        """Float64 values without error."""
        array = np.asarray(values, np.float64)
        if not self._infinite and np.isinf(array).any():
            self._infinite = True
        return Enclosed(array)

    def middles(self, value: Enclosed) -> Reals:
        """Float64 numbers near the exact ones."""
        return value.middle

    # --- arithmetic ---

    def add(self, left: Enclosed, right: Enclosed) -> Enclosed:
        """Sum, broadcast."""
        middle = left.middle + right.middle
        if left.radius is None and right.radius is None:
            return Enclosed(middle, _lost(left.middle, right.middle, middle))
        radius = np.abs(middle) * _U
        for one in (left, right):
            if one.radius is not None:
                radius += one.radius
        if self._infinite:
            radius = np.where(_infinite_exactly(left) | _infinite_exactly(right), 0.0, radius)
        return Enclosed(middle, radius)

    def neg(self, value: Enclosed) -> Enclosed:
        """Negated."""
        return Enclosed(-value.middle, value.radius)

    def mul(self, left: Enclosed, right: Enclosed) -> Enclosed:
        """Product, broadcast."""
        middle = left.middle * right.middle
        if left.radius is None and right.radius is None:
            if _is_mask(left.middle) or _is_mask(right.middle):
                return Enclosed(middle)
            plain = np.isin(left.middle, _PLAIN) | np.isin(right.middle, _PLAIN)
            radius = np.where(plain, 0.0, np.abs(middle) * _U + _TINY)
            return Enclosed(middle, radius if radius.any() else None)
        size = np.abs(middle)
        radius = size * _U
        if left.radius is None:
            radius += np.abs(left.middle) * right.radius
        elif right.radius is None:
            radius += np.abs(right.middle) * left.radius
        else:
            radius += (np.abs(left.middle) + left.radius) * right.radius
            radius += np.abs(right.middle) * left.radius
        low = size < _LOW
        if low.any():
            radius += np.where(low & ~(self.vanishes(left) | self.vanishes(right)), _TINY, 0.0)
        if self._infinite:
            both = np.isinf(middle) & (_radius(left) == 0) & (_radius(right) == 0)
            known = both & (_infinite_exactly(left) | _infinite_exactly(right))
            radius = np.where(known, 0.0, radius)
        return Enclosed(middle, radius)

    def times(self, adjoint: Enclosed, factor: Enclosed) -> Enclosed:
        """A product that is exactly 0 where the first operand is, whatever the second."""
        product = self.mul(adjoint, factor)
        nothing = self.vanishes(adjoint)
        if nothing.any():
            zero = Enclosed(np.zeros(()))
            return self.where(np.broadcast_to(nothing, product.shape), zero, product)
        return product

    def div(self, left: Enclosed, right: Enclosed) -> Enclosed:
        """Quotient, broadcast; nothing is known where the divisor may be 0."""
        divisor = right.middle
        if right.radius is None:
            middle = left.middle / divisor
            spread: Any = _TINY if left.radius is None else left.radius + _TINY
            radius = np.abs(middle) * (2 * _U) + spread / np.abs(divisor)
            radius = np.where(self.vanishes(left) & (divisor != 0), 0.0, radius)
        else:
            room = np.abs(divisor) - 2 * right.radius
            known = room > 0
            if not known.all():
                room = np.where(known, room, np.nan)
            middle = left.middle / divisor
            size = np.abs(middle)
            spread = size * right.radius + _TINY
            if left.radius is not None:
                spread += left.radius
            radius = spread / room + size * (2 * _U)
            nothing = self.vanishes(left)
            if nothing.any():
                radius = np.where(nothing & known, 0.0, radius)
        if self._infinite:
            radius = np.where(_infinite_exactly(right) & np.isfinite(left.middle), 0.0, radius)
        return Enclosed(middle, radius)

    def over(self, adjoint: Enclosed, divisor: Enclosed) -> Enclosed:
        """A quotient that is exactly 0 where the first operand is, whatever the second."""
        quotient = self.div(adjoint, divisor)
        nothing = self.vanishes(adjoint)
        if nothing.any():
            zero = Enclosed(np.zeros(()))
            return self.where(np.broadcast_to(nothing, quotient.shape), zero, quotient)
        return quotient

    def is_exact(self, value: Enclosed) -> bool:
        """Whether no number has an error."""
        return value.radius is None

    # --- functions ---

    def exp(self, value: Enclosed) -> Enclosed:
        """Exponential."""
        middle = np.exp(value.middle)
        return Enclosed(middle, self._exponential(value, middle, middle))

    def expm1(self, value: Enclosed) -> Enclosed:
        """Exponential less one."""
        middle = np.expm1(value.middle)
        power = middle if value.radius is None else np.exp(value.middle)
        return Enclosed(middle, self._exponential(value, middle, power))

    def _exponential(self, value: Enclosed, middle: Reals, power: Reals) -> Reals:
        radius = np.abs(middle) * _FUNCTION + _TINY
        if self._infinite:
            radius = np.where(np.isneginf(value.middle) & (_radius(value) == 0), 0.0, radius)
        if value.radius is not None:
            if not value.radius.max(initial=0.0) < _SMALL_RADIUS:
                near = value.radius < 1
                spread = power * np.expm1(np.where(near, value.radius, 0.0))
                far = np.exp(value.middle + 2 * value.radius)
                radius = radius + np.where(near, spread * (1 + 1e-12), far)
            else:  # exp(r) - 1 <= r (1 + r) for r < 1
                radius += power * value.radius * (1 + _SMALL_RADIUS)
        return radius

    def log(self, value: Enclosed) -> Enclosed:
        """Natural logarithm; nothing is known where 0 may be inside."""
        return self._logarithm(value, value.middle, np.log)

    def log1p(self, value: Enclosed) -> Enclosed:
        """Logarithm of one more."""
        return self._logarithm(value, value.middle + 1.0, np.log1p)

    def _logarithm(self, value: Enclosed, room: Reals, function: Any) -> Enclosed:
        middle = function(value.middle)
        radius = np.abs(middle) * _FUNCTION
        if value.radius is not None:
            # 1 + x errs by u at most, and where it is small it is exact
            left = room * (1 - 2 * _U) - 2 * value.radius
            radius += np.where(left > 0, value.radius / np.where(left > 0, left, 1.0), np.nan)
        return Enclosed(middle, radius)

    def sqrt(self, value: Enclosed) -> Enclosed:
        """Root; the radius is that of its argument, divided by the root."""
        middle = np.sqrt(value.middle)
        if value.radius is None:
            return Enclosed(middle, middle * _U)
        left = value.middle - 2 * value.radius
        known = left > 0
        near = np.where(known, middle, 1.0)
        # below 0 nothing is: sqrt(x + r) bounds it all where 0 is the end
        edge = np.where(self.vanishes(value), 0.0, np.nan)
        radius = np.where(known, value.radius / near, edge) + np.abs(middle) * _U
        return Enclosed(middle, radius)

    def sin(self, value: Enclosed) -> Enclosed:
        """Sine, which moves no further than its argument."""
        middle = np.sin(value.middle)
        return Enclosed(middle, np.abs(middle) * _FUNCTION + _radius(value))

    def cos(self, value: Enclosed) -> Enclosed:
        """Cosine."""
        middle = np.cos(value.middle)
        return Enclosed(middle, np.abs(middle) * _FUNCTION + _radius(value))

    def tanh(self, value: Enclosed) -> Enclosed:
        """Hyperbolic tangent: |f'| <= 1."""
        middle = np.tanh(value.middle)
        spread = np.minimum(_radius(value), 2.0)
        # 1 - tanh^2 <= 4 exp(-2|x|): far out the argument's error vanishes
        decay = 4 * np.exp(-2 * np.maximum(np.abs(value.middle) - 2 * spread, 0.0))
        return Enclosed(middle, np.abs(middle) * _FUNCTION + spread * np.minimum(decay, 1.0))

    def function(self, name: str, *values: Enclosed) -> Enclosed:
        """Any other function, element by element through Arb."""
        arrays = np.broadcast_arrays(
            *[part for one in values for part in (one.middle, _radius(one))]
        )
        middle, radius = through_arb(name, arrays)
        return Enclosed(middle, radius)

    # --- shapes ---

    def take(self, value: Enclosed, index: NDArray[np.intp]) -> Enclosed:
        """Elements by flat index; an exact 0 where the index is -1."""
        flat = value.middle.ravel()
        left_out = index < 0
        some = bool(left_out.any())
        if flat.size == 0:
            return Enclosed(np.zeros(index.shape))
        middle = flat[index]
        radius = None if value.radius is None else _wide(value).ravel()[index]
        if some:
            middle = np.where(left_out, 0.0, middle)
            radius = None if radius is None else np.where(left_out, 0.0, radius)
        return Enclosed(middle, radius)

    def scatter(self, value: Enclosed, index: NDArray[np.intp], size: int) -> Enclosed:
        """Sums of the elements that go to each place; those of index -1 go nowhere."""
        flat = index.ravel()
        kept = flat >= 0
        chosen = flat[kept]
        middle = value.middle.ravel()[kept]
        counts = np.bincount(chosen, minlength=size)
        most = int(counts.max(initial=0))
        total = np.asarray(np.bincount(chosen, middle, minlength=size), np.float64)
        if value.radius is None and most <= 1:
            return Enclosed(total)
        slack = np.abs(middle) * (most * _U if most > 1 else 0.0)
        if value.radius is not None:
            slack = slack + _wide(value).ravel()[kept]
        spread = np.asarray(np.bincount(chosen, slack, minlength=size), np.float64)
        return Enclosed(total, spread)

    def reshape(self, value: Enclosed, shape: tuple[int, ...]) -> Enclosed:
        """The same elements in another shape."""
        radius = None if value.radius is None else _wide(value).reshape(shape)
        return Enclosed(value.middle.reshape(shape), radius)

    def broadcast(self, value: Enclosed, shape: tuple[int, ...]) -> Enclosed:
        """Repeated."""
        if value.shape == shape:
            return value
        radius = None if value.radius is None else np.broadcast_to(value.radius, shape)
        return Enclosed(np.broadcast_to(value.middle, shape), radius)

    def transpose(self, value: Enclosed, order: tuple[int, ...]) -> Enclosed:
        """Axes in another order."""
        radius = None if value.radius is None else _wide(value).transpose(order)
        return Enclosed(value.middle.transpose(order), radius)

    def join(self, values: list[Enclosed]) -> Enclosed:
        """All elements, one array after the other."""
        middle = np.concatenate([one.middle.ravel() for one in values])
        if all(one.radius is None for one in values):
            return Enclosed(middle)
        zeros = [
            np.zeros(one.middle.size) if one.radius is None else _wide(one).ravel()
            for one in values
        ]
        return Enclosed(middle, np.concatenate(zeros))

    # --- reductions ---

    def sum(self, value: Enclosed, axes: tuple[int, ...]) -> Enclosed:
        """Over some axes, which stay with length 1."""
        terms = math.prod(value.shape[axis] for axis in axes)
        middle = value.middle
        if value.radius is None and (terms <= 1 or _is_mask(middle)):
            return Enclosed(middle.sum(axis=axes, keepdims=True))
        size = np.abs(middle) * (_roundings(middle, axes, terms) * _U)
        if value.radius is not None:
            size += value.radius
        return Enclosed(middle.sum(axis=axes, keepdims=True), size.sum(axis=axes, keepdims=True))

    def cumsum(self, value: Enclosed, axis: int) -> Enclosed:
        """Sums of all up to each, inclusive."""
        terms = value.shape[axis]
        slack = np.abs(value.middle) * (terms * _U) + _radius(value)
        return Enclosed(np.cumsum(value.middle, axis), np.cumsum(slack, axis))

    def other_sums(self, value: Enclosed, axis: int) -> Enclosed:
        """For every element along an axis the sum of the other ones, each of one sign or not.

        By sums from the left and from the right, each of which errs by at most n u times the sum
        of its terms' magnitudes (Higham 2002, section 4.2).
        """
        terms = value.shape[axis]
        middle = np.moveaxis(value.middle, axis, -1)
        slack = np.abs(middle) * ((terms + 1) * _U)
        if value.radius is not None:
            slack += np.moveaxis(_wide(value), axis, -1)
        sums = [np.moveaxis(_all_but_one(part), -1, axis) for part in (middle, slack)]
        return Enclosed(sums[0], sums[1])

    def is_lost(self, value: Enclosed) -> bool:
        """Whether there may be a NaN."""
        return bool(np.isnan(value.middle).any()) or (
            value.radius is not None and not np.isfinite(value.radius.max(initial=0.0))
        )

    def contract(self, left: Enclosed, right: Enclosed, spec: str) -> Enclosed:
        """Sum of products over the indices that the result lacks, as `numpy.einsum` has it.

        A sum of n products errs by at most n u times the sum of magnitudes, in any order
        (Higham 2002, section 3.1).
        """
        middle = _einsum(spec, left.middle, right.middle)
        kept = max(1, middle.size)
        terms = max(1, left.middle.size, right.middle.size)
        terms = min(terms, left.middle.size * right.middle.size // kept + 1)
        sizes = np.abs(left.middle), np.abs(right.middle)
        radius = _einsum(spec, *sizes) * ((terms + 1) * _U)
        if left.radius is not None:
            radius = radius + _einsum(spec, _wide(left), sizes[1] + _radius(right))
        if right.radius is not None:
            radius = radius + _einsum(spec, sizes[0], _wide(right))
        low = radius < _LOW
        if low.any():
            radius = np.where(low & (radius > 0), radius + terms * _TINY, radius)
        return Enclosed(middle, radius)

    # --- pieces ---

    def where(self, holds: Flags, left: Enclosed, right: Enclosed) -> Enclosed:
        """The first where it holds, else the second."""
        radius = None
        if left.radius is not None or right.radius is not None:
            radius = np.where(holds, _radius(left), _radius(right))
        return Enclosed(np.where(holds, left.middle, right.middle), radius)

    def vanishes(self, value: Enclosed) -> Flags:
        """Where a number is an exact 0."""
        nothing = value.middle == 0
        return np.asarray(nothing if value.radius is None else nothing & (value.radius == 0))

    def order(self, left: Enclosed, right: Enclosed) -> tuple[NDArray[np.int8], Flags | None]:
        """Minus one, 0 or 1 as the first is below, equal or above; and where that is unsure."""
        found = (left.middle > right.middle).astype(np.int8) - (left.middle < right.middle)
        if left.radius is None and right.radius is None:
            strange = np.isnan(left.middle) | np.isnan(right.middle)
            return found, strange if strange.any() else None
        with np.errstate(invalid="ignore"):
            gap = np.abs(left.middle - right.middle)
        spread = 2 * (_radius(left) + np.asarray(_radius(right)))
        sure = (gap > spread) | ((spread == 0) & (left.middle == right.middle))
        return found, None if sure.all() else ~sure

    def blurred(self, part: Enclosed, whole: Enclosed, unsure: Flags) -> Enclosed:
        """A number that, where it is not sure, may be anything between 0 and the whole one."""
        reach = np.where(unsure, np.abs(whole.middle) + _radius(whole), 0.0)
        return Enclosed(part.middle, reach + _radius(part))

    def hulled(self, part: Enclosed, other: Enclosed, unsure: Flags) -> Enclosed:
        """A number that, where it is not sure, may be the other one as well."""
        with np.errstate(invalid="ignore"):
            gap = np.abs(part.middle - other.middle)
        reach = np.where(gap > 0, gap, np.where(gap == 0, 0.0, np.nan)) + _radius(other)
        radius = np.asarray(_radius(part))
        return Enclosed(part.middle, np.where(unsure, reach + radius, radius))

    def split(self, value: Enclosed) -> tuple[Enclosed, Reals | None]:
        """Middles taken as exact, and how far from them the numbers may be."""
        return Enclosed(value.middle), value.radius

    def widened(self, value: Enclosed, spread: Any) -> Enclosed:
        """With a larger radius."""
        if spread is None:
            return value
        return Enclosed(value.middle, _radius(value) + spread * (1 + 1e-12))

    def magnitude(self, value: Enclosed) -> Reals:
        """A bound on the absolute value."""
        return np.asarray(np.abs(value.middle) + _radius(value))


_PLAIN = np.array([0.0, 1.0, -1.0])


def _is_mask(values: Reals) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def _infinite_exactly(value: Enclosed) -> Flags:
    return np.asarray(np.isinf(value.middle) & (_radius(value) == 0))


def _wide(value: Enclosed) -> Reals:
    """The radius in the shape of the middle."""
    radius = value.radius
    assert radius is not None  # noqa: S101 - for mypy
    return radius if radius.shape == value.shape else np.broadcast_to(radius, value.shape)


def _lost(left: Reals, right: Reals, total: Reals) -> Reals | None:
    """What the rounding of an exact sum loses, exactly (Knuth's TwoSum); None if nothing."""
    with np.errstate(invalid="ignore", over="ignore"):
        back = total - left
        lost = np.abs((left - (total - back)) + (right - back))
    if not lost.any():
        return None
    return np.where(np.isinf(left) | np.isinf(right), np.where(np.isnan(total), np.nan, 0.0), lost)


def _all_but_one(terms: Reals) -> Reals:
    """Over the last axis, by running sums from either side."""
    found = np.zeros(terms.shape)
    np.cumsum(terms[..., :-1], axis=-1, out=found[..., 1:])
    found[..., :-1] += np.cumsum(terms[..., :0:-1], axis=-1)[..., ::-1]
    return found


def _roundings(values: Reals, axes: tuple[int, ...], terms: int) -> int:
    """A bound on the additions that one term goes through.

    NumPy sums the last axis of a contiguous array in pairs, from blocks of at most 128 terms in
    8 parts; other axes one after the other.
    """
    inner = values.shape[-1] if values.ndim and values.ndim - 1 in axes else 1
    if inner <= 8 or not values.flags.c_contiguous:
        return terms
    outer = terms // max(1, inner)
    return min(terms, 21 + math.ceil(math.log2(max(1, inner))) + outer)


def _einsum(spec: str, left: Reals, right: Reals) -> Reals:
    return np.asarray(np.einsum(spec, left, right, optimize=left.size * right.size > 1 << 12))
