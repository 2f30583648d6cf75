"""Entries that make constants, and those of integers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.operations.shapes import ints, shape_of
from lossfuzz.harness.programs.structure import broadcast
from lossfuzz.harness.programs.tape import Variable

if TYPE_CHECKING:
    from collections.abc import Callable


@entry("Shape")
def _shape(call: Call, value: Any) -> Any:
    return np.array(shape_of(value), call.dtype)


@entry("ShapeN")
def _shape_n(call: Call, *values: Any) -> Any:
    return tuple(np.array(shape_of(one), call.dtype) for one in values)


@entry("Size")
def _size(call: Call, value: Any) -> Any:
    return np.asarray(int(np.prod(shape_of(value))), call.dtype)


@entry("Rank")
def _rank(call: Call, value: Any) -> Any:
    return np.asarray(len(shape_of(value)), call.dtype)


def _full(number: float) -> Any:
    def apply(call: Call, value: Any) -> Any:
        shape = shape_of(value)
        if call.is_real:
            return call.tape.constant(np.full(shape, number))
        return np.full(shape, number).astype(call.dtype)

    return apply


entry("ZerosLike")(_full(0.0))
entry("OnesLike")(_full(1.0))


@entry("Empty")
def _empty(call: Call, shape: Any) -> Any:
    target = tuple(ints(call, shape))
    return call.tape.constant(np.zeros(target)) if call.is_real else np.zeros(target, call.dtype)


@entry("Fill")
def _fill(call: Call, shape: Any, value: Any) -> Any:
    target = tuple(ints(call, shape))
    if call.is_real:
        return broadcast(call.real(value), target)
    return np.full(target, call.whole(value))


@entry("Range", roundings="2")
def _range(call: Call, start: Any, limit: Any, delta: Any) -> Any:
    if not call.is_real:
        ends = (int(call.whole(one)) for one in (start, limit, delta))
        return np.arange(*ends, dtype=call.dtype)
    numbers = [call.tape.engine.middles(call.real(one).value) for one in (start, limit, delta)]
    first, last, step = (float(one) for one in numbers)
    count = max(0, int(np.ceil((last - first) / step)))
    return call.tape.constant(first + step * np.arange(count))


@entry("LinSpace", roundings="3")
def _linspace(call: Call, start: Any, stop: Any, number: Any) -> Any:
    from lossfuzz.harness.programs.arithmetic import add, divide, multiply, subtract

    (count,) = ints(call, number)
    first, last = call.real(start), call.real(stop)
    steps = call.tape.constant(np.arange(float(count)))
    step = divide(subtract(last, first), call.tape.constant(float(max(1, count - 1))))
    return add(broadcast(first, (count,)), multiply(broadcast(step, (count,)), steps))


@entry("BroadcastArgs")
def _broadcast_args(call: Call, left: Any, right: Any) -> Any:
    shape = np.broadcast_shapes(tuple(ints(call, left)), tuple(ints(call, right)))
    return np.array(shape, call.dtype)


@entry("BroadcastGradientArgs")
def _broadcast_gradient_args(call: Call, left: Any, right: Any) -> Any:
    first, second = ints(call, left), ints(call, right)
    rank = max(len(first), len(second))
    wide = [[1] * (rank - len(one)) + one for one in (first, second)]
    return tuple(
        np.array(
            [
                at
                for at in range(rank)
                if wide[own][at] == 1 or at < rank - len((first, second)[own])
            ],
            np.int32,
        )
        for own in (0, 1)
    )


_BITWISE: dict[str, Callable[..., Any]] = {
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "LeftShift": np.left_shift,
    "RightShift": np.right_shift,
    "Invert": np.invert,
    "TruncateMod": np.fmod,
    "TruncateDiv": lambda x, y: np.trunc(x / y).astype(x.dtype),
}


def _bitwise(function: Callable[..., Any]) -> Any:
    def apply(call: Call, *operands: Any) -> Any:
        return function(*[call.whole(one) for one in operands])

    return apply


for _kind, _function in _BITWISE.items():
    entry(_kind, domain="integers")(_bitwise(_function))


@entry("Bucketize")
def _bucketize(call: Call, value: Any) -> Any:
    bounds = np.asarray(call.attribute("boundaries"), np.float64)
    numbers = call.whole(value) if not isinstance(value, Variable) else None
    if numbers is None:
        from lossfuzz.harness.programs.selections import compared

        edges = call.tape.constant(bounds)
        from lossfuzz.harness.programs.structure import reshaped

        wide = reshaped(call.real(value), (*shape_of(value), 1))
        return compared(wide, edges, np.greater_equal).decided().sum(-1).astype(np.int32)
    return np.searchsorted(bounds, numbers, side="right").astype(np.int32)
