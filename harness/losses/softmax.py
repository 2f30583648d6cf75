"""What the losses of a softmax share: its parts, each to full relative accuracy.

With w the largest logit, d_k = x_k - x_w <= 0, e_k = exp(d_k), S the sum of e_k over k != w:

    log p_k = d_k - log1p(S)            two terms of one sign
    p_k     = e_k / (1 + S)
    1 - p_k = (S - e_k + 1) / (1 + S)   for k != w, where 1 outweighs what cancels
    1 - p_w = S / (1 + S)

Masked classes have e_k = 0; their d_k is set to 0, for it is only ever multiplied by 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.targets import Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """The softmax of rows of logits.

    Attributes:
        differences: d_k, shape ``[rows, classes]``.
        log_sum: log1p(S), shape ``[rows, 1]``.
        probabilities: p_k.
        complements: 1 - p_k.
        winner: the largest logit, shape ``[rows, 1]``.
    """

    differences: Enclosure
    log_sum: Enclosure
    probabilities: Enclosure
    complements: Enclosure
    winner: Enclosure

    @classmethod
    def of(cls, logits: Enclosure, masked: NDArray[np.bool_], temperature: float = 1.0) -> Softmax:
        """Evaluate it; masked logits may be any finite numbers.

        A temperature divides the differences, not the logits: so an offset costs nothing.
        """
        classes = np.arange(logits.middle.shape[1])
        lowest = logits.where(~masked, -np.inf).middle
        column = np.asarray(lowest.argmax(axis=1), np.intp)
        winner = logits.at(column)
        differences = (logits - winner).where(~masked, 0.0)
        if temperature != 1:
            differences = differences / temperature
        weights = differences.exp().where(~masked, 0.0)
        wins = classes[None, :] == column[:, None]
        tail = weights.where(~wins, 0.0).sum()
        total = tail + 1.0
        others = (tail - weights + 1.0).where(~wins, tail)
        return cls(
            differences=differences,
            log_sum=tail.log1p(),
            probabilities=weights / total,
            complements=others / total,
            winner=winner,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueClass:
    """What a loss of the true class's probability p alone needs; shape ``[rows, 1]`` each.

    Attributes:
        loss: L = -log p.
        log_probability: log p.
        probability: p.
        log_complement: log(1 - p) = log of the sum over the other classes of p_k, by a
            log-sum-exp of their own.
        complement: 1 - p.
        others: the softmax among the other classes, 0 at the label, shape ``[rows, classes]``.
        alone: shape ``[rows, 1]``; no other class is unmasked, so p is 1.
        at_label: shape ``[rows, classes]``; where the label is.
    """

    loss: Enclosure
    log_probability: Enclosure
    probability: Enclosure
    log_complement: Enclosure
    complement: Enclosure
    others: Enclosure
    alone: NDArray[np.bool_]
    at_label: NDArray[np.bool_]

    @classmethod
    def of(cls, logits: Enclosure, targets: Targets) -> TrueClass:
        """Evaluate it."""
        softmax = Softmax.of(logits, targets.masked)
        log_probability = softmax.differences.at(targets.labels) - softmax.log_sum
        classes = np.arange(logits.middle.shape[1])
        at_label = classes[None, :] == targets.labels[:, None]
        left_out = targets.masked | at_label
        alone = left_out.all(axis=1, keepdims=True)
        rest = Softmax.of(logits, left_out & ~alone)
        log_complement = (rest.winner - softmax.winner) + (rest.log_sum - softmax.log_sum)
        log_complement = log_complement.where(~alone, 0.0)
        return cls(
            loss=-log_probability,
            log_probability=log_probability,
            probability=log_probability.exp(),
            log_complement=log_complement,
            complement=log_complement.exp().where(~alone, 0.0),
            others=rest.probabilities.where(~left_out, 0.0),
            alone=alone,
            at_label=at_label,
        )
