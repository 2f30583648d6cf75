"""Losses of a whole batch: a row's loss, summed or averaged, with or without sample weights.

    mean = (1/N) sum_i loss_i,   sum = sum_i loss_i,   weighted mean = (1/N) sum_i w_i loss_i

and the gradient of row i is that of its own loss times 1/N, 1 or w_i/N.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses.binary import BINARY_CROSS_ENTROPY
from lossfuzz.harness.losses.cross_entropy import ONE_HOT_CROSS_ENTROPY
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec

MEAN = "mean"
SUM = "sum"
WEIGHTED_MEAN = "weighted mean"

REDUCTIONS: dict[str, str] = {
    MEAN: "(1/N) sum_i",
    SUM: "sum_i",
    WEIGHTED_MEAN: "(1/N) sum_i w_i",
}
"""Every reduction with its formula."""


def sample_weights(rows: int) -> NDArray[np.float64]:
    """The weights of a batch's rows: 1/4, 2/4, ... 8/4, and again."""
    return np.asarray((np.arange(rows) % 8 + 1) / 4, np.float64)


def row_factors(reduction: str, rows: int) -> NDArray[np.float64]:
    """What a row's loss and gradient are multiplied with, shape ``[rows]``.

    Raises:
        ValueError: the reduction is unknown.
    """
    shares, count = row_shares(reduction, rows)
    return shares / count


def row_shares(reduction: str, rows: int) -> tuple[NDArray[np.float64], int]:
    """The same as a quotient: each row's weight, shape ``[rows]``, and what all are divided by.

    Raises:
        ValueError: the reduction is unknown.
    """
    if reduction == MEAN:
        return np.ones(rows), rows
    if reduction == SUM:
        return np.ones(rows), 1
    if reduction == WEIGHTED_MEAN:
        return sample_weights(rows), rows
    raise ValueError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")


def suffix(reduction: str) -> str:
    """What a reduction adds to the name of a row's loss."""
    return f", {reduction} over the batch"


def _smallest_weight(reduction: str, rows: int) -> float:
    return float(sample_weights(rows).min()) if reduction == WEIGHTED_MEAN else 1.0


def row_headroom(reduction: str | None, rows: int) -> float:
    """By how much the rows' losses, or their plain sum, may exceed a reduced loss."""
    if reduction is None:
        return 1.0
    return rows / _smallest_weight(reduction, rows)


@cache
def reduced(base: LossSpec, reduction: str) -> LossSpec:
    """A row's loss, reduced over the batch; always the same object.

    Raises:
        ValueError: the reduction is unknown.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")
    return replace(
        base,
        name=f"{base.name}{suffix(reduction)}",
        formula=f"{REDUCTIONS[reduction]} ({base.formula})",
        reduction=reduction,
        base=base,
    )


MEAN_CROSS_ENTROPY = reduced(SOFTMAX_CROSS_ENTROPY, MEAN)
SUMMED_CROSS_ENTROPY = reduced(SOFTMAX_CROSS_ENTROPY, SUM)
WEIGHTED_MEAN_CROSS_ENTROPY = reduced(SOFTMAX_CROSS_ENTROPY, WEIGHTED_MEAN)
MEAN_ONE_HOT_CROSS_ENTROPY = reduced(ONE_HOT_CROSS_ENTROPY, MEAN)
MEAN_BINARY_CROSS_ENTROPY = reduced(BINARY_CROSS_ENTROPY, MEAN)

LOSSES = (
    MEAN_CROSS_ENTROPY,
    SUMMED_CROSS_ENTROPY,
    WEIGHTED_MEAN_CROSS_ENTROPY,
    MEAN_ONE_HOT_CROSS_ENTROPY,
    MEAN_BINARY_CROSS_ENTROPY,
)
