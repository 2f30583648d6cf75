"""The families of logits: each fills a batch with one way of being hard.

A family is a function ``(generator, rows, classes, format, magnitude) -> [rows, classes]`` of
float64 values that are then rounded to the format. ``magnitude`` in [0, 1) runs from the tamest
to the wildest of the family.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formats import FloatFormat, from_ordinals, neighbours, ordinals

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Values = NDArray[np.float64]
    Family = Callable[[np.random.Generator, int, int, FloatFormat, float], Values]

KERAS_CLIP_EPSILON = 1e-7
"""Where Keras clips probabilities; here only as a place worth visiting, never as a tolerance."""


def margin_thresholds(fmt: FloatFormat) -> Values:
    """The margins at which something happens in softmax: underflow, absorption, clipping."""
    return np.array(
        [
            -math.log(2 * fmt.unit_roundoff),
            -math.log(fmt.unit_roundoff),
            -math.log(KERAS_CLIP_EPSILON),
            -math.log(fmt.smallest_normal),
            -math.log(fmt.smallest_subnormal),
            -math.log(fmt.smallest_subnormal) + math.log(2),
            math.log(fmt.largest_finite),
        ]
    )


def _scale(magnitude: float, fmt: FloatFormat, lowest: float = -10.0) -> float:
    """A power of two from ``2**lowest`` up to an eighth of the largest finite number."""
    highest = min(fmt.emax - 3.0, 40.0)
    return float(2.0 ** (lowest + magnitude * (highest - lowest)))


def _column(generator: np.random.Generator, rows: int, classes: int) -> NDArray[np.intp]:
    return generator.integers(0, classes, rows).astype(np.intp)


def uniform(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Uniform in [-scale, scale]."""
    return g.uniform(-1, 1, (rows, classes)) * _scale(m, fmt)


def normal(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Normal, at the scale of a network's logits: 1/32 to 32."""
    del fmt
    return g.normal(0.0, 2.0 ** (10 * m - 5), (rows, classes))


def margin_sweep(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """One logit leads equal others by margins that sweep across every threshold."""
    values = np.full((rows, classes), np.round(8 * m))
    limit = 1.1 * margin_thresholds(fmt).max() if m >= 0.5 else 40.0
    values[np.arange(rows), _column(g, rows, classes)] += np.linspace(0, limit, rows)
    return values


def threshold_neighbours(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Margins a few steps of the format around each threshold."""
    reach = 1 + int(8 * m)
    at = fmt.cast(g.choice(margin_thresholds(fmt), rows))
    values = np.zeros((rows, classes))
    near = neighbours(at, g.integers(-reach, reach + 1, rows), fmt)
    values[np.arange(rows), _column(g, rows, classes)] = near.astype(np.float64)
    return values


def ties(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """The largest logit is shared, exactly or but for one step of the format."""
    values = fmt.cast(g.normal(size=(rows, classes)) * _scale(m, fmt, -3))
    largest = np.broadcast_to(values.max(axis=1, keepdims=True), values.shape)
    shared = g.random((rows, classes)) < g.choice([0.1, 0.5, 1.0], (rows, 1))
    steps = g.integers(-1, 2, (rows, classes)) * g.integers(0, 2, (rows, 1))
    shifted = neighbours(largest, steps, fmt)
    return np.asarray(np.where(shared, shifted, values), np.float64)


def offset(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """A common offset of either sign: the loss should not see it."""
    common = g.choice([-1.0, 1.0], (rows, 1)) * _scale(m, fmt, 0)
    return g.normal(size=(rows, classes)) * 4 + common


def far_below_zero(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """All logits far below zero: their own exponentials vanish, the loss does not."""
    return -_scale(m, fmt, 3) - np.abs(g.normal(size=(rows, classes))) * 8


def zeros(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Zeros of both signs, here and there beside the smallest numbers."""
    values = g.choice([0.0, -0.0], (rows, classes))
    return np.where(g.random((rows, classes)) < m / 4, fmt.smallest_subnormal, values)


def outlier(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """One logit far above, or far below, ordinary others."""
    values = g.normal(size=(rows, classes))
    sizes = g.choice([-1.0, 1.0], rows) * _scale(m, fmt, 2) * g.uniform(0.5, 1, rows)
    values[np.arange(rows), _column(g, rows, classes)] = sizes
    return values


def subnormals(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Subnormal logits, with ordinary ones among them as magnitude grows."""
    limit = int(ordinals(np.array([fmt.smallest_normal]).astype(fmt.dtype), fmt)[0])
    tiny = from_ordinals(g.integers(-limit, limit + 1, (rows, classes)), fmt).astype(np.float64)
    return np.where(g.random((rows, classes)) < m / 2, g.normal(size=(rows, classes)), tiny)


def largest_finite(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Logits at and near the largest finite numbers of either sign."""
    last = fmt.infinity_ordinal - 1
    near = from_ordinals(last - g.integers(0, 4, (rows, classes)), fmt).astype(np.float64)
    signed = near * g.choice([-1.0, 1.0], (rows, classes), p=[m, 1 - m])
    return np.where(g.random((rows, classes)) < 0.25, 0.0, signed)


def masks(g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Classes masked by -inf, from one to all but one; a few rows entirely."""
    values = g.normal(size=(rows, classes)) * _scale(m / 2, fmt, -1)
    masked = g.random((rows, classes)) < g.choice([0.1, 0.5, 0.95], (rows, 1))
    masked[np.arange(rows), _column(g, rows, classes)] = g.random(rows) < 1 / 32
    return np.where(masked, -np.inf, values)


def constant(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Every logit of a row is the same number: loss log(classes), gradient 1/classes."""
    return np.repeat(g.normal(size=(rows, 1)) * _scale(m, fmt), classes, axis=1)


def long_tail(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """One leader whose weight is of the order of all the others together."""
    del fmt
    values = g.normal(size=(rows, classes)) * (0.25 + m)
    lead = math.log(classes) + g.uniform(-6, 12, rows)
    values[np.arange(rows), _column(g, rows, classes)] = lead
    return values


def mixed_scales(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Every row of the batch has a scale of its own."""
    scales = np.array([_scale(u * max(m, 0.1), fmt) for u in g.random(rows)])
    return g.normal(0.0, scales[:, None], (rows, classes))


def large_labels(
    g: np.random.Generator, rows: int, classes: int, fmt: FloatFormat, m: float
) -> Values:
    """Ordinary logits; the labels lie where half formats no longer count by ones."""
    return normal(g, rows, classes, fmt, m)


FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        uniform,
        normal,
        margin_sweep,
        threshold_neighbours,
        ties,
        offset,
        far_below_zero,
        zeros,
        outlier,
        subnormals,
        largest_finite,
        masks,
        constant,
        long_tail,
        mixed_scales,
        large_labels,
    )
}
"""Every family by name."""


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown family {name!r}; known families: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def label_rows(g: np.random.Generator, logits: NDArray[Any], family: str) -> NDArray[np.int32]:
    """A label for every row: first, last, winning, losing, random, rarely a masked one.

    Args:
        g: the recipe's generator.
        logits: shape ``[rows, classes]``.
        family: its name; `large_labels` takes odd labels at the end of the range.
    """
    rows, classes = logits.shape
    if family == large_labels.__name__:
        back = 2 * g.integers(0, max(1, classes // 4), rows)
        return np.asarray(classes - 1 - back, np.int32)
    finite = np.isfinite(logits)
    wide = logits.astype(np.float64)
    rules = np.stack(
        [
            np.zeros(rows, np.int64),
            np.full(rows, classes - 1),
            wide.argmax(axis=1),
            np.where(finite, wide, np.inf).argmin(axis=1),
            g.integers(0, classes, rows),
        ]
    )
    chosen = rules[g.choice(5, rows, p=[0.1, 0.1, 0.3, 0.3, 0.2]), np.arange(rows)]
    masked = ~finite[np.arange(rows), chosen] & (g.random(rows) < 0.9)
    return np.asarray(np.where(masked, rules[2], chosen), np.int32)
