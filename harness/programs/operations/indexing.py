"""Entries that gather and scatter by integers."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np

from lossfuzz.harness.programs import structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.operations.shapes import assembled, ints, moved
from lossfuzz.harness.programs.program import ProgramError
from lossfuzz.harness.programs.selections import picked
from lossfuzz.harness.programs.tape import Variable


def _within(call: Call, index: Any, size: int) -> Any:
    if index.size and (index.min() < 0 or index.max() >= size):
        raise ProgramError(f"{call.operation} takes index {int(index.max())} of {size} elements")
    return index


@entry("GatherV2", "Gather", "ResourceGather")
def _gather(call: Call, value: Any, index: Any, axis: Any = None) -> Any:
    places = call.whole(index).astype(np.intp)
    along = 0 if axis is None else ints(call, axis)[0]
    batch = int(call.attribute("batch_dims", 0) or 0)

    def gathered(array: Any) -> Any:
        at = along % array.ndim
        _within(call, places, array.shape[at])
        if not batch:
            return np.take(array, places, at)
        lead = array.shape[:batch]
        found = [
            np.take(one, place, at - batch)
            for one, place in zip(
                array.reshape(-1, *array.shape[batch:]),
                places.reshape(-1, *places.shape[batch:]),
                strict=True,
            )
        ]
        return np.stack(found).reshape(*lead, *found[0].shape)

    return moved(value, gathered)


@entry("GatherNd")
def _gather_nd(call: Call, value: Any, index: Any) -> Any:
    places = call.whole(index).astype(np.intp)

    def gathered(array: Any) -> Any:
        at = tuple(np.moveaxis(places, -1, 0))
        for axis, one in enumerate(at):
            _within(call, one, array.shape[axis])
        return array[at]

    return moved(value, gathered)


@entry("OneHot")
def _one_hot(call: Call, index: Any, depth: Any, on: Any, off: Any) -> Any:
    axis, places = int(call.attribute("axis", -1)), call.whole(index)
    (size,) = ints(call, depth)
    rank = places.ndim + 1
    at = axis % rank
    shape = [1] * rank
    shape[at] = size
    hot = np.expand_dims(places, at) == np.arange(size).reshape(shape)
    if call.is_real:
        return picked(hot, call.real(on), call.real(off))
    return np.where(hot, call.whole(on), call.whole(off)).astype(call.dtype)


def _flat_places(index: Any, shape: tuple[int, ...]) -> Any:
    """Flat indices of what each row of an index addresses."""
    depth = index.shape[-1]
    places = structure.positions(shape)
    return places[tuple(np.moveaxis(index, -1, 0))] if depth else places


@entry("ScatterNd", roundings="n")
def _scatter_nd(call: Call, index: Any, updates: Any, shape: Any) -> Any:
    target = tuple(ints(call, shape))
    places = _flat_places(call.whole(index).astype(np.intp), target)
    if isinstance(updates, Variable):
        return structure.scattered(updates, places, target)
    found = np.zeros(int(np.prod(target)), call.dtype)
    np.add.at(found, places.ravel(), call.whole(updates).ravel())
    return found.reshape(target)


@entry("TensorScatterUpdate")
def _scatter_update(call: Call, value: Any, index: Any, updates: Any) -> Any:
    def set_(both: list[Any]) -> Any:
        found = np.array(both[0])
        found[tuple(np.moveaxis(call.whole(index).astype(np.intp), -1, 0))] = both[1]
        return found

    return assembled([value, updates], set_, call)


@entry("TensorScatterAdd", "TensorScatterSub", roundings="n")
def _scatter_add(call: Call, value: Any, index: Any, updates: Any) -> Any:
    from lossfuzz.harness.programs.arithmetic import add, subtract

    base, parts = call.real(value), call.real(updates)
    places = _flat_places(call.whole(index).astype(np.intp), base.shape)
    found = structure.scattered(parts, places, base.shape)
    return (subtract if call.operation.kind.endswith("Sub") else add)(base, found)


@entry("DynamicStitch", "ParallelDynamicStitch")
def _dynamic_stitch(call: Call, *operands: Any) -> Any:
    count = len(operands) // 2
    index = [call.whole(one).astype(np.intp) for one in operands[:count]]
    size = 1 + max(int(one.max(initial=-1)) for one in index)

    def stitched(all_: list[Any]) -> Any:
        rest = all_[0].shape[index[0].ndim :]
        found = np.zeros((size, *rest), all_[0].dtype)
        for places, part in zip(index, all_, strict=True):
            found[places] = part
        return found

    return assembled(list(operands[count:]), stitched, call)


@entry("DynamicPartition")
def _dynamic_partition(call: Call, value: Any, partitions: Any) -> Any:
    number, parts = int(call.attribute("num_partitions")), call.whole(partitions)
    return tuple(moved(value, itemgetter(parts == at)) for at in range(number))


@entry("InvertPermutation")
def _invert(call: Call, value: Any) -> Any:
    return np.argsort(call.whole(value)).astype(call.dtype)


@entry("Unique")
def _unique(call: Call, value: Any) -> Any:
    numbers = call.whole(value)
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.argsort(order)
    return numbers[np.sort(first)], rank[inverse].astype(call.operation.outputs[1].dtype)
