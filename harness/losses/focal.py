"""Focal losses: a = alpha, g = gamma, p the probability of the true class, q = 1 - p, L = -log p.

    categorical: a q**g L, one-hot
        dloss/dx_j = a (p_j / q) q**g (g L p + q)  for j != y     p_j / q: softmax of the others
        dloss/dx_y = -a q**g (g L p + q)
    binary, the mean over a row: weight q**g L with s = (1 - 2t) x, L = log(1 + exp(s))
        dloss/ds = weight q**g (g p L + q),  dloss/dx = (1 - 2t) dloss/ds

q**g is exp(g log q), with log q from a log-sum-exp of the others, so that q may vanish. Since
p L <= 1/e, no component is steeper than weight (1 + g/e); it exceeds the weight, by an eighth for
g = 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.binary import sigmoid, softplus
from lossfuzz.harness.losses.softmax import TrueClass
from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.targets import Targets

ALPHA = 0.25
GAMMAS = (2.0, 0.5, 0.0)
_LIN = "Lin et al. 2017, 'Focal loss for dense object detection'"


def _categorical(logits: Enclosure, targets: Targets, gamma: float) -> tuple[Enclosure, Enclosure]:
    true = TrueClass.of(logits, targets)
    focus = (true.log_complement * gamma).exp() * ALPHA
    loss = (focus * true.loss).where(~true.alone, 0.0)
    slope = true.loss * true.probability * gamma + true.complement
    at_label = -(focus * slope)
    elsewhere = true.others * focus * slope
    gradient = at_label.where(true.at_label, elsewhere).where(~true.alone, 0.0)
    return loss, gradient


def _textbook_categorical(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic, gamma: float
) -> Any:
    total = sum(arithmetic.exp(x) for x in logits)
    chosen = sum(t * arithmetic.exp(x) for t, x in zip(targets, logits, strict=True))
    if len(logits) == 1:
        return arithmetic.number(0) * chosen
    rest = sum(
        (arithmetic.number(1) - t) * arithmetic.exp(x)
        for t, x in zip(targets, logits, strict=True)
    )
    focus = arithmetic.exp(arithmetic.number(gamma) * arithmetic.log(rest / total))
    return -arithmetic.number(ALPHA) * focus * arithmetic.log(chosen / total)


def _binary(
    logits: Enclosure, targets: Targets, gamma: float, *, balanced: bool
) -> tuple[Enclosure, Enclosure]:
    count = float(logits.middle.shape[1])
    positive = targets.weights == 1
    lead = (-logits).where(positive, logits)
    loss = softplus(lead)
    focus = (-softplus(-lead) * gamma).exp()
    if balanced:
        focus = focus * logits.constant(ALPHA).where(positive, 1 - ALPHA)
    slope = focus * (sigmoid(-lead) * loss * gamma + sigmoid(lead))
    return (focus * loss).sum() / count, (-slope).where(positive, slope) / count


def _textbook_binary(
    logits: Sequence[Any],
    targets: Sequence[Any],
    arithmetic: Arithmetic,
    gamma: float,
    *,
    balanced: bool,
) -> Any:
    one, alpha = arithmetic.number(1), arithmetic.number(ALPHA)
    total = arithmetic.number(0)
    for x, t in zip(logits, targets, strict=True):
        probability = one / (one + arithmetic.exp(-x))
        complement = one / (one + arithmetic.exp(x))
        true, other = (probability, complement) if t != 0 else (complement, probability)
        weight = (alpha if t != 0 else one - alpha) if balanced else one
        focus = arithmetic.exp(arithmetic.number(gamma) * arithmetic.log(other))
        total = total - weight * focus * arithmetic.log(true)
    return total / arithmetic.number(len(logits))


def categorical_focal(gamma: float) -> LossSpec:
    """The categorical focal loss with `ALPHA` and some gamma."""
    return LossSpec(
        name=f"categorical focal loss, alpha {ALPHA}, gamma {gamma:g}",
        formula="alpha (1 - p)**gamma (-log p), p = softmax(x)_y",
        target=kinds.ONE_HOT,
        evaluate=lambda x, t: _categorical(x, t, gamma),
        textbook=lambda x, t, arithmetic: _textbook_categorical(x, t, arithmetic, gamma),
        domain="rows with at least one finite logit, none of them +inf or NaN, whose label's "
        "logit is finite",
        source=_LIN,
        steepness=ALPHA * (1 + gamma / math.e),
        error_factor=2.0 + gamma,
        headroom=lambda _: 1 / ALPHA,
    )


def binary_focal(gamma: float, *, balanced: bool) -> LossSpec:
    """The binary focal loss with some gamma, and `ALPHA` or nothing as the positive weight."""
    weighted = f"alpha {ALPHA}, " if balanced else ""
    return LossSpec(
        name=f"binary focal loss, {weighted}gamma {gamma:g}",
        formula="mean_j weight (1 - p)**gamma (-log p), p = sigmoid(x_j) or 1 - sigmoid(x_j)",
        target=kinds.BINARY,
        evaluate=lambda x, t: _binary(x, t, gamma, balanced=balanced),
        textbook=lambda x, t, arithmetic: _textbook_binary(
            x, t, arithmetic, gamma, balanced=balanced
        ),
        domain="rows of finite logits",
        source=_LIN,
        steepness=(max(ALPHA, 1 - ALPHA) if balanced else 1.0) * (1 + gamma / math.e),
        error_factor=2.0 + gamma,
        headroom=lambda classes: classes / ALPHA,
        averages=True,
        masks=False,
    )


CATEGORICAL_FOCAL = {gamma: categorical_focal(gamma) for gamma in GAMMAS}
BINARY_FOCAL = {gamma: binary_focal(gamma, balanced=False) for gamma in GAMMAS}
BALANCED_BINARY_FOCAL = binary_focal(GAMMAS[0], balanced=True)

LOSSES = (*CATEGORICAL_FOCAL.values(), *BINARY_FOCAL.values(), BALANCED_BINARY_FOCAL)
