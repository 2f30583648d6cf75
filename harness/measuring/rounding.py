"""The second oracle: what a path documents, where that is not the loss itself.

Documented minus loss is bias by design, such as a clip at 1e-7; computed minus documented is
rounding. Neither says anything about the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.bounds import defect_bound
from lossfuzz.harness.numbers.formats import format_of
from lossfuzz.harness.numbers.ulp import absolute_errors, ulp_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.measuring.prepared import Prepared

    Flags = NDArray[np.bool_]
    Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """A cell's errors on one batch against its documented formula.

    Attributes:
        documented_loss: shape ``[rows]``, or ``[1]`` of a reduced loss, as are the next three.
        loss_ulp: computed minus documented, in ulps of the loss's format.
        loss_mixed: the same in units of ``u * max(1, |documented|)``.
        bias: documented minus loss, in the loss's own unit.
        gradient_mixed: shape ``[rows]``, the largest component's, in units of u and of the
            gradient's scale.
        by_design: shape ``[rows]``; computed and documented agree within the defect bound.
    """

    documented_loss: Reals
    loss_ulp: Reals
    loss_mixed: Reals
    bias: Reals
    gradient_mixed: Reals
    by_design: Flags


def rounding_of(
    observed_loss: NDArray[Any],
    observed_gradient: NDArray[Any],
    documented: LossSpec,
    prepared: Prepared,
) -> Rounding:
    """Measure a cell's result for a batch against another formula than its loss."""
    reference, conditions = prepared.documented(documented), prepared.conditions
    fmt, loss_format = conditions.format, format_of(observed_loss)
    u = max(fmt.unit_roundoff, loss_format.unit_roundoff)
    coarser = fmt if fmt.unit_roundoff == u else loss_format
    bound = defect_bound(
        observed_gradient.shape[1],
        coarser,
        error_factor=documented.error_factor,
        summed_rows=conditions.summed_rows,
    )
    loss = observed_loss.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        loss_ulp = ulp_errors(loss, reference.loss, loss_format)
        error = absolute_errors(loss, reference.loss, loss_ulp)
        loss_mixed = error / (u * np.maximum(1, np.abs(reference.loss)))
        slopes = np.abs(observed_gradient.astype(np.float64) - reference.gradient)
        slopes[np.isnan(slopes)] = np.inf
        gradient_mixed = slopes.max(axis=1) / (u * conditions.scale)
        bias = np.abs(reference.loss - prepared.reference.loss)
    return Rounding(
        documented_loss=reference.loss,
        loss_ulp=loss_ulp,
        loss_mixed=loss_mixed,
        bias=bias,
        gradient_mixed=gradient_mixed,
        by_design=np.maximum(loss_mixed, gradient_mixed) <= bound,
    )
