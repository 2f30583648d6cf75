"""Bounds on logits: rows of any family, brought into an interval such as that of cosines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.strategies.source import Source

Bounds = tuple[float, float]

_AT_AN_EDGE = 1 / 8
_NEAREST = 4


def checked_bounds(bounds: Bounds) -> Bounds:
    """The bounds themselves as floats, if they are an interval.

    Raises:
        ValueError: they are none; the message says what is expected.
    """
    try:
        if isinstance(bounds, str | bytes | dict | set | frozenset):
            raise TypeError(type(bounds).__name__)  # noqa: TRY301 - told as all others are
        low, high = map(float, bounds)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"expected bounds of the logits as two numbers such as (-1, 1), got {bounds!r:.80}"
        ) from None
    if not low < high:
        raise ValueError(f"expected a lower bound below the upper one, got {low:g} and {high:g}")
    return low, high


def bounded(
    g: Source, values: NDArray[np.float64], bounds: Bounds, fmt: FloatFormat
) -> NDArray[Any]:
    """Values ``[rows, classes]`` brought between bounds, as numbers of the format.

    Every other row is clipped, the others are scaled until their largest number reaches a bound;
    some numbers lie exactly at a bound or within a few numbers of the format from it.
    """
    low, high = bounds
    finite = np.nan_to_num(values, posinf=fmt.largest_finite, neginf=-fmt.largest_finite)
    clipped = np.clip(finite, low, high)
    clipped[1::2] = _scaled(finite[1::2], low, high)
    numbers = fmt.cast(np.clip(clipped, -fmt.largest_finite, fmt.largest_finite))
    numbers = _inside(numbers, low, high, fmt)
    edges = [edge for edge in bounds if abs(edge) <= fmt.largest_finite]
    if not edges:
        return numbers
    chosen = g.choice(np.array(edges), values.shape)
    inward = np.where(chosen == high, -1, 1) * g.integers(0, _NEAREST, values.shape)
    near = neighbours(_inside(fmt.cast(chosen), low, high, fmt), inward, fmt)
    return np.where(g.random(values.shape) < _AT_AN_EDGE, near, numbers)


def _scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Each row's magnitudes in proportion, its largest at a bound; by one bound, beyond it."""
    if math.isinf(low) or math.isinf(high):
        beyond = np.abs(values)
        return low + beyond if math.isinf(high) else high - beyond
    largest = np.abs(values).max(axis=1, keepdims=True)
    share = values / np.where(largest > 0, largest, 1.0)
    return np.asarray((low + high) / 2 + share * (high - low) / 2)


def _inside(numbers: NDArray[Any], low: float, high: float, fmt: FloatFormat) -> NDArray[Any]:
    """Numbers of the format, one step inward where rounding took them beyond a bound."""
    wide = numbers.astype(np.float64)
    steps = (wide < low).astype(np.int64) - (wide > high).astype(np.int64)
    return neighbours(numbers, steps, fmt)
