"""One batch in, one Measurement out: errors in three measures, and the kinds that rows show.

The defect bound. With d_k = x_k - max x and p the softmax, the shift rounds each d_k by u |d_k|,
exp, log and division err by about u, and a plain sum of n terms by (n - 1) u (Blanchard, Higham &
Higham 2021, "Accurately computing the log-sum-exp and softmax functions", section 4). What the
shifts do to the sum is sum_k p_k |d_k| u, at most the entropy of p, so at most u ln n; what they
do to a component is p |d| u, below u / e; the logarithm's own rounding adds u ln n; and the loss
is at least |d_y|, which covers the label's shift. So every shifted algorithm stays within
(n + 2 ln n + 8) u times max(1, |value|), whatever the order of its sum, and one that errs by more
does something else than rounding. Where that exceeds one half (257 classes in bfloat16), one half
is the bound: no promise survives an error as large as the value. Where the loss is returned in a
wider format than the logits', u is still the logits': a path cannot owe more digits than its
input's operations carry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness import findings as kinds
from lossfuzz.harness.formats import FloatFormat, format_of
from lossfuzz.harness.ulp import ulp_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.reference.judge import Reference

    Flags = NDArray[np.bool_]
    Reals = NDArray[np.float64]


_FOUR_BITS = 2.0**-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one cell did on one batch.

    Attributes:
        judged: shape ``[rows]``; rows with an exact value, the only ones that count below.
        loss_ulp: shape ``[rows]``, in ulps of the loss's format.
        loss_mixed: in units of ``u * max(1, |exact|)``.
        loss_scaled: divided by the loss's condition, ``u * (|loss| + sum_k |x_k g_k|)``.
        gradient_ulp: shape ``[rows, classes]``, in ulps of the logits' format.
        gradient_mixed: in units of u.
        gradient_scaled: divided by ``u * |g_j| * (1 + |x_j| + sum_k p_k |x_k|)``.
        bound: the defect bound on the mixed errors.
        zero_gradient: shape ``[rows]``; every component of the gradient is exactly 0.
        defects: kind to flags, shape ``[rows]``.
        inaccuracies: kind to flags, shape ``[rows]``.
    """

    judged: Flags
    loss_ulp: Reals
    loss_mixed: Reals
    loss_scaled: Reals
    gradient_ulp: Reals
    gradient_mixed: Reals
    gradient_scaled: Reals
    bound: float
    zero_gradient: Flags
    defects: dict[str, Flags]
    inaccuracies: dict[str, Flags]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the measures of a batch need of its exact values; computed once for all cells.

    Attributes:
        loss: shape ``[rows]``, ``|loss| + sum_k |x_k g_k|``.
        gradient: shape ``[rows, classes]``, ``|g_j| * (1 + |x_j| + sum_k p_k |x_k|)``.
        margin: shape ``[rows]``, the rest's log-sum-exp minus the label's logit: with one rival,
            the difference of the two; positive where the label loses.
        largest_gradient: shape ``[rows]``, the largest magnitude of the row's gradient.
    """

    loss: Reals
    gradient: Reals
    margin: Reals
    largest_gradient: Reals


def defect_bound(classes: int, fmt: FloatFormat) -> float:
    """The largest mixed error that rounding explains, in units of u."""
    return min(classes + 2 * math.log(classes) + 8, 0.5 / fmt.unit_roundoff)


def conditions_of(logits: NDArray[Any], labels: NDArray[Any], reference: Reference) -> Conditions:
    """The condition of every value, and the margins, of a batch ``[rows, classes]``."""
    values = logits.astype(np.float64)
    rows = np.arange(len(labels))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        magnitudes = np.where(np.isfinite(values), np.abs(values), 0)
        steepness = np.abs(reference.gradient)
        spread = (steepness * magnitudes).sum(axis=1)
        probabilities = reference.gradient.copy()
        probabilities[rows, labels] += 1
        mean = (np.abs(probabilities) * magnitudes).sum(axis=1)
        # log(exp(loss) - 1), without overflow and without cancellation
        margin = reference.loss + np.log(-np.expm1(-reference.loss))
    return Conditions(
        loss=np.abs(reference.loss) + spread,
        gradient=steepness * (1 + magnitudes + mean[:, None]),
        margin=margin,
        largest_gradient=steepness.max(axis=1),
    )


def measure(
    observed_loss: NDArray[Any],
    observed_gradient: NDArray[Any],
    reference: Reference,
    labels: NDArray[Any],
    conditions: Conditions,
) -> Measurement:
    """Errors and flags of a cell's result for a batch.

    Args:
        observed_loss: shape ``[rows]``, in whatever format the path returned.
        observed_gradient: shape ``[rows, classes]``, in the logits' format.
        reference: of the same rows.
        labels: shape ``[rows]``.
        conditions: of the same rows.
    """
    fmt, loss_format = format_of(observed_gradient), format_of(observed_loss)
    coarser = fmt if fmt.unit_roundoff >= loss_format.unit_roundoff else loss_format
    roundoff = coarser.unit_roundoff
    loss = observed_loss.astype(np.float64)
    gradient = observed_gradient.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        loss_error = np.abs(loss - reference.loss)
        loss_error[np.isnan(loss_error)] = np.inf
        gradient_error = np.abs(gradient - reference.gradient)
        gradient_error[np.isnan(gradient_error)] = np.inf
        loss_ulp = ulp_errors(loss, reference.loss, loss_format)
        loss_error[loss_ulp == 0] = 0  # the right infinity
        measured = _Errors(
            loss=loss,
            gradient=gradient,
            loss_mixed=loss_error / (roundoff * np.maximum(1, np.abs(reference.loss))),
            gradient_mixed=gradient_error / fmt.unit_roundoff,
            loss_ulp=loss_ulp,
            gradient_ulp=ulp_errors(gradient, reference.gradient, fmt),
            bound=defect_bound(gradient.shape[1], coarser),
            loss_format=loss_format,
            format=fmt,
        )
        defects, inaccuracies = _flags(measured, reference, labels, conditions)
        return Measurement(
            judged=reference.judged,
            loss_ulp=measured.loss_ulp,
            loss_mixed=measured.loss_mixed,
            loss_scaled=_scaled(loss_error, conditions.loss * roundoff, loss_format),
            gradient_ulp=measured.gradient_ulp,
            gradient_mixed=measured.gradient_mixed,
            gradient_scaled=_scaled(gradient_error, conditions.gradient * fmt.unit_roundoff, fmt),
            bound=measured.bound,
            zero_gradient=(gradient == 0).all(axis=1),
            defects=defects,
            inaccuracies=inaccuracies,
        )


def _scaled(error: Reals, scale: Reals, fmt: FloatFormat) -> Reals:
    return np.asarray(error / np.maximum(scale, fmt.smallest_subnormal))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errors:
    loss: Reals
    gradient: Reals
    loss_mixed: Reals
    gradient_mixed: Reals
    loss_ulp: Reals
    gradient_ulp: Reals
    bound: float
    loss_format: FloatFormat
    format: FloatFormat


def _flags(
    errors: _Errors, reference: Reference, labels: NDArray[Any], conditions: Conditions
) -> tuple[dict[str, Flags], dict[str, Flags]]:
    """Kind to flags, for both tiers; only a kind that tells more hides an "inaccurate"."""
    judged, bound = reference.judged, errors.bound
    rows = np.arange(len(labels))
    finite_loss = np.isfinite(errors.loss)
    finite_gradient = np.isfinite(errors.gradient).all(axis=1)
    row_gradient_mixed = errors.gradient_mixed.max(axis=1)
    loss_beyond = (errors.loss_mixed > bound) & finite_loss
    gradient_beyond = (row_gradient_mixed > bound) & finite_gradient
    exact_label = reference.gradient[rows, labels]

    # within the defect bound of zero, and four bits below the exact gradient in any case
    lost = min(bound * errors.format.unit_roundoff, _FOUR_BITS)
    observed_largest = np.abs(errors.gradient).max(axis=1)
    vanished = finite_gradient & (observed_largest <= lost * conditions.largest_gradient)
    vanished &= conditions.largest_gradient > errors.format.smallest_subnormal / 2
    label_vanished = (errors.gradient[rows, labels] == 0) & ~vanished
    label_vanished &= np.abs(exact_label) > errors.format.smallest_subnormal / 2
    flipped = errors.gradient * reference.gradient < 0
    collapsed = (errors.loss == 0) & (reference.loss > errors.loss_format.smallest_subnormal / 2)
    saturated = _saturated(errors, reference, loss_beyond & judged & ~collapsed)

    defects = {
        kinds.NON_FINITE_LOSS: ~finite_loss & (errors.loss_ulp > 0),
        kinds.NON_FINITE_GRADIENT: ~finite_gradient,
        kinds.LOSS_COLLAPSE: collapsed & loss_beyond,
        kinds.SATURATION: saturated,
        kinds.GRADIENT_COLLAPSE: vanished & gradient_beyond,
        kinds.LABEL_GRADIENT_COLLAPSE: label_vanished
        & (errors.gradient_mixed[rows, labels] > bound),
        kinds.SIGN_FLIP: (flipped & (errors.gradient_mixed > bound)).any(axis=1),
    }
    told_loss = defects[kinds.LOSS_COLLAPSE] | saturated
    told_gradient = defects[kinds.GRADIENT_COLLAPSE] | defects[kinds.LABEL_GRADIENT_COLLAPSE]
    told_gradient |= defects[kinds.SIGN_FLIP]
    defects[kinds.INACCURATE_LOSS] = loss_beyond & ~told_loss
    defects[kinds.INACCURATE_GRADIENT] = gradient_beyond & ~told_gradient
    strict_loss = (errors.loss_ulp > 2 * bound) & finite_loss & ~loss_beyond
    strict_gradient = (errors.gradient_ulp > 2 * bound).any(axis=1) & finite_gradient
    inaccuracies = {
        kinds.LOSS_COLLAPSE: collapsed & ~loss_beyond,
        kinds.GRADIENT_COLLAPSE: vanished & ~gradient_beyond,
        kinds.LABEL_GRADIENT_COLLAPSE: label_vanished & ~defects[kinds.LABEL_GRADIENT_COLLAPSE],
        kinds.SIGN_FLIP: flipped.any(axis=1) & ~defects[kinds.SIGN_FLIP],
        kinds.INACCURATE_LOSS: strict_loss & ~collapsed,
        kinds.INACCURATE_GRADIENT: strict_gradient & ~gradient_beyond,
    }
    for flags in (defects, inaccuracies):
        for kind in flags:
            flags[kind] = flags[kind] & judged
    return defects, inaccuracies


def _saturated(errors: _Errors, reference: Reference, candidates: Flags) -> Flags:
    """Rows whose loss is too small and equals another such row's whose exact loss differs."""
    low = np.flatnonzero(candidates & (errors.loss < reference.loss))
    saturated = np.zeros(len(errors.loss), np.bool_)
    if low.size < 2:
        return saturated
    _, group = np.unique(errors.loss[low], return_inverse=True)
    largest = np.full(group.max() + 1, -np.inf)
    smallest = np.full(group.max() + 1, np.inf)
    np.maximum.at(largest, group, reference.loss[low])
    np.minimum.at(smallest, group, reference.loss[low])
    tolerance = 2 * errors.bound * errors.format.unit_roundoff * np.maximum(1, smallest)
    saturated[low] = (largest - smallest > tolerance)[group]
    return saturated


def disagreements(measured: dict[str, Measurement]) -> dict[str, Flags]:
    """Per mode, the rows on which it is certainly further from the best mode than both bounds.

    By the triangle inequality two results differ by at least the difference of their errors, so
    a difference of errors beyond twice the bound is a disagreement that neither mode's rounding
    explains.

    Args:
        measured: mode to measurement, of one path, format and device on one batch.
    """
    errors = {
        mode: np.maximum(one.loss_mixed, one.gradient_mixed.max(axis=1))
        for mode, one in measured.items()
    }
    best = np.minimum.reduce(list(errors.values()))
    with np.errstate(invalid="ignore"):
        return {
            mode: one.judged & (errors[mode] - best > 2 * one.bound)
            for mode, one in measured.items()
        }
