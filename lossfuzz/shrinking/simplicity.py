"""What makes one row simpler than another: an order that decides what shrinking ends with.

In this order: fewer classes, fewer masks, simpler targets, numbers that are easier to read, fewer
different ones, in a long row fewer changes from class to class, fewer negative ones, smaller ones,
a label further to the front. A number is read the more easily the fewer digits it takes; every
integer below 1,000 is as easy as another, so that of two margins the smaller one wins, not the
rounder one.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.decimals import significant_digits

if TYPE_CHECKING:
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.shrinking.rows import Row

Key = tuple[Any, ...]

ZERO, INTEGER, SHORT, ROUND, POWER, LONG = range(6)
"""How hard a number is to read: 0; an integer below 1,000; at most three digits without an
exponent; three digits with an exponent; a power of two; longer ones, by their digits."""


_MANY_NUMBERS = 1000
_ALL_DIGITS = 9
_LONG_ROW = 64


def simplicity(row: Row, fmt: FloatFormat) -> Key:
    """The key by which rows are ordered: the simplest first.

    Args:
        row: any.
        fmt: of its logits, whose numbers are written in the fewest digits that name them.
    """
    if row.classes > _LONG_ROW:
        return _of_long(row, fmt)
    finite = [value for value in row.logits if math.isfinite(value)]
    return (
        row.classes,
        row.classes - len(finite),
        sum(_weight_cost(weight) for weight in row.weights),
        sum(number_cost(value, fmt) for value in finite),
        len(set(row.logits)),
        0,
        sum(math.copysign(1, value) < 0 for value in finite),
        math.fsum(abs(value) / len(finite) for value in finite),
        row.label,
        row.logits,
        row.weights,
    )


def _of_long(row: Row, fmt: FloatFormat) -> Key:
    """The same key of thousands of numbers; very many different ones count as if of all digits."""
    values, weights = np.array(row.logits), np.array(row.weights)
    finite = values[np.isfinite(values)]
    numbers, counts = np.unique(finite, return_counts=True)
    whole, halves = int(((weights == 0) | (weights == 1)).sum()), int((weights == 1 / 2).sum())
    if numbers.size > _MANY_NUMBERS:
        cost = finite.size * (LONG + _ALL_DIGITS)
    else:
        pairs = zip(numbers.tolist(), counts.tolist(), strict=True)
        cost = sum(count * number_cost(value, fmt) for value, count in pairs)
    return (
        row.classes,
        row.classes - finite.size,
        halves + 3 * (weights.size - whole - halves),
        cost,
        numbers.size + int(finite.size < values.size),
        int((values[1:] != values[:-1]).sum()),
        int(np.signbit(finite).sum()),
        math.fsum(abs(finite) / max(finite.size, 1)),
        row.label,
        row.logits,
        row.weights,
    )


@functools.lru_cache(maxsize=1 << 16)
def number_cost(value: float, fmt: FloatFormat) -> int:
    """How hard a finite number is to read, of `ZERO` to `LONG` and beyond."""
    if value == 0:
        return ZERO
    magnitude = abs(value)
    if magnitude < 1000 and magnitude.is_integer():
        return INTEGER
    digits = significant_digits(value, fmt)
    if digits <= 3:
        return SHORT if 1e-3 <= magnitude < 1e6 else ROUND
    return POWER if math.frexp(magnitude)[0] == 1 / 2 else LONG + digits


def _weight_cost(weight: float) -> int:
    """0 for a target that is a class, 1 for halves, more for finer fractions."""
    if weight in (0.0, 1.0):
        return 0
    return 1 if weight == 1 / 2 else 3
