"""Losses of a softmax beside cross-entropy: KL divergence, generalised cross-entropy, log-sum-exp.

KL(t, softmax(x)) = sum_j t_j log t_j + cross-entropy(x, t)      0 log 0 = 0
GCE(x, y) = (1 - p_y**q) / q = -expm1(q log p_y) / q
dGCE/dx_j = p_y**q p_j for j != y,  -p_y**q (1 - p_y) for j = y
LSE(x) = x_w + log1p(S),  dLSE/dx_j = p_j
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.cross_entropy import SMALLEST_WEIGHT_INVERSE, dense_cross_entropy
from lossfuzz.harness.losses.softmax import Softmax, TrueClass
from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.targets import Targets

GCE_Q = 0.5

_DOMAIN = "rows with at least one finite logit, none of them +inf or NaN"
_TARGET_DOMAIN = _DOMAIN + ", whose targets are 0 wherever the logit is -inf"


def _divergence(logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
    cross_entropy, gradient = dense_cross_entropy(logits, targets, 0.0, 1.0)
    weights = logits.exactly(targets.weights, logits.numbers)
    present = targets.weights > 0
    logarithms = weights.where(present, 1.0).log()
    return (weights * logarithms).where(present, 0.0).sum() + cross_entropy, gradient


def _textbook_divergence(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic
) -> Any:
    total = sum(arithmetic.exp(x) for x in logits)
    return sum(
        t * arithmetic.log(t * total / arithmetic.exp(x))
        for t, x in zip(targets, logits, strict=True)
        if t != 0
    )


def _generalised(logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
    true = TrueClass.of(logits, targets)
    power = true.log_probability * GCE_Q
    factor = power.exp()
    at_label = -true.complement
    elsewhere = true.complement * true.others
    gradient = factor * at_label.where(true.at_label, elsewhere)
    return -(power.expm1()) / GCE_Q, gradient


def _textbook_generalised(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic
) -> Any:
    total = sum(arithmetic.exp(x) for x in logits)
    chosen = sum(t * arithmetic.exp(x) for t, x in zip(targets, logits, strict=True))
    q = arithmetic.number(GCE_Q)
    return (arithmetic.number(1) - arithmetic.exp(q * arithmetic.log(chosen / total))) / q


def _log_sum_exp(logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
    softmax = Softmax.of(logits, targets.masked)
    return softmax.winner + softmax.log_sum, softmax.probabilities


def _textbook_log_sum_exp(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic
) -> Any:
    del targets
    return arithmetic.log(sum(arithmetic.exp(x) for x in logits))


KL_DIVERGENCE = LossSpec(
    name="KL divergence of a softmax",
    formula="sum_j t_j (log t_j - log softmax(x)_j), 0 log 0 = 0",
    target=kinds.DISTRIBUTION,
    evaluate=_divergence,
    textbook=_textbook_divergence,
    domain=_TARGET_DOMAIN,
    source="Kullback & Leibler 1951, 'On information and sufficiency'",
    error_factor=3.0,
    headroom=lambda _: SMALLEST_WEIGHT_INVERSE,
)
GENERALISED_CROSS_ENTROPY = LossSpec(
    name=f"generalised cross-entropy, q = {GCE_Q}",
    formula="(1 - softmax(x)_y**q) / q",
    target=kinds.INDEX,
    evaluate=_generalised,
    textbook=_textbook_generalised,
    domain=_TARGET_DOMAIN,
    source="Zhang & Sabuncu 2018, 'Generalized cross entropy loss for training deep neural "
    "networks with noisy labels'",
    error_factor=2.0,
)
LOG_SUM_EXP = LossSpec(
    name="log-sum-exp",
    formula="log(sum_k exp(x_k))",
    target=kinds.NONE,
    evaluate=_log_sum_exp,
    textbook=_textbook_log_sum_exp,
    domain=_DOMAIN,
    source="Blanchard, Higham & Higham 2021, 'Accurately computing the log-sum-exp and softmax "
    "functions', IMA J. Numer. Anal. 41",
)

LOSSES = (KL_DIVERGENCE, GENERALISED_CROSS_ENTROPY, LOG_SUM_EXP)
