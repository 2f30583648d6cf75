"""The exact loss and gradient of a batch, for any loss: of each row, or reduced over the batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosed import reference_by_enclosures
from lossfuzz.harness.exact.judge import Reference, reference_of
from lossfuzz.harness.exact.kernel import ABSOLUTE_BOUND
from lossfuzz.harness.losses.reduced import row_factors
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.numbers.formats import BINARY32, BINARY64, format_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.losses.targets import Targets


def row_reference(
    loss: LossSpec, logits: NDArray[Any], targets: Targets, *, tight_gradient: bool = True
) -> Reference:
    """The exact values of every row, before any reduction.

    Args:
        loss: any.
        logits: shape ``[rows, classes]``.
        targets: of its kind.
        tight_gradient: as for `reference_by_enclosures`.
    """
    base = loss.base or loss
    if base is SOFTMAX_CROSS_ENTROPY:
        formats = tuple(dict.fromkeys((format_of(logits), BINARY32)))
        return reference_of(logits, targets.labels, formats)
    return reference_by_enclosures(base, logits, targets, tight_gradient=tight_gradient)


def reduced_reference(rows: Reference, loss: LossSpec) -> Reference:
    """The same after the loss's reduction; of shape ``[1]`` and without a value if a row has none.

    Where losses of rows are nonnegative, their relative bound is the sum's, but for the factor's
    and the sum's own rounding; where some are negative, it grows as their sum cancels.
    """
    if loss.reduction is None:
        return rows
    factors = row_factors(loss.reduction, len(rows.judged))
    judged = np.full(len(rows.judged), bool(rows.judged.all()))
    total = math.fsum(rows.loss * factors) if judged[0] else math.nan
    slack = 4 * BINARY64.unit_roundoff
    cancelled = 1.0
    if judged[0] and (rows.loss < 0).any():
        cancelled = math.fsum(np.abs(rows.loss * factors)) / max(abs(total), ABSOLUTE_BOUND)
    return replace(
        rows,
        loss=np.array([total]),
        gradient=rows.gradient * factors[:, None],
        relative_bound=(rows.relative_bound + slack) * cancelled,
        component_bounds=rows.component_bounds + slack,
        judged=judged,
    )
