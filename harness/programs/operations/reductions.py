"""Entries that sum, multiply or choose over axes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, structure, sums
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.softmax import logsumexp
from lossfuzz.harness.programs.tape import Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable


def axes_of(call: Call, axes: Any, rank: int) -> tuple[int, ...]:
    """The axes that an operand names, none of them negative."""
    return tuple(sorted({int(axis) % rank for axis in call.whole(axes).ravel()})) if rank else ()


def _finished(call: Call, found: Variable, axes: tuple[int, ...]) -> Variable:
    if call.attribute("keep_dims", default=False) or call.attribute("keepdims", default=False):
        return found
    shape = [size for axis, size in enumerate(found.shape) if axis not in axes]
    return structure.reshaped(found, shape)


def _reduced(reals: Callable[[Variable, tuple[int, ...]], Variable], integers: Any) -> Any:
    def apply(call: Call, value: Any, axes: Any) -> Any:
        if call.is_real:
            variable = call.real(value)
            along = axes_of(call, axes, len(variable.shape))
            return _finished(call, reals(variable, along), along)
        numbers = call.whole(value)
        along = axes_of(call, axes, numbers.ndim)
        kept = bool(call.attribute("keep_dims", default=False))
        return np.asarray(integers(numbers, axis=along, keepdims=kept)).astype(call.dtype)

    return apply


def _mean(value: Variable, axes: tuple[int, ...]) -> Variable:
    count = float(np.prod([value.shape[axis] for axis in axes], dtype=np.float64))
    summed = sums.total(value, axes)
    return arithmetic.divide(summed, value.tape.constant(count))


def _product(value: Variable, axes: tuple[int, ...]) -> Variable:
    for axis in axes:
        value = _halved(value, axis)
    return value


def _halved(value: Variable, axis: int) -> Variable:
    """The product along an axis, folded in halves."""
    places = structure.positions(value.shape)
    if value.shape[axis] == 0:
        shape = tuple(1 if at == axis else size for at, size in enumerate(value.shape))
        return value.tape.constant(np.ones(shape))
    while value.shape[axis] > 1:
        count = value.shape[axis]
        half = count // 2
        places = structure.positions(value.shape)
        first, second, rest = np.split(places, [half, 2 * half], axis)
        folded = arithmetic.multiply(structure.moved(value, first), structure.moved(value, second))
        if count % 2:
            last = structure.moved(value, rest)
            folded = structure.assembled([folded, last], partial(np.concatenate, axis=axis))
        value = folded
    return value


def _norm(value: Variable, axes: tuple[int, ...]) -> Variable:
    return arithmetic.sqrt(sums.total(arithmetic.square(value), axes))


entry("Sum", roundings="n")(_reduced(sums.total, np.sum))
entry("Mean", domain="at least one number", roundings="n")(_reduced(_mean, np.mean))
entry("Prod", roundings="n")(_reduced(_product, np.prod))
entry("Max")(_reduced(selections.largest, np.max))
entry("Min")(_reduced(lambda value, axes: selections.largest(value, axes, least=True), np.min))
entry("EuclideanNorm", roundings="n + 1")(_reduced(_norm, None))


@entry("L2Loss", roundings="n + 1")
def _l2_loss(call: Call, value: Any) -> Variable:
    variable = call.real(value)
    axes = tuple(range(len(variable.shape)))
    summed = sums.total(arithmetic.square(variable), axes)
    return structure.reshaped(arithmetic.multiply(summed, call.tape.constant(0.5)), ())


def _logical(function: Any, *, settles: bool) -> Any:
    def apply(call: Call, value: Any, axes: Any) -> Truth:
        truth = call.truth(value)
        along = axes_of(call, axes, truth.holds.ndim)
        kept = bool(call.attribute("keep_dims", default=False))
        holds = function(truth.holds, axis=along, keepdims=kept)
        if truth.unsure is None:
            return Truth(holds)
        sure = ((truth.holds == settles) & ~truth.unsure).any(axis=along, keepdims=kept)
        return Truth(holds, truth.unsure.any(axis=along, keepdims=kept) & ~sure)

    return apply


entry("All")(_logical(np.all, settles=False))
entry("Any")(_logical(np.any, settles=True))


@entry("Cumsum", roundings="n")
def _cumsum(call: Call, value: Any, axis: Any) -> Any:
    exclusive, reverse = bool(call.attribute("exclusive")), bool(call.attribute("reverse"))
    along = int(call.whole(axis))
    if call.is_real:
        variable = call.real(value)
        return sums.cumulative(
            variable, along % len(variable.shape), exclusive=exclusive, reverse=reverse
        )
    numbers = call.whole(value)
    turned = np.flip(numbers, along) if reverse else numbers
    found = np.cumsum(turned, along, dtype=numbers.dtype)
    found = found - turned if exclusive else found
    return np.flip(found, along) if reverse else found


def _scanned(
    value: Variable,
    axis: int,
    step: Callable[[Variable, Variable], Variable],
    start: float,
    *,
    exclusive: bool,
    reverse: bool,
) -> Variable:
    """A running fold along an axis, one step after the other."""
    places = structure.positions(value.shape)
    parts = np.split(places, value.shape[axis], axis)
    if reverse:
        parts = parts[::-1]
    found: list[Variable] = []
    if exclusive:
        found.append(value.tape.constant(np.full(parts[0].shape, start)))
        parts = parts[:-1]
    for part in parts:
        one = structure.moved(value, part)
        found.append(step(found[-1], one) if found else one)
    if reverse:
        found.reverse()
    return structure.assembled(found, lambda all_: np.concatenate(all_, axis))


@entry("Cumprod", roundings="n")
def _cumprod(call: Call, value: Any, axis: Any) -> Any:
    exclusive, reverse = bool(call.attribute("exclusive")), bool(call.attribute("reverse"))
    if not call.is_real:
        return np.cumprod(call.whole(value), int(call.whole(axis)), dtype=call.dtype)
    variable = call.real(value)
    along = int(call.whole(axis)) % len(variable.shape)
    return _scanned(
        variable, along, arithmetic.multiply, 1.0, exclusive=exclusive, reverse=reverse
    )


@entry("CumulativeLogsumexp", roundings="6 n")
def _cumulative_logsumexp(call: Call, value: Any, axis: Any) -> Variable:
    exclusive, reverse = bool(call.attribute("exclusive")), bool(call.attribute("reverse"))
    variable = call.real(value)
    along = int(call.whole(axis)) % len(variable.shape)

    def step(left: Variable, right: Variable) -> Variable:
        both = structure.assembled([left, right], lambda two: np.concatenate(two, along))
        return logsumexp(both, along)

    return _scanned(variable, along, step, -np.inf, exclusive=exclusive, reverse=reverse)
