"""Sums: over axes, of all but one, running, and of products."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import structure

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


def total(value: Variable, axes: tuple[int, ...]) -> Variable:
    """The sum over some axes, which stay with length 1."""
    if not axes:
        return value
    engine = value.tape.engine
    if value.origin and value.origin[0] == "softmax" and value.origin[1] in axes:
        ones = _sum_of_shares(value, axes)
        if ones is not None:
            return ones
    if value.tape.rewrites and any(value.has(name) for name in ("log", "complement", "exp")):
        alone = _the_only_one(value, axes)
        if alone is not None:
            return alone
    forms: dict[str, Any] = {}
    if value.has("log") and len(axes) == 1:
        forms["log"] = lambda: _log_of_sum(value, axes[0])
    shape = value.shape
    return value.tape.record(
        engine.sum(value.value, axes),
        (value, lambda adjoint: engine.broadcast(adjoint, shape)),
        forms=forms,
        origin=("sum", value, axes),
    )


def _sum_of_shares(value: Variable, axes: tuple[int, ...]) -> Variable | None:
    """A softmax sums to 1 along its axis, so to a count over more axes; None if one is NaN."""
    if value.tape.engine.is_lost(value.value):
        return None
    count = math.prod(value.shape[axis] for axis in axes if axis != value.origin[1])
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    return value.tape.constant(np.full(shape, float(count)))


def _log_of_sum(value: Variable, axis: int) -> Variable | None:
    from lossfuzz.harness.programs.softmax import logsumexp

    exponents = value.form("log")
    return None if exponents is None else logsumexp(exponents, axis)


def _the_only_one(value: Variable, axes: tuple[int, ...]) -> Variable | None:
    """A sum of exact zeros and at most one other number is that number, with all its forms."""
    known = value.blank()
    if known is None and math.prod(value.shape[axis] for axis in axes) > 1:
        return None
    nothing = np.zeros(value.shape, np.bool_) if known is None else known
    if ((~nothing).sum(axis=axes) > 1).any():
        return None
    places = np.where(nothing, -1, structure.positions(value.shape))
    return structure.moved(value, places.max(axis=axes, keepdims=True))


def others(value: Variable, axis: int) -> Variable:
    """For every element along an axis the sum of the other ones."""
    engine = value.tape.engine
    return value.tape.record(
        other_sums(engine, value.value, axis),
        (value, lambda adjoint: other_sums(engine, adjoint, axis)),
    )


def other_sums(engine: Any, value: Any, axis: int) -> Any:
    """Sums of all but one, from the left and from the right: nothing is subtracted."""
    if not engine.decides:
        return engine.other_sums(value, axis)
    return engine.add(
        running(engine, value, axis, exclusive=True, reverse=False),
        running(engine, value, axis, exclusive=True, reverse=True),
    )


def running(engine: Any, value: Any, axis: int, *, exclusive: bool, reverse: bool) -> Any:
    """Sums of all up to each along an axis."""
    places = structure.positions(value.shape)
    if reverse:
        value = engine.take(value, np.flip(places, axis))
    summed = engine.cumsum(value, axis)
    if exclusive:
        moved = np.roll(places, 1, axis)
        np.moveaxis(moved, axis, 0)[:1] = -1
        summed = engine.take(summed, moved)
    return engine.take(summed, np.flip(places, axis)) if reverse else summed


def cumulative(value: Variable, axis: int, *, exclusive: bool, reverse: bool) -> Variable:
    """Running sums along an axis."""
    engine = value.tape.engine
    return value.tape.record(
        running(engine, value.value, axis, exclusive=exclusive, reverse=reverse),
        (
            value,
            lambda adjoint: running(
                engine, adjoint, axis, exclusive=exclusive, reverse=not reverse
            ),
        ),
    )


def contracted(left: Variable, right: Variable, spec: str) -> Variable:
    """Sum of products over the indices that the result lacks, as `numpy.einsum` has it.

    Every index occurs in two of the three, or in all three.
    """
    engine = left.tape.engine
    sources, result = spec.split("->")
    first, second = sources.split(",")
    return left.tape.record(
        engine.contract(left.value, right.value, spec),
        (
            left,
            lambda adjoint: engine.contract(adjoint, right.value, f"{result},{second}->{first}"),
        ),
        (
            right,
            lambda adjoint: engine.contract(adjoint, left.value, f"{result},{first}->{second}"),
        ),
    )
