"""One batch in, one Measurement out: errors in three measures, and the kinds that rows show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.measuring.flags import LossErrors, flags_of
from lossfuzz.harness.measuring.gradients import gradient_errors
from lossfuzz.harness.numbers.bounds import USERS_ROOM, defect_bound
from lossfuzz.harness.numbers.formats import format_of
from lossfuzz.harness.numbers.ulp import absolute_errors, ulp_errors
from lossfuzz.harness.results import kinds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.measuring.conditions import Conditions
    from lossfuzz.harness.results.histogram import Histogram

    Flags = NDArray[np.bool_]
    Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one cell did on one batch.

    Attributes:
        is_reduced: whether the loss is one number for the whole batch.
        judged: shape ``[rows]``; rows with an exact value, the only ones that count below.
        loss_ulp: shape ``[rows]``, in ulps of the loss's format; of a reduced loss ``[1]``, as
            are the next two.
        loss_mixed: in units of ``u * max(1, |exact|)``, or as `Conditions.loss_scale` says.
        loss_scaled: divided by the loss's condition, ``u * (|loss| + sum_k |x_k g_k|)``.
        gradient_ulp: shape ``[rows]``, the largest component's, in ulps of the logits' format.
        gradient_mixed: the same in units of u and of the largest possible component.
        gradient_scaled: the same divided by ``u * |g_j| * (1 + |x_j| + sum_k p_k |x_k|)``.
        gradient_ulps: ULP errors of all components of judged rows.
        bound: the defect bound on the mixed errors.
        zero_gradient: shape ``[rows]``; every component of the gradient is exactly 0.
        defects: kind to flags, shape ``[rows]``.
        inaccuracies: kind to flags, shape ``[rows]``.
        excused: shape ``[rows]``; rows whose defects count as inaccuracies.
    """

    is_reduced: bool
    judged: Flags
    loss_ulp: Reals
    loss_mixed: Reals
    loss_scaled: Reals
    gradient_ulp: Reals
    gradient_mixed: Reals
    gradient_scaled: Reals
    gradient_ulps: Histogram
    bound: float
    zero_gradient: Flags
    defects: dict[str, Flags]
    inaccuracies: dict[str, Flags]
    excused: Flags

    @property
    def judged_losses(self) -> Flags:
        """Which losses count, in the shape of `loss_ulp`.

        A reduced loss does if the first row is judged, as then all are.
        """
        return self.judged[:1] if self.is_reduced else self.judged

    def judged_errors(self, measure: str) -> Reals:
        """The errors that count of a measure, such as ``loss_ulp``."""
        errors: Reals = getattr(self, measure)
        return errors[self._counted(measure)]

    def row_errors(self, measure: str) -> Reals:
        """The errors of a measure, NaN and those that do not count as 0."""
        errors: Reals = getattr(self, measure)
        return np.where(self._counted(measure), np.nan_to_num(errors, nan=0.0), 0.0)

    def _counted(self, measure: str) -> Flags:
        return self.judged_losses if measure.startswith("loss") else self.judged

    def mixed_errors(self, kind: str) -> Reals:
        """Mixed errors of what a kind is about, shape ``[rows]``: loss, gradient or the worse."""
        return self._about(kind, self.loss_mixed, self.gradient_mixed)

    def ulp_errors(self, kind: str) -> Reals:
        """The same in ulps."""
        return self._about(kind, self.loss_ulp, self.gradient_ulp)

    def _about(self, kind: str, loss: Reals, gradient: Reals) -> Reals:
        if kind in kinds.OF_THE_LOSS:
            return np.broadcast_to(loss, self.judged.shape)
        return gradient if kind in kinds.OF_THE_GRADIENT else np.maximum(loss, gradient)


def measure(
    observed_loss: NDArray[Any],
    observed_gradient: NDArray[Any],
    reference: Reference,
    labels: NDArray[Any],
    conditions: Conditions,
    *,
    users: bool = False,
) -> Measurement:
    """Errors and flags of a cell's result for a batch.

    Args:
        observed_loss: shape ``[rows]``, or ``[1]`` of a reduced loss, in whatever format the path
            returned.
        observed_gradient: shape ``[rows, classes]``, in the logits' format or a wider one.
        reference: of the same rows.
        labels: shape ``[rows]``.
        conditions: of the same rows.
        users: whether the loss is a user's own, computed by an algorithm that is not known.
    """
    fmt, loss_format = conditions.format, format_of(observed_loss)
    coarser = fmt if fmt.unit_roundoff >= loss_format.unit_roundoff else loss_format
    loss = observed_loss.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        loss_ulp = ulp_errors(loss, reference.loss, loss_format)
        error = absolute_errors(loss, reference.loss, loss_ulp)
        scale = np.maximum(coarser.unit_roundoff * conditions.loss, loss_format.smallest_subnormal)
        gradient = gradient_errors(observed_gradient, reference, labels, conditions)
        losses = LossErrors(
            observed=loss,
            ulp=loss_ulp,
            mixed=error / (coarser.unit_roundoff * conditions.loss_scale),
            scaled=error / scale,
            format=loss_format,
        )
        bound = defect_bound(
            observed_gradient.shape[1],
            coarser,
            error_factor=conditions.error_factor,
            summed_rows=conditions.summed_rows,
            room=USERS_ROOM if users else 1.0,
        )
        defects, inaccuracies = flags_of(
            losses, gradient, reference, conditions, bound, users=users
        )
    measured = Measurement(
        is_reduced=conditions.is_reduced,
        judged=reference.judged,
        loss_ulp=losses.ulp,
        loss_mixed=losses.mixed,
        loss_scaled=losses.scaled,
        gradient_ulp=gradient.ulp,
        gradient_mixed=gradient.mixed,
        gradient_scaled=gradient.scaled,
        gradient_ulps=gradient.ulps,
        bound=bound,
        zero_gradient=gradient.largest_observed == 0,
        defects=defects,
        inaccuracies=inaccuracies,
        excused=np.zeros_like(reference.judged),
    )
    return excused(measured, conditions.at_the_ends_of_range) if users else measured


def excused(measurement: Measurement, rows: Flags) -> Measurement:
    """The same with what some rows show counted as inaccuracies; all rows, of a reduced loss."""
    if not rows.any():
        return measurement
    if measurement.is_reduced:
        rows = np.ones_like(rows)
    defects, inaccuracies = dict(measurement.defects), dict(measurement.inaccuracies)
    for kind, flagged in measurement.defects.items():
        inaccuracies[kind] = (flagged & rows) | inaccuracies.get(kind, False)
        defects[kind] = flagged & ~rows
    return replace(
        measurement,
        defects=defects,
        inaccuracies=inaccuracies,
        excused=measurement.excused | rows,
    )


def disagreements(measured: dict[str, Measurement]) -> dict[str, Flags]:
    """Per mode, the rows on which it is certainly further from the best mode than both bounds.

    The best mode is the one nearest to the exact value. By the triangle inequality two results
    differ by at least the difference of their errors, so a difference of errors beyond twice the
    bound is a disagreement that neither mode's rounding explains.

    Where a mode left the format's range and is excused for it, it is neither blamed nor taken for
    the best one: an infinity there is as right as a mode's finite value that is far too small.

    Args:
        measured: mode to measurement, of one path, format and device on one batch.
    """
    beyond = {mode: _beyond_range(one) for mode, one in measured.items()}
    errors = {
        mode: np.where(beyond[mode], np.inf, np.maximum(one.loss_mixed, one.gradient_mixed))
        for mode, one in measured.items()
    }
    best = np.minimum.reduce(list(errors.values()))
    with np.errstate(invalid="ignore"):
        return {
            mode: one.judged & ~one.excused & ~beyond[mode] & (errors[mode] - best > 2 * one.bound)
            for mode, one in measured.items()
        }


def _beyond_range(measurement: Measurement) -> Flags:
    """The rows on which a result that is not finite is excused, since the format's range ends."""
    rows = np.zeros_like(measurement.judged)
    for kind in (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT):
        rows = rows | measurement.inaccuracies.get(kind, rows)
    return rows
