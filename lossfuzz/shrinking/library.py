"""Textbook rows of one to three classes, tried before anything is made of a found row.

Most findings show on one of them: ties, a label that wins or loses by a round margin, a common
offset, masks, the smallest and the largest numbers. They are the same for all findings of a loss,
so their exact values are computed once.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.results.regions import region_of
from lossfuzz.shrinking.rows import Row, batch_of, labelled
from lossfuzz.shrinking.simplicity import simplicity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.numbers.formats import FloatFormat

_MASK = -float("inf")
_NUMBERS = (
    *(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 17.0, 18.0, 20.0),
    *(32.0, 64.0, 88.0, 89.0, 104.0, 200.0, 1e3, 1e4, 6e4, 1e6, 1e20, 2e38, 3e38),
    *(0.5, 0.1, 1e-3),
)


def library_rows(loss: LossSpec, fmt: FloatFormat, classes: int) -> list[Row]:
    """The rows of so many classes that have a meaning for the loss, simplest first."""
    found = {
        row.logits + row.weights: row
        for logits in _logits(fmt, classes)
        for row in _with_targets(labelled(logits, 0, fmt), loss)
        if loss.masks or _MASK not in row.logits
    }
    return sorted(found.values(), key=lambda row: simplicity(row, fmt))


def _logits(fmt: FloatFormat, classes: int) -> Iterator[Sequence[float]]:
    numbers = [value for value in _NUMBERS if value <= fmt.largest_finite]
    tiny = [fmt.smallest_normal, fmt.smallest_subnormal]
    yield (0.0,) * classes
    if classes > 1:
        yield (0.0,) * (classes - 1) + (_MASK,)
    for value in (*numbers, *tiny, fmt.largest_finite):
        if classes == 1:
            yield from ([value], [-value])
        elif classes == 2:
            yield from ([0.0, value], [value, 0.0], [0.0, -value], [-value, 0.0])
            yield from ([value, value], [-value, -value], [value, -value], [-value, value])
            yield from ([value, value + 1], [value + 1, value], [-value, 1.0 - value])
            yield from ([value, _MASK], [-value, _MASK])
        else:
            yield from ([0.0, value, 0.0], [0.0, value, value], [value, 0.0, 0.0])
            yield from ([value, value, value], [0.0, value, _MASK], [value, 0.0, _MASK])


def _with_targets(row: Row, loss: LossSpec) -> Iterator[Row]:
    yield row
    if loss.target in (kinds.DISTRIBUTION, kinds.PROBABILITY) and row.classes == 2:
        yield Row(logits=row.logits, weights=(0.5, 0.5), label=0)
    if loss.target in (kinds.BINARY, kinds.PROBABILITY):
        yield Row(logits=row.logits, weights=(0.0,) * row.classes, label=0)
        if loss.target == kinds.PROBABILITY and row.classes == 1:
            yield Row(logits=row.logits, weights=(0.5,), label=0)


@functools.lru_cache(maxsize=1024)
def library_batches(
    loss: LossSpec, fmt: FloatFormat, classes: int, size: int
) -> tuple[tuple[tuple[Row, ...], tuple[str, ...], Prepared], ...]:
    """The library in batches of one size, simplest rows first: rows, regions and exact values.

    The last batch is filled up with its first row.
    """
    rows = library_rows(loss, fmt, classes)
    batches = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        part += part[:1] * (size - len(part))
        regions = tuple(region_of(row.logits, row.label, row.weights, loss, fmt) for row in part)
        batches.append((tuple(part), regions, batch_of(part, loss, fmt, {})))
    return tuple(batches)
