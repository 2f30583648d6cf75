"""Arrays of Arb's balls, of the precision that Arb works with at the moment.

Infinities are values: the exponential of -inf is 0 and the logarithm of 0 is -inf, as every
float format has it; infinity times 0, or less infinity, is NaN, which stays NaN.

Some elements may be absent (None): those that were left out because only some rows are wanted.
What depends on an absent element is absent.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.special import SPECIAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[Any]
    Flags = NDArray[np.bool_]

_ZERO, _ONE = arb(0), arb(1)
_INFINITY, _LEAST = arb("inf"), arb("-inf")
_NAN = arb("nan")

_TELLING = 1024
"""Bits at which what still is NaN is taken to be none: nothing can be compared with it."""

_EQUAL_BITS = 900
"""Numbers that agree to so many bits are taken to be equal, as at a tie: both sides are tried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Partial:
    """Float64 numbers of which only some rows are wanted.

    Attributes:
        array: of any shape.
        rows: which of its first axis are kept.
    """

    array: NDArray[np.float64]
    rows: Flags

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self.array.shape


class Balls:
    """The arithmetic of balls.

    Attributes:
        partial: whether elements may be absent.
        decides: whether every comparison is decided, or else raises.
    """

    decides = True

    def __init__(self, *, partial: bool = False) -> None:
        self.partial = partial

    def _apply(self, function: Callable[..., Any], *arrays: Array) -> Array:
        chosen = function
        if self.partial:
            chosen = _absent_one(function) if len(arrays) == 1 else _absent_two(function)
        return np.asarray(np.frompyfunc(chosen, len(arrays), 1)(*arrays), object)

    def exactly(self, values: ArrayLike | Partial) -> Array:
        """Float64 values without error."""
        if isinstance(values, Partial):
            whole = np.full(values.shape, None, object)
            whole[values.rows] = self.exactly(values.array[values.rows])
            return whole
        if isinstance(values, np.ndarray) and values.dtype == object:
            return values  # balls already
        array = np.asarray(values, np.float64)
        found = np.empty(array.size, object)
        found[:] = [_ball(one) for one in array.ravel().tolist()]
        return found.reshape(array.shape)

    def middles(self, value: Array) -> NDArray[np.float64]:
        """Float64 numbers near the exact ones; NaN where absent."""
        flat = [np.nan if one is None else float(one.mid()) for one in value.ravel()]
        return np.array(flat, np.float64).reshape(value.shape)

    # --- arithmetic ---

    def add(self, left: Array, right: Array) -> Array:
        """Sum, broadcast."""
        return self._apply(operator.add, left, right)

    def neg(self, value: Array) -> Array:
        """Negated."""
        return self._apply(operator.neg, value)

    def mul(self, left: Array, right: Array) -> Array:
        """Product, broadcast."""
        return self._apply(operator.mul, left, right)

    def times(self, adjoint: Array, factor: Array) -> Array:
        """A product that is exactly 0 where the first operand is, whatever the second."""
        return np.asarray(np.frompyfunc(_times, 2, 1)(adjoint, factor), object)

    def div(self, left: Array, right: Array) -> Array:
        """Quotient, broadcast."""
        return self._apply(_quotient, left, right)

    def over(self, adjoint: Array, divisor: Array) -> Array:
        """A quotient that is exactly 0 where the first operand is, whatever the second."""
        return np.asarray(np.frompyfunc(_over, 2, 1)(adjoint, divisor), object)

    def is_exact(self, value: Array) -> bool:
        """Whether no number has an error: of balls it makes no difference."""
        del value
        return False

    def square(self, value: Array) -> Array:
        """The square, which is never negative."""
        return self._apply(lambda one: abs(one) * abs(one), value)

    # --- functions ---

    def exp(self, value: Array) -> Array:
        """Exponential."""
        return self._apply(_exp, value)

    def expm1(self, value: Array) -> Array:
        """Exponential less one."""
        return self._apply(lambda one: _INFINITY if one == _INFINITY else one.expm1(), value)

    def log(self, value: Array) -> Array:
        """Natural logarithm."""
        return self._apply(_log, value)

    def log1p(self, value: Array) -> Array:
        """Logarithm of one more."""
        return self._apply(_log1p, value)

    def sqrt(self, value: Array) -> Array:
        """Root."""
        return self._apply(lambda one: _INFINITY if one == _INFINITY else one.sqrt(), value)

    def sin(self, value: Array) -> Array:
        """Sine."""
        return self._apply(lambda one: one.sin(), value)

    def cos(self, value: Array) -> Array:
        """Cosine."""
        return self._apply(lambda one: one.cos(), value)

    def tanh(self, value: Array) -> Array:
        """Hyperbolic tangent."""
        return self._apply(lambda one: one.tanh(), value)

    def function(self, name: str, *values: Array) -> Array:
        """Any other function."""
        return self._apply(SPECIAL[name], *values)

    # --- shapes ---

    def take(self, value: Array, index: NDArray[np.intp]) -> Array:
        """Elements by flat index; an exact 0 where the index is -1."""
        flat = np.empty(value.size + 1, object)
        flat[:-1] = value.ravel()
        flat[-1] = _ZERO
        return np.asarray(flat[index], object)

    def scatter(self, value: Array, index: NDArray[np.intp], size: int) -> Array:
        """Sums of the elements that go to each place; those of index -1 go nowhere."""
        found = np.full(size, _ZERO, object)
        for ball, place in zip(value.ravel(), index.ravel().tolist(), strict=True):
            if place >= 0:
                known = found[place]
                found[place] = None if ball is None or known is None else known + ball
        return found

    def reshape(self, value: Array, shape: tuple[int, ...]) -> Array:
        """The same elements in another shape."""
        return value.reshape(shape)

    def broadcast(self, value: Array, shape: tuple[int, ...]) -> Array:
        """Repeated."""
        return np.broadcast_to(value, shape)

    def transpose(self, value: Array, order: tuple[int, ...]) -> Array:
        """Axes in another order."""
        return value.transpose(order)

    def join(self, values: list[Array]) -> Array:
        """All elements, one array after the other."""
        return np.concatenate([one.ravel() for one in values])

    # --- reductions ---

    def sum(self, value: Array, axes: tuple[int, ...]) -> Array:
        """Over some axes, which stay with length 1."""
        for axis in axes:
            value = self._summed(value, axis)
        return value

    def _summed(self, value: Array, axis: int) -> Array:
        if value.shape[axis] == 0:
            shape = tuple(1 if at == axis else size for at, size in enumerate(value.shape))
            return np.full(shape, _ZERO, object)
        add = np.frompyfunc(_absent_add, 2, 1) if self.partial else np.add
        return np.asarray(add.reduce(value, axis=axis, keepdims=True), object)

    def cumsum(self, value: Array, axis: int) -> Array:
        """Sums of all up to each, inclusive."""
        if value.shape[axis] == 0:
            return value
        add = np.frompyfunc(_absent_add, 2, 1) if self.partial else np.add
        return np.asarray(add.accumulate(value, axis=axis), object)

    def is_lost(self, value: Array) -> bool:
        """Whether there is a NaN."""
        return any(one is not None and one.is_nan() for one in value.ravel())

    def contract(self, left: Array, right: Array, spec: str) -> Array:
        """Sum of products over the indices that the result lacks, as `numpy.einsum` has it."""
        sources, result = spec.split("->")
        first, second = sources.split(",")
        rest = "".join(dict.fromkeys(one for one in first + second if one not in result))
        names = result + rest
        product = self.mul(_aligned(left, first, names), _aligned(right, second, names))
        summed = self.sum(product, tuple(range(len(result), len(names))))
        return summed.reshape(summed.shape[: len(result)])

    # --- pieces ---

    def where(self, holds: Flags, left: Array, right: Array) -> Array:
        """The first where it holds, else the second."""
        return np.asarray(np.where(holds, left, right), object)

    def vanishes(self, value: Array) -> Flags:
        """Where a number is an exact 0."""
        flat = [one is not None and one.is_zero() for one in value.ravel()]
        return np.array(flat, np.bool_).reshape(value.shape)

    def order(self, left: Array, right: Array) -> tuple[NDArray[np.int8], Flags | None]:
        """Minus one, 0 or 1 as the first is below, equal or above; unsure where absent.

        Raises:
            UndecidedError: balls overlap.
        """
        found = np.asarray(np.frompyfunc(_order, 2, 1)(left, right), object)
        absent = np.asarray(found == _ABSENT, np.bool_)
        if not absent.any():
            return found.astype(np.int8), None
        return np.where(absent, 0, found).astype(np.int8), absent

    def blurred(self, part: Array, whole: Array, unsure: Flags) -> Array:
        """Absent where the condition is, or else NaN."""
        del whole
        missing = _NOTHING if self.partial else np.array(_NAN, object)
        return np.asarray(np.where(unsure, missing, part), object)

    def hulled(self, part: Array, other: Array, unsure: Flags) -> Array:
        """Absent where the condition is."""
        return self.blurred(part, other, unsure)

    def split(self, value: Array) -> tuple[Array, None]:
        """Balls stay as they are."""
        return value, None

    def widened(self, value: Array, spread: Any) -> Array:
        """Balls know their radius."""
        del spread
        return value

    def magnitude(self, value: Array) -> NDArray[np.float64]:
        """A bound on the absolute value."""
        flat = [np.nan if one is None else float(one.abs_upper()) for one in value.ravel()]
        return np.array(flat, np.float64).reshape(value.shape)


_ABSENT = 2
_NOTHING = np.array(None, object)


def _absent_one(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda ball: None if ball is None else function(ball)


def _absent_two(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda left, right: None if left is None or right is None else function(left, right)


def _ball(value: float) -> arb:
    return _ZERO if value == 0 else _ONE if value == 1 else arb(value)


def _times(adjoint: Any, factor: Any) -> Any:
    if adjoint is not None and adjoint.is_zero():
        return adjoint
    return None if adjoint is None or factor is None else adjoint * factor


def _over(adjoint: Any, divisor: Any) -> Any:
    if adjoint is not None and adjoint.is_zero():
        return adjoint
    return None if adjoint is None or divisor is None else _quotient(adjoint, divisor)


def _quotient(left: arb, right: arb) -> arb:
    if right.is_zero():
        return _NAN if left.is_zero() or left.is_nan() else left * _INFINITY
    return left / right


def _exp(value: arb) -> arb:
    if value == _INFINITY:
        return _INFINITY
    return value.exp()


def _log(value: arb) -> arb:
    if value.is_zero():
        return _LEAST
    return _INFINITY if value == _INFINITY else value.log()


def _log1p(value: arb) -> arb:
    if value == -1:
        return _LEAST
    return _INFINITY if value == _INFINITY else value.log1p()


def _absent_add(left: Any, right: Any) -> Any:
    return None if left is None or right is None else left + right


def _order(left: Any, right: Any) -> int:
    if left is None or right is None:
        return _ABSENT
    if left < right:
        return -1
    if left > right:
        return 1
    if left == right:
        return 0
    if (left.is_nan() or right.is_nan()) and ctx.prec >= _TELLING:
        return _ABSENT
    difference = left - right
    size = abs(left) + abs(right)
    near = size.abs_lower() * arb(2) ** -_EQUAL_BITS
    if difference.is_finite() and difference.abs_upper() <= near:
        return 0
    raise UndecidedError("two balls overlap")


def _aligned(value: Array, names: str, wanted: str) -> Array:
    """An array whose axes have names, with those of other names as new ones."""
    for name in dict.fromkeys(names):
        while names.count(name) > 1:  # a diagonal
            first = names.index(name)
            second = names.index(name, first + 1)
            value = np.moveaxis(np.diagonal(value, 0, first, second), -1, first)
            names = names[:second] + names[second + 1 :]
    present = [name for name in wanted if name in names]
    value = value.transpose([names.index(name) for name in present])
    shape = iter(value.shape)
    return value.reshape([next(shape) if name in names else 1 for name in wanted])
