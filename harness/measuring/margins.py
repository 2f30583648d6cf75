"""Margins: by how much a row's true class loses, in float64; for statistics, not for judging.

Of a softmax it is the log-sum-exp of the other logits minus the label's: with one rival, the
difference of the two; positive where the label loses. Of sigmoids it is the largest
``(1 - 2 t_j) x_j`` of the row, t_j rounded to 0 or 1: that of the logit that is most wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.losses.targets import Targets

    Reals = NDArray[np.float64]


def margins_of(
    logits: NDArray[Any],
    labels: NDArray[Any],
    loss: LossSpec,
    reference: Reference,
    targets: Targets | None,
) -> Reals:
    """The margin of every row; NaN where it has none."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if loss is SOFTMAX_CROSS_ENTROPY:
            # log(exp(loss) - 1), without overflow and without cancellation
            return np.asarray(reference.loss + np.log(-np.expm1(-reference.loss)))
        wide = logits.astype(np.float64)
        if loss.target in kinds.BY_CLASS and targets is not None:
            return np.asarray(((1 - 2 * np.round(targets.weights)) * wide).max(axis=1))
        index = np.arange(len(labels))
        chosen = wide[index, labels]
        wide[index, labels] = -np.inf
        largest = wide.max(axis=1)
        shift = np.where(np.isfinite(largest), largest, 0)
        rest = shift + np.log(np.exp(wide - shift[:, None]).sum(axis=1))
        return np.asarray(rest - chosen)


def row_softmax(logits: Reals) -> Reals:
    """The softmax of every row, masked classes included."""
    with np.errstate(invalid="ignore"):
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))
