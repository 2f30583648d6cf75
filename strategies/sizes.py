"""Families of logits that are hard by their size: scales, margins, offsets, the format's ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.numbers.formats import from_ordinals, neighbours, ordinals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.strategies.source import Source

    Values = NDArray[np.float64]

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


def scale(magnitude: float, fmt: FloatFormat, lowest: float = -10.0) -> float:
    """A power of two from ``2**lowest`` up to an eighth of the largest finite number."""
    highest = min(fmt.emax - 3.0, 40.0)
    return float(2.0 ** (lowest + magnitude * (highest - lowest)))


def column(generator: Source, rows: int, classes: int) -> NDArray[np.intp]:
    """A class for every row."""
    return generator.integers(0, classes, rows).astype(np.intp)


def uniform(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Uniform in [-scale, scale]."""
    return g.uniform(-1, 1, (rows, classes)) * scale(m, fmt)


def normal(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Normal, at the scale of a network's logits: 1/32 to 32."""
    del fmt
    return g.normal(0.0, 2.0 ** (10 * m - 5), (rows, classes))


def margin_sweep(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """One logit leads equal others by margins that sweep across every threshold."""
    values = np.full((rows, classes), np.round(8.0 * m))
    limit = 1.1 * margin_thresholds(fmt).max() if m >= 0.5 else 40.0
    values[np.arange(rows), column(g, rows, classes)] += g.sweep(0, limit, rows)
    return values


def threshold_neighbours(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Margins a few steps of the format around each threshold."""
    reach = 1 + int(8 * m)
    at = fmt.cast(g.choice(margin_thresholds(fmt), rows))
    values = np.zeros((rows, classes))
    near = neighbours(at, g.integers(-reach, reach + 1, rows), fmt)
    values[np.arange(rows), column(g, rows, classes)] = near.astype(np.float64)
    return values


def decided(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """The first logit far above the rest, or the rest far above it; the label is the first."""
    limit = (0.25 + m) * margin_thresholds(fmt).max()
    leads = g.choice([-1.0, 1.0], rows) * g.sweep(0, limit, rows)
    values = np.zeros((rows, classes))
    values[:, 0] = leads
    return values


def offset(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """A common offset of either sign: the loss should not see it."""
    common = g.choice([-1.0, 1.0], (rows, 1)) * scale(m, fmt, 0)
    return g.normal(size=(rows, classes)) * 4 + common


def far_below_zero(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """All logits far below zero: their own exponentials vanish, the loss does not."""
    return -scale(m, fmt, 3) - np.abs(g.normal(size=(rows, classes))) * 8


def outlier(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """One logit far above, or far below, ordinary others."""
    values = g.normal(size=(rows, classes))
    sizes = g.choice([-1.0, 1.0], rows) * scale(m, fmt, 2) * g.uniform(0.5, 1, rows)
    values[np.arange(rows), column(g, rows, classes)] = sizes
    return values


def subnormals(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Subnormal logits, with ordinary ones among them as magnitude grows."""
    limit = int(ordinals(np.array([fmt.smallest_normal]).astype(fmt.dtype), fmt)[0])
    tiny = from_ordinals(g.integers(-limit, limit + 1, (rows, classes)), fmt).astype(np.float64)
    return np.where(g.random((rows, classes)) < m / 2, g.normal(size=(rows, classes)), tiny)


def largest_finite(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Logits at and near the largest finite numbers of either sign."""
    last = fmt.infinity_ordinal - 1
    near = from_ordinals(last - g.integers(0, 4, (rows, classes)), fmt).astype(np.float64)
    signed = near * g.choice([-1.0, 1.0], (rows, classes), p=[m, 1 - m])
    return np.where(g.random((rows, classes)) < 0.25, 0.0, signed)


def mixed_scales(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Every row of the batch has a scale of its own."""
    scales = np.array([scale(u * max(m, 0.1), fmt) for u in g.random(rows)])
    return g.normal(0.0, scales[:, None], (rows, classes))


def magnitudes(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Every magnitude of the format, in the same row as magnitude grows: squares overflow."""
    lowest, highest = fmt.emin, fmt.emax - 2
    centres = g.uniform(lowest, highest, (rows, 1))
    exponents = centres + m * g.uniform(lowest, highest, (rows, classes)) / 2
    signs = g.choice([-1.0, 1.0], (rows, classes))
    return signs * 2.0 ** np.clip(exponents, lowest, highest)
