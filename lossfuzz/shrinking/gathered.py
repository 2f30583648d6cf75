"""Long rows of few different numbers: the label's, a few large ones, and one for all the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.shrinking.rows import Row, one_hot
from lossfuzz.shrinking.simplicity import simplicity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat

    Reals = NDArray[np.float64]

LONG = 64
"""Rows of more classes are gathered before anything else is tried."""

FEW_NUMBERS = 8
"""Rows of so many different numbers are gathered already."""

_KEPT = (0, 1, 2, 8)
_LEVELS = (16, 4)


def gathered_rows(row: Row, loss: LossSpec, fmt: FloatFormat) -> list[Row]:
    """Rows of as many classes with fewer different numbers, the simplest first.

    The rest's number is, among others, that which keeps its log-sum-exp; the largest numbers stay
    as they are, next to the label. At last the row itself, with its numbers in order and in steps.
    """
    found: dict[tuple[tuple[float, ...], int], Row] = {}
    for one in _candidates(row, loss, fmt):
        found.setdefault((one.logits, one.label), one)
    keyed = [(simplicity(one, fmt), one) for one in found.values()]
    key = simplicity(row, fmt)
    return [one for other, one in sorted(keyed, key=lambda pair: pair[0]) if other < key]


def _candidates(row: Row, loss: LossSpec, fmt: FloatFormat) -> Iterator[Row]:
    values = np.array(row.logits)
    others = np.delete(values, row.label)
    masked = int(np.isneginf(others).sum())
    ordered = np.sort(others[np.isfinite(others)])[::-1]
    if not ordered.size or not math.isfinite(row.logits[row.label]):
        return
    for kept in _KEPT:
        if kept >= ordered.size:
            break
        for level in _levels(ordered[kept:], few=kept > 0):
            rest = np.full(ordered.size - kept, level)
            yield from _placed(row, np.concatenate([ordered[:kept], rest]), masked, loss, fmt)
    for count in _LEVELS:
        steps = [step for step in np.array_split(ordered, count) if step.size]
        stairs = np.concatenate([np.full(step.size, _log_mean_exp(step)) for step in steps])
        yield from _placed(row, stairs, masked, loss, fmt)
    yield from _placed(row, ordered, masked, loss, fmt)


def _levels(rest: Reals, *, few: bool) -> list[float]:
    """What one number may stand for the rest."""
    found = [_log_mean_exp(rest), float(rest[0]), float(np.median(rest))]
    if not few:
        found += [0.0, float(rest[-1])]
    return list(dict.fromkeys([*map(round, found), *found]))


def _log_mean_exp(values: Reals) -> float:
    """The number that all of them may be without another log-sum-exp."""
    largest = float(values.max())
    return largest + math.log(np.exp(values - largest).mean())


def _placed(
    row: Row, others: Reals, masked: int, loss: LossSpec, fmt: FloatFormat
) -> Iterator[Row]:
    """A row of the label's logit and others, the label where it was, first or last."""
    whole = np.concatenate([others, np.full(masked, -np.inf)])
    limit = fmt.largest_finite
    for place in dict.fromkeys((0, row.label, row.classes - 1)):
        logits = np.insert(whole, place, row.logits[row.label])
        clipped = np.where(np.isneginf(logits), logits, np.clip(logits, -limit, limit))
        rounded = fmt.cast(clipped).astype(np.float64) + 0.0
        yield Row(logits=tuple(rounded.tolist()), weights=_weights(row, place, loss), label=place)


def _weights(row: Row, place: int, loss: LossSpec) -> tuple[float, ...]:
    if loss.target == kinds.IGNORABLE and not any(row.weights):
        return row.weights
    return one_hot(place, row.classes)
