"""Entries that sum or choose over segments."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.operations.shapes import ints

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


def _segments(call: Call, value: Any, ids: Any, count: Any) -> tuple[Variable, Any, int]:
    """The numbers as rows, the segment of each row, and how many segments there are."""
    variable, places = call.real(value), call.whole(ids).astype(np.intp)
    number = int(places.max(initial=-1)) + 1 if count is None else ints(call, count)[0]
    rows = structure.reshaped(variable, (places.size, *variable.shape[places.ndim :]))
    kept = np.where((places >= 0) & (places < number), places, -1).ravel()
    return rows, kept, number


def _summed(rows: Variable, places: Any, number: int) -> Variable:
    rest = rows.shape[1:]
    width = int(np.prod(rest, dtype=int))
    index = np.where(
        places[:, None] < 0, -1, places[:, None] * width + np.arange(width)[None, :]
    ).reshape(rows.shape)
    return structure.scattered(rows, index.astype(np.intp), (number, *rest))


def _counts(places: Any, number: int, rank: int) -> Any:
    counts = np.bincount(places[places >= 0], minlength=number)
    return counts.reshape(number, *[1] * (rank - 1)).astype(np.float64)


@entry("SegmentSum", "SegmentSumV2", "UnsortedSegmentSum", roundings="n")
def _segment_sum(call: Call, value: Any, ids: Any, count: Any = None) -> Any:
    if not call.is_real:
        places = call.whole(ids)
        number = int(places.max(initial=-1)) + 1 if count is None else ints(call, count)[0]
        numbers = call.whole(value)
        found = np.zeros((number, *numbers.shape[places.ndim :]), call.dtype)
        np.add.at(found, places, numbers)
        return found
    return _summed(*_segments(call, value, ids, count))


@entry("SegmentMean", "SegmentMeanV2", roundings="n + 1")
def _segment_mean(call: Call, value: Any, ids: Any, count: Any = None) -> Variable:
    rows, places, number = _segments(call, value, ids, count)
    counts = np.maximum(_counts(places, number, len(rows.shape)), 1)
    return arithmetic.divide(_summed(rows, places, number), call.tape.constant(counts))


def _chosen(call: Call, value: Any, ids: Any, count: Any, *, least: bool) -> Any:
    rows, places, number = _segments(call, value, ids, count)
    info = np.finfo(np.float32 if call.operation.outputs[0].dtype == "float32" else np.float64)
    empty = float(info.max) if least else float(info.min)
    if call.operation.kind.startswith("Segment"):
        empty = 0.0
    found = []
    for segment in range(number):
        own = np.flatnonzero(places == segment)
        if own.size:
            part = structure.rearranged(rows, itemgetter(own))
            found.append(selections.largest(part, (0,), least=least))
        else:
            found.append(call.tape.constant(np.full((1, *rows.shape[1:]), empty)))
    return structure.assembled(found, lambda all_: np.concatenate(all_, 0))


@entry("SegmentMax", "SegmentMaxV2", "UnsortedSegmentMax")
def _segment_max(call: Call, value: Any, ids: Any, count: Any = None) -> Any:
    return _chosen(call, value, ids, count, least=False)


@entry("SegmentMin", "SegmentMinV2", "UnsortedSegmentMin")
def _segment_min(call: Call, value: Any, ids: Any, count: Any = None) -> Any:
    return _chosen(call, value, ids, count, least=True)
