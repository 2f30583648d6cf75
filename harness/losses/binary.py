"""Binary cross-entropy of a sigmoid, the mean over a row's logits.

With s(x) = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)) and sigma the sigmoid,

    loss(x, t) = w t s(-x) + (1 - t) s(x)              w weighs the positive class
    dloss/dx   = (1 - t) sigma(x) - w t sigma(-x)      nothing cancels for t of 0 or 1
    sigma(x)   = 1 / (1 + e) for x >= 0, e / (1 + e) below,  e = exp(-|x|)

Smoothing by a replaces t by (1 - a) t + a/2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.targets import Targets

_DOMAIN = "rows of finite logits"
_SOURCE = "Cox 1958, 'The regression analysis of binary sequences'; the stable form is that of "
_SOURCE += "tf.nn.sigmoid_cross_entropy_with_logits's documentation"

SMOOTHING = 0.1
POSITIVE_WEIGHT = 8.0


def softplus(logits: Enclosure) -> Enclosure:
    """log(1 + exp(x))."""
    positive = np.asarray(logits.middle > 0, np.bool_)
    magnitude = logits.where(positive, -logits)
    return logits.where(positive, 0.0) + (-magnitude).exp().log1p()


def sigmoid(logits: Enclosure) -> Enclosure:
    """1 / (1 + exp(-x)), to full relative accuracy."""
    positive = np.asarray(logits.middle > 0, np.bool_)
    decay = (-logits.where(positive, -logits)).exp()
    one = logits.constant(1.0)
    return one.where(positive, decay) / (decay + 1.0)


def smoothed_binary(targets: Targets, like: Enclosure, smoothing: float) -> Any:
    """The smoothed targets t and 1 - t."""
    weights = like.exactly(targets.weights, like.numbers)
    complements = like.exactly(1.0 - targets.weights, like.numbers)
    if smoothing == 0:
        return weights, complements
    amount = like.constant(smoothing)
    kept, half = 1.0 - amount, amount / 2.0
    return weights * kept + half, complements * kept + half


def _evaluate(
    smoothing: float, weight: float
) -> Callable[[Enclosure, Targets], tuple[Enclosure, Enclosure]]:
    def evaluate(logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
        count = float(logits.middle.shape[1])
        present, absent = smoothed_binary(targets, logits, smoothing)
        loss = present * softplus(-logits) * weight + absent * softplus(logits)
        gradient = absent * sigmoid(logits) - present * sigmoid(-logits) * weight
        return loss.sum() / count, gradient / count

    return evaluate


def _textbook(
    smoothing: float, weight: float
) -> Callable[[Sequence[Any], Sequence[Any], Arithmetic], Any]:
    def textbook(logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic) -> Any:
        one, amount = arithmetic.number(1), arithmetic.number(smoothing)
        total = arithmetic.number(0)
        for x, given in zip(logits, targets, strict=True):
            t = given * (one - amount) + amount / arithmetic.number(2)
            probability = one / (one + arithmetic.exp(-x))
            complement = one / (one + arithmetic.exp(x))
            total = total - arithmetic.number(weight) * t * arithmetic.log(probability)
            total = total - (one - t) * arithmetic.log(complement)
        return total / arithmetic.number(len(logits))

    return textbook


def _spec(
    name: str,
    target: str,
    formula: str,
    *,
    smoothing: float = 0.0,
    weight: float = 1.0,
    source: str = _SOURCE,
) -> LossSpec:
    return LossSpec(
        name=name,
        formula=formula,
        target=target,
        evaluate=_evaluate(smoothing, weight),
        textbook=_textbook(smoothing, weight),
        domain=_DOMAIN,
        source=source,
        steepness=max(1.0, weight),
        error_factor=2.0,
        headroom=float,
        averages=True,
        masks=False,
    )


_FORMULA = "mean_j (t_j log(1 + exp(-x_j)) + (1 - t_j) log(1 + exp(x_j)))"

BINARY_CROSS_ENTROPY = _spec("binary cross-entropy", kinds.BINARY, _FORMULA)
SOFT_BINARY_CROSS_ENTROPY = _spec("binary cross-entropy, soft labels", kinds.PROBABILITY, _FORMULA)
SMOOTHED_BINARY_CROSS_ENTROPY = _spec(
    f"binary cross-entropy, smoothed by {SMOOTHING}",
    kinds.BINARY,
    _FORMULA + ", t smoothed to (1 - a) t + a/2",
    smoothing=SMOOTHING,
    source="Szegedy et al. 2016, 'Rethinking the Inception architecture', section 7",
)
WEIGHTED_BINARY_CROSS_ENTROPY = _spec(
    f"binary cross-entropy, positive weight {POSITIVE_WEIGHT:g}",
    kinds.BINARY,
    "mean_j (w t_j log(1 + exp(-x_j)) + (1 - t_j) log(1 + exp(x_j)))",
    weight=POSITIVE_WEIGHT,
    source="tf.nn.weighted_cross_entropy_with_logits's documentation",
)

LOSSES = (
    BINARY_CROSS_ENTROPY,
    SOFT_BINARY_CROSS_ENTROPY,
    SMOOTHED_BINARY_CROSS_ENTROPY,
    WEIGHTED_BINARY_CROSS_ENTROPY,
)
