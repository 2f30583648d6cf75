"""Which rows of a batch show which kind of finding, and in which tier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.numbers.ulp import overflow_threshold, right_infinities
from lossfuzz.harness.results import kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.measuring.conditions import Conditions
    from lossfuzz.harness.measuring.gradients import GradientErrors
    from lossfuzz.harness.numbers.formats import FloatFormat

    Flags = NDArray[np.bool_]
    Reals = NDArray[np.float64]

_FOUR_BITS = 2.0**-4


@dataclass(frozen=True, slots=True, kw_only=True)
class LossErrors:
    """Errors of the loss of every row, shape ``[rows]`` each.

    Attributes:
        observed: the losses.
        ulp: in ulps of the loss's format.
        mixed: in units of ``u * max(1, |exact|)``.
        scaled: divided by the condition.
        format: of the loss.
    """

    observed: Reals
    ulp: Reals
    mixed: Reals
    scaled: Reals
    format: FloatFormat


def flags_of(
    loss: LossErrors,
    gradient: GradientErrors,
    reference: Reference,
    conditions: Conditions,
    bound: float,
    *,
    users: bool = False,
) -> tuple[dict[str, Flags], dict[str, Flags]]:
    """Kind to flags, for defects and for inaccuracies.

    A kind that tells more hides "inaccurate"; only judged rows are flagged.

    Args:
        loss: its errors.
        gradient: its errors.
        reference: of the rows.
        conditions: of the rows.
        bound: the defect bound.
        users: whether the loss is a user's own. Sums that overflow on the way to a loss that does
            not are excused in the libraries' losses alone.
    """
    finite_loss = np.isfinite(loss.observed)
    loss_beyond = (loss.mixed > bound) & finite_loss
    share = bound * max(gradient.format.unit_roundoff, loss.format.unit_roundoff)
    limit = overflow_threshold(loss.format)  # no number of the format is right beyond it
    excused = ~finite_loss & (np.abs(reference.loss) >= limit)
    excused |= right_infinities(loss.observed, reference.loss, loss.format, share)
    if not users:
        excused |= _out_of_range(loss, reference, conditions)
    collapsed = (loss.observed == 0) & (reference.loss > loss.format.smallest_subnormal / 2)
    low = loss_beyond & reference.judged & ~collapsed & (loss.observed < reference.loss)
    saturated = np.zeros(len(low), np.bool_)
    if not conditions.is_reduced:  # which has no second one to compare with
        saturated = _saturated(loss, reference, np.flatnonzero(low), bound, gradient.format)

    beyond = (gradient.mixed > bound) & gradient.finite
    tiniest = gradient.format.smallest_subnormal / 2
    # within the defect bound of zero, and four bits below the exact gradient in any case
    lost = min(bound * gradient.format.unit_roundoff, _FOUR_BITS) * conditions.largest_gradient
    vanished = gradient.finite & (gradient.largest_observed <= lost)
    vanished &= conditions.largest_gradient > tiniest
    label_vanished = (gradient.label_observed == 0) & (np.abs(gradient.label_exact) > tiniest)
    label_vanished &= ~vanished
    label_defect = label_vanished & (gradient.label_mixed > bound)
    flip_defect = gradient.flipped & (gradient.flipped_mixed > bound)
    told = (vanished & beyond) | label_defect | flip_defect

    defects = {
        kinds.NON_FINITE_LOSS: ~finite_loss & (loss.ulp > 0) & ~excused,
        kinds.NON_FINITE_GRADIENT: ~gradient.finite,
        kinds.LOSS_COLLAPSE: collapsed & loss_beyond,
        kinds.SATURATION: saturated,
        kinds.GRADIENT_COLLAPSE: vanished & beyond,
        kinds.LABEL_GRADIENT_COLLAPSE: label_defect,
        kinds.SIGN_FLIP: flip_defect,
        kinds.INACCURATE_LOSS: loss_beyond & ~collapsed & ~saturated,
        kinds.INACCURATE_GRADIENT: beyond & ~told,
    }
    strict_gradient = (gradient.ulp > 2 * bound) & gradient.finite
    inaccuracies = {
        kinds.NON_FINITE_LOSS: excused & (loss.ulp > 0),
        kinds.LOSS_COLLAPSE: collapsed & ~loss_beyond,
        kinds.GRADIENT_COLLAPSE: vanished & ~beyond,
        kinds.LABEL_GRADIENT_COLLAPSE: label_vanished & ~label_defect,
        kinds.SIGN_FLIP: gradient.flipped & ~flip_defect,
        kinds.INACCURATE_LOSS: (loss.ulp > 2 * bound) & finite_loss & ~loss_beyond & ~collapsed,
        kinds.INACCURATE_GRADIENT: strict_gradient & ~beyond,
    }
    return (
        {kind: rows & reference.judged for kind, rows in defects.items()},
        {kind: rows & reference.judged for kind, rows in inaccuracies.items()},
    )


def _out_of_range(loss: LossErrors, reference: Reference, conditions: Conditions) -> Flags:
    """Infinite losses near the format's end, where a plain sum of the loss's terms overflows.

    Nobody trains there: only losses beyond the square root of the largest number are excused,
    so that a mean in a half format that overflows at an ordinary loss is not.
    """
    largest = loss.format.largest_finite
    beyond = (reference.loss * conditions.headroom > largest) & (reference.loss > largest**0.5)
    return np.asarray(np.isposinf(loss.observed) & beyond)


def _saturated(
    loss: LossErrors,
    reference: Reference,
    low: NDArray[np.intp],
    bound: float,
    fmt: FloatFormat,
) -> Flags:
    """Rows whose loss is too small and equals another such row's whose exact loss differs."""
    saturated = np.zeros(len(loss.observed), np.bool_)
    if low.size < 2:
        return saturated
    _, group = np.unique(loss.observed[low], return_inverse=True)
    largest = np.full(group.max() + 1, -np.inf)
    smallest = np.full(group.max() + 1, np.inf)
    np.maximum.at(largest, group, reference.loss[low])
    np.minimum.at(smallest, group, reference.loss[low])
    tolerance = 2 * bound * fmt.unit_roundoff * np.maximum(1, smallest)
    saturated[low] = (largest - smallest > tolerance)[group]
    return saturated
