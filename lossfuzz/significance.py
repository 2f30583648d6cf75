"""How likely a difference of two runs is by chance, and which differences count."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.results.histogram import INFINITE_BIN, upper_edge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results.histogram import Histogram

    Pair = tuple[float, float]

_SHIFT = 5
"""Bins that errors are made larger by before a test: ``2**(5/32)`` is 1.11."""

NEGLIGIBLE = 0.5
"""Ulp that rounding alone may leave, so that no error up to it is too large."""

_FIRST_BIN = next(index for index in range(INFINITE_BIN) if upper_edge(index) >= NEGLIGIBLE)


def excess_chance(few: int, first: int, many: int, second: int) -> float:
    """Fisher's exact test: how likely the second sample shows so many or more of all that show.

    Args:
        few: how many of the first sample show it.
        first: the first sample's size.
        many: how many of the second sample show it.
        second: the second sample's size.

    Returns:
        The chance; 1 where it is about a half or more.
    """
    shown, size = few + many, first + second
    if many * size <= shown * second:
        return 1.0
    term = math.exp(_log_choose(second, many) + _log_choose(first, few) - _log_choose(size, shown))
    chance = 0.0
    for here in range(many, min(shown, second) + 1):
        chance += term
        if term <= 1e-17 * chance:
            break
        term *= (shown - here) * (second - here) / ((here + 1) * (first - shown + here + 1))
    return min(1.0, chance)


def _log_choose(size: int, part: int) -> float:
    return math.lgamma(size + 1) - math.lgamma(part + 1) - math.lgamma(size - part + 1)


def larger_chance(smaller: Histogram, first: float, larger: Histogram, second: float) -> float:
    """Smirnov's test: how likely the second sample's errors are so much larger, if they are not.

    Args:
        smaller: the first sample's errors; they count a ninth larger than they are.
        first: the first sample's size.
        larger: the second sample's errors.
        second: the second sample's size.
    """
    counts = smaller.counts.copy()
    finite = counts[1:INFINITE_BIN]
    top = int(finite[-_SHIFT:].sum())
    finite[_SHIFT:] = finite[:-_SHIFT].copy()
    finite[:_SHIFT] = 0
    finite[-1] += top
    below = np.cumsum(counts) / smaller.total - np.cumsum(larger.counts) / larger.total
    distance = max(0.0, float(below[_FIRST_BIN:].max()))
    size = 2 * first * second / (first + second) if first and second else 0.0
    step = size * distance
    return math.exp(
        2 * math.lgamma(size + 1) - math.lgamma(size - step + 1) - math.lgamma(size + step + 1)
    )


def false_discovery_limit(chances: Sequence[float], level: float) -> float:
    """Benjamini and Hochberg's largest chance that is still significant; -1 if none is."""
    ordered = sorted(chances)
    limit = -1.0
    for rank, chance in enumerate(ordered, 1):
        if chance <= level * rank / len(ordered):
            limit = chance
    return limit
