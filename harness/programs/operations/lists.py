"""Entries of TensorFlow's lists of tensors, which loops and scans are made of."""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np

from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.operations.shapes import assembled, ints, moved, shape_of
from lossfuzz.harness.programs.program import REAL_DTYPES


def _zeros(call: Call, shape: Any) -> Any:
    lengths = [max(0, int(size)) for size in np.ravel(shape)]
    dtype = str(call.attribute("element_dtype", "float32"))
    if dtype in REAL_DTYPES:
        return call.tape.constant(np.zeros(lengths))
    return np.zeros(lengths, np.dtype(dtype))


@entry("TensorListReserve")
def _reserve(call: Call, shape: Any, count: Any) -> list[Any]:
    del shape
    return [None] * ints(call, count)[0]


@entry("EmptyTensorList")
def _empty(call: Call, shape: Any, count: Any) -> list[Any]:
    del call, shape, count
    return []


@entry("TensorListFromTensor")
def _from_tensor(call: Call, value: Any, shape: Any) -> list[Any]:
    del call, shape
    return [moved(value, itemgetter(at)) for at in range(shape_of(value)[0])]


@entry("TensorListGetItem")
def _get_item(call: Call, items: list[Any], index: Any, shape: Any) -> Any:
    found = items[ints(call, index)[0]]
    return _zeros(call, shape) if found is None else found


@entry("TensorListSetItem")
def _set_item(call: Call, items: list[Any], index: Any, value: Any) -> list[Any]:
    (place,) = ints(call, index)
    items = [*items, *[None] * max(0, place + 1 - len(items))]
    return [value if at == place else one for at, one in enumerate(items)]


@entry("TensorListPushBack")
def _push_back(call: Call, items: list[Any], value: Any) -> list[Any]:
    del call
    return [*items, value]


@entry("TensorListPopBack")
def _pop_back(call: Call, items: list[Any], shape: Any) -> Any:
    last = items[-1]
    return items[:-1], _zeros(call, shape) if last is None else last


@entry("TensorListLength")
def _length(call: Call, items: list[Any]) -> Any:
    del call
    return np.asarray(len(items), np.int32)


@entry("TensorListStack")
def _stack(call: Call, items: list[Any], shape: Any) -> Any:
    known = next((one for one in items if one is not None), None)
    like = shape if known is None else shape_of(known)
    filled = [_zeros(call, like) if one is None else one for one in items]
    return assembled(filled, lambda all_: np.stack(all_, 0), call)


@entry("TensorListConcatV2", "TensorListConcat")
def _concat(call: Call, items: list[Any], *rest: Any) -> Any:
    del rest
    lengths = np.array([shape_of(one)[0] for one in items], np.int64)
    return assembled(list(items), lambda all_: np.concatenate(all_, 0), call), lengths


@entry("TensorListGather")
def _gather(call: Call, items: list[Any], index: Any, shape: Any) -> Any:
    chosen = [items[at] for at in ints(call, index)]
    return _stack(call, chosen, shape)
