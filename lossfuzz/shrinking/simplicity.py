"""What makes one row simpler than another: an order that decides what shrinking ends with.

In this order: fewer classes, fewer masks, simpler targets, numbers that are easier to read, fewer
different ones, in a long row fewer changes from class to class, fewer negative ones, smaller ones,
a label further to the front. A number is read the more easily the fewer digits it takes; every
integer below 1,000 is as easy as another, so that of two margins the smaller one wins, not the
rounder one.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.decimals import significant_digits

if TYPE_CHECKING:
    from lossfuzz.harness.formats import FloatFormat
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
    finite = [value for value in row.logits if math.isfinite(value)]
    different = set(row.logits)
    return (
        row.classes,
        row.classes - len(finite),
        sum(_weight_cost(weight) for weight in row.weights),
        _numbers_cost(finite, fmt),
        len(different),
        _runs(row.logits) if row.classes > _LONG_ROW else 0,
        sum(math.copysign(1, value) < 0 for value in finite),
        math.fsum(abs(value) / len(finite) for value in finite),
        row.label,
        row.logits,
        row.weights,
    )


def _numbers_cost(values: list[float], fmt: FloatFormat) -> int:
    """Of all numbers; of very many different ones as if each took all digits."""
    counts = Counter(values)
    if len(counts) > _MANY_NUMBERS:
        return len(values) * (LONG + _ALL_DIGITS)
    return sum(count * number_cost(value, fmt) for value, count in counts.items())


def _runs(values: tuple[float, ...]) -> int:
    """How often the number changes from one class to the next."""
    return sum(one != other for one, other in itertools.pairwise(values))


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
