"""Errors of a whole gradient, block by block while a block is in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.bounds import defect_bound
from lossfuzz.harness.numbers.layout import empty_rows
from lossfuzz.harness.numbers.ulp import right_infinities
from lossfuzz.harness.results.histogram import Histogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.measuring.conditions import Conditions
    from lossfuzz.harness.numbers.formats import FloatFormat

    Reals = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_BLOCK_LOGITS = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientErrors:
    """Errors of the gradient of every row, shape ``[rows]`` each.

    Attributes:
        ulp: largest ULP error of a component, in ulps of the gradient's format.
        mixed: largest error in units of u, and of the gradient's scale.
        scaled: largest error divided by the component's condition.
        ulps: ULP errors of all components of judged rows.
        finite: whether every component is finite.
        largest_observed: largest magnitude of a component.
        label_observed: the label's component.
        label_exact: what it should be.
        label_mixed: its error in units of u.
        flipped: whether a component has the opposite sign of the exact one.
        flipped_mixed: the largest mixed error of such components, or, where the row's largest
            is within the defect bound, any number up to that.
        format: of the logits.
    """

    ulp: Reals
    mixed: Reals
    scaled: Reals
    ulps: Histogram
    finite: Flags
    largest_observed: Reals
    label_observed: Reals
    label_exact: Reals
    label_mixed: Reals
    flipped: Flags
    flipped_mixed: Reals
    format: FloatFormat


def gradient_errors(
    observed: NDArray[Any], reference: Reference, labels: NDArray[Any], conditions: Conditions
) -> GradientErrors:
    """Measure a gradient ``[rows, classes]`` against its reference, in its logits' format.

    A wider dtype than that, as an optimizer receives under a mixed policy, counts as that format.
    Where a component's exact value overflows it, infinity is right.
    """
    fmt = conditions.format
    rows, classes = observed.shape
    ulp, worst, scaled, largest, lowest, flipped_error = (np.zeros(rows) for _ in range(6))
    histogram = Histogram()
    index = np.arange(rows)
    units = fmt.unit_roundoff * conditions.scale
    tolerance = defect_bound(classes, fmt) * fmt.unit_roundoff
    tolerated = tolerance * conditions.scale
    overflows = bool((conditions.largest_gradient > fmt.largest_finite / 2).any())
    block = min(rows, max(1, _BLOCK_LOGITS // classes))
    buffers = [empty_rows(block, classes) for _ in range(3)]
    for start in range(0, rows, block):
        part = slice(start, min(start + block, rows))
        values, error, product = (buffer[: part.stop - start] for buffer in buffers)
        exact = conditions.gradient[part]
        values[...] = observed[part].astype(np.float64)  # to cast and to transpose is slow at once
        if overflows:
            values[...] = _without_right_infinities(values, exact, fmt, tolerance)
        np.subtract(values, exact, out=error)
        np.abs(error, out=error)
        worst[part] = error.max(axis=1)
        if np.isnan(worst[part]).any():
            np.fmin(error, np.inf, out=error)
            worst[part] = error.max(axis=1)
        np.multiply(error, conditions.per_condition[part], out=product)
        scaled[part] = product.max(axis=1)
        if conditions.one_sided:
            values[index[: part.stop - start], labels[part]] = 0
            # how wrong a negative component is matters only where a defect or an exact 0 can be
            unclear = (worst[part] > tolerated[part]) | (conditions.smallest_other[part] == 0)
            lowest[part] = values.min(axis=1)
            if (unclear & (lowest[part] < 0)).any():
                flipped_error[part] = _negative_error(values, error, exact)
        else:
            flipped_error[part] = _opposite_error(values, error, exact)
            lowest[part] = values.min(axis=1)
        largest[part] = values.max(axis=1)
        np.multiply(error, conditions.per_ulp[part], out=product)
        ulp[part] = product.max(axis=1)
        judged = reference.judged[part]
        histogram.consume(product if judged.all() else product[judged])
    label_exact = reference.gradient[index, labels]
    label_observed = observed[index, labels].astype(np.float64)
    label_observed = _without_right_infinities(label_observed, label_exact, fmt, tolerance)
    label_mixed = np.abs(label_observed - label_exact) / units
    label_mixed[np.isnan(label_mixed)] = np.inf
    wrong_label = label_observed * label_exact < 0
    flipped_mixed = np.maximum(flipped_error / units, np.where(wrong_label, label_mixed, 0))
    flipped = flipped_mixed > 0
    if conditions.one_sided:
        flipped |= (lowest < 0) & (conditions.smallest_other > 0)
    return GradientErrors(
        ulp=ulp,
        mixed=worst / units,
        scaled=scaled,
        ulps=histogram,
        finite=np.isfinite(largest) & np.isfinite(lowest) & np.isfinite(label_observed),
        largest_observed=np.maximum(np.maximum(largest, -lowest), np.abs(label_observed)),
        label_observed=label_observed,
        label_exact=label_exact,
        label_mixed=label_mixed,
        flipped=flipped,
        flipped_mixed=flipped_mixed,
        format=fmt,
    )


def _without_right_infinities(
    values: Reals, exact: Reals, fmt: FloatFormat, tolerance: float
) -> Reals:
    """The values with the exact one in place of every infinity that is right."""
    return np.where(right_infinities(values, exact, fmt, tolerance), exact, values)


def _opposite_error(values: Reals, error: Reals, exact: Reals) -> Reals:
    """The largest error of components of the wrong sign, whatever signs are right."""
    opposite = ((values < 0) & (exact > 0)) | ((values > 0) & (exact < 0))
    if not opposite.any():
        return np.zeros(len(values))
    return np.asarray(np.where(opposite, error, 0).max(axis=1))


def _negative_error(values: Reals, error: Reals, exact: Reals) -> Reals:
    """The largest error of components below zero whose exact value is above; the label's is 0."""
    opposite = (values < 0) & (exact > 0)
    return np.asarray(np.where(opposite, error, 0).max(axis=1))
