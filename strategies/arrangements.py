"""Families of logits that are hard by how a row's numbers, or a batch's rows, stand together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.numbers.formats import neighbours
from lossfuzz.strategies.sizes import column, normal, scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.strategies.source import Source

    Values = NDArray[np.float64]


def ties(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """The largest logit is shared, exactly or but for one step of the format."""
    values = fmt.cast(g.normal(size=(rows, classes)) * scale(m, fmt, -3))
    largest = np.broadcast_to(values.max(axis=1, keepdims=True), values.shape)
    shared = g.random((rows, classes)) < g.choice([0.1, 0.5, 1.0], (rows, 1))
    steps = g.integers(-1, 2, (rows, classes)) * g.integers(0, 2, (rows, 1))
    shifted = neighbours(largest, steps, fmt)
    return np.asarray(np.where(shared, shifted, values), np.float64)


def zeros(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Zeros of both signs, here and there beside the smallest numbers."""
    values = g.choice([0.0, -0.0], (rows, classes))
    return np.where(g.random((rows, classes)) < m / 4, fmt.smallest_subnormal, values)


def masks(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Classes masked by -inf, from one to all but one; a few rows entirely."""
    values = g.normal(size=(rows, classes)) * scale(m / 2, fmt, -1)
    masked = g.random((rows, classes)) < g.choice([0.1, 0.5, 0.95], (rows, 1))
    masked[np.arange(rows), column(g, rows, classes)] = g.random(rows) < 1 / 32
    return np.where(masked, -np.inf, values)


def constant(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Every logit of a row is the same number: loss log(classes), gradient 1/classes."""
    return np.repeat(g.normal(size=(rows, 1)) * scale(m, fmt), classes, axis=1)


def long_tail(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """One leader whose weight is of the order of all the others together."""
    del fmt
    values = g.normal(size=(rows, classes)) * (0.25 + m)
    lead = math.log(classes) + g.uniform(-6, 12, rows)
    values[np.arange(rows), column(g, rows, classes)] = lead
    return values


def whole_numbers(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Integers, half-integers and powers of two: what kinks and exact comparisons meet."""
    del fmt
    reach = 2 ** (1 + int(6 * m))
    integers = g.integers(-reach, reach + 1, (rows, classes)).astype(np.float64)
    powers = g.choice([-1.0, 1.0], (rows, classes)) * 2.0 ** g.integers(-3, 8, (rows, classes))
    kind = g.integers(0, 3, (rows, 1))
    return np.where(kind == 0, integers, np.where(kind == 1, integers / 2, powers))


def clusters(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Logits of ordinary size that differ by a few steps of the format: all is cancellation."""
    centres = g.choice([-1.0, 1.0], (rows, 1)) * 2.0 ** g.uniform(-2, 2 + 8 * m, (rows, 1))
    around = np.broadcast_to(fmt.cast(centres), (rows, classes))
    steps = np.round(g.normal(size=(rows, classes)) * 2.0 ** g.integers(0, 8, (rows, 1)))
    return neighbours(around, steps.astype(np.int64), fmt).astype(np.float64)


def lone_row(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Ordinary rows beside a few of another size: what leaks through the batch shows."""
    values = g.normal(size=(rows, classes)) * 4
    far = g.choice(rows, max(1, rows // 64), replace=False)
    values[far] += g.choice([-1.0, 1.0]) * scale(m, fmt, 5)
    return values


def equal_rows(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """One row throughout the batch, its leader ahead by up to 256: sums over the batch add up."""
    del fmt
    row = g.normal(size=classes)
    row[g.integers(0, classes)] += 2.0 ** (8 * m)
    return np.tile(row, (rows, 1))


def finite_masks(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Classes masked by a large negative number, as padding is: -1e4, -1e9, the lowest number."""
    values = g.normal(size=(rows, classes)) * 2.0 ** (8 * m - 2)
    mask = -np.minimum(g.choice([1e4, 1e9, fmt.largest_finite], (rows, 1)), fmt.largest_finite)
    masked = g.random((rows, classes)) < g.choice([0.1, 0.5, 0.9], (rows, 1))
    masked[np.arange(rows), column(g, rows, classes)] = False
    return np.asarray(np.where(masked, mask, values), np.float64)


def patterns(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Logits in an order: ascending, descending, of alternating sign, in two halves."""
    ramp = np.linspace(-1, 1, classes)
    signs = np.where(np.arange(classes) % 2 == 0, 1.0, -1.0)
    shapes = np.stack([ramp, -ramp, signs, np.where(ramp < 0, -1.0, 1.0)])
    scales = 2.0 ** g.uniform(-2, np.log2(scale(m, fmt, 0)) + 1e-9, (rows, 1))
    return np.asarray(shapes[g.integers(0, len(shapes), rows)] * scales, np.float64)


def large_labels(g: Source, rows: int, classes: int, fmt: FloatFormat, m: float) -> Values:
    """Ordinary logits; the labels lie where half formats no longer count by ones."""
    return normal(g, rows, classes, fmt, m)
