"""Losses of a whole batch: a row's loss, summed or averaged, with or without sample weights.

    mean = (1/N) sum_i loss_i,   sum = sum_i loss_i,   weighted mean = (1/N) sum_i w_i loss_i,
    mean with sample weight = sum_i w_i loss_i / sum_i w_i

and the gradient of row i is that of its own loss times 1/N, 1, w_i/N or w_i / sum_i w_i. The
weights w_i are those of `sample_weights`. The third is Keras's ``sum_over_batch_size`` with sample
weights, the fourth its ``mean_with_sample_weight``, the mean in which the weights sum to 1.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses.binary import BINARY_CROSS_ENTROPY
from lossfuzz.harness.losses.cross_entropy import ONE_HOT_CROSS_ENTROPY
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.records.spelling import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec

MEAN = "mean"
SUM = "sum"
WEIGHTED_MEAN = "weighted mean"
MEAN_WITH_SAMPLE_WEIGHT = "mean with sample weight"

REDUCTIONS: dict[str, str] = {
    MEAN: "(1/N) sum_i",
    SUM: "sum_i",
    WEIGHTED_MEAN: "(1/N) sum_i w_i",
    MEAN_WITH_SAMPLE_WEIGHT: "(1 / sum_i w_i) sum_i w_i",
}
"""Every reduction with its formula."""

WEIGHTED = (WEIGHTED_MEAN, MEAN_WITH_SAMPLE_WEIGHT)
"""The reductions in which rows have the weights of `sample_weights`."""

_OTHER_NAMES = {
    "normalised weighted mean": MEAN_WITH_SAMPLE_WEIGHT,
    "normalized weighted mean": MEAN_WITH_SAMPLE_WEIGHT,
    "sum over batch size": MEAN,
}
"""What reductions are called elsewhere."""


def reduction_named(name: str) -> str:
    """The reduction of that name, whatever stands between its words: ``weighted-mean``.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    plain = " ".join(re.split(r"[^a-z]+", name.lower().strip()))
    if plain in REDUCTIONS:
        return plain
    if plain in _OTHER_NAMES:
        return _OTHER_NAMES[plain]
    raise ValueError(unknown("reduction", name, REDUCTIONS, _OTHER_NAMES))


def sample_weights(rows: int) -> NDArray[np.float64]:
    """The weights of a batch's rows in weighted reductions: 1/4, 2/4, ... 8/4, and again.

    Row i, counted from 0 in the order of ``tf.reshape(labels, [-1])``, weighs (i % 8 + 1) / 4. A
    loss of three parameters ``(logits, labels, sample_weight)`` is given them, in the logits'
    dtype and the labels' shape; any other loss makes them by this function.

    Args:
        rows: how many rows the batch has.

    Returns:
        Shape ``[rows]``.

    Raises:
        ValueError: the number of rows is negative.
    """
    if rows < 0:
        raise ValueError(f"expected 0 rows or more, got {rows}")
    return np.asarray((np.arange(rows) % 8 + 1) / 4, np.float64)


def row_factors(reduction: str, rows: int) -> NDArray[np.float64]:
    """What a row's loss and gradient are multiplied with, shape ``[rows]``.

    Raises:
        ValueError: the reduction is unknown.
    """
    shares, count = row_shares(reduction, rows)
    return shares / count


def row_shares(reduction: str, rows: int) -> tuple[NDArray[np.float64], float]:
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
    if reduction == MEAN_WITH_SAMPLE_WEIGHT:
        weights = sample_weights(rows)
        return weights, float(weights.sum())
    raise ValueError(f"unknown reduction {reduction!r}; known: {', '.join(REDUCTIONS)}")


def suffix(reduction: str) -> str:
    """What a reduction adds to the name of a row's loss."""
    return f", {reduction} over the batch"


def _smallest_weight(reduction: str, rows: int) -> float:
    if reduction == MEAN_WITH_SAMPLE_WEIGHT:
        return float(row_factors(reduction, rows).min()) * rows
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
