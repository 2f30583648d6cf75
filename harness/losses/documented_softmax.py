"""What libraries' code promises on a softmax's probabilities p, clipped to c.

    sparse categorical   log(sum_k c_k) - log c_y = log1p(sum of c_k over k != y / c_y), for Keras
                         hands log c to the fused kernel, which normalises once more
    categorical          -sum_j t_j log c_j
    categorical focal    alpha (1 - c_y)**gamma (-log c_y)
    KL divergence        sum_j T_j log(T_j / c_j), T and c clipped to [clip_epsilon, 1]

With h_j = p_j dloss/dc_j where the clip passes a gradient and 0 elsewhere,

    dloss/dx_j = h_j - p_j sum_k h_k

which is accurate absolutely, not relatively: near the kinks the formulas themselves cancel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import cross_entropy, focal
from lossfuzz.harness.losses.clipping import CLIP_EPSILON, Clipped, textbook_clip
from lossfuzz.harness.losses.cross_entropy import smoothed
from lossfuzz.harness.losses.divergences import KL_DIVERGENCE
from lossfuzz.harness.losses.softmax import Softmax
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.spec import Arithmetic, LossSpec
    from lossfuzz.harness.losses.targets import Targets

_CLIP = "c = clip(softmax(x), 1e-7, 1 - 1e-7)"
_CODE = "the code of Keras and tf_keras, backend/tensorflow/nn.py and backend.py, "


def _pulled_back(per_probability: Enclosure, probabilities: Enclosure) -> Enclosure:
    return per_probability - probabilities * per_probability.sum()


def _probabilities(logits: Sequence[Any], arithmetic: Arithmetic, temperature: float) -> list[Any]:
    weights = [arithmetic.exp(x / arithmetic.number(temperature)) for x in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def _sparse(
    logits: Enclosure, targets: Targets, temperature: float
) -> tuple[Enclosure, Enclosure]:
    softmax = Softmax.of(logits, targets.masked, temperature)
    clipped = Clipped.of(softmax.probabilities, softmax.complements)
    at_label = np.arange(logits.middle.shape[1])[None, :] == targets.labels[:, None]
    kept = targets.weights.sum(axis=1, keepdims=True) > 0
    others = clipped.values.where(~at_label, 0.0).sum()
    total = clipped.values.sum()
    slopes = (-others).where(at_label, clipped.values) / total
    gradient = _pulled_back(slopes.where(clipped.inside & kept, 0.0), softmax.probabilities)
    loss = (others / clipped.values.at(targets.labels)).log1p().where(kept, 0.0)
    return loss, clipped.settled(gradient / temperature)


def _textbook_sparse(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic, temperature: float
) -> Any:
    if all(t == 0 for t in targets):
        return arithmetic.number(0) * sum(logits)
    clipped = [
        textbook_clip(p, arithmetic) for p in _probabilities(logits, arithmetic, temperature)
    ]
    chosen = sum(t * c for t, c in zip(targets, clipped, strict=True))
    return arithmetic.log(sum(clipped)) - arithmetic.log(chosen)


def _dense(
    logits: Enclosure, targets: Targets, smoothing: float, added: float
) -> tuple[Enclosure, Enclosure]:
    softmax = Softmax.of(logits, targets.masked)
    clip = Clipped.unclipped if added else Clipped.of
    clipped = clip(softmax.probabilities, softmax.complements)
    weights, _ = smoothed(logits.exactly(targets.weights, logits.numbers), smoothing)
    slopes = -(weights * clipped.values) / (clipped.values + added) if added else -weights
    gradient = _pulled_back(slopes.where(clipped.inside, 0.0), softmax.probabilities)
    return -(weights * clipped.logarithm(added)).sum(), clipped.settled(gradient)


def _textbook_dense(
    logits: Sequence[Any],
    targets: Sequence[Any],
    arithmetic: Arithmetic,
    smoothing: float,
    added: float,
) -> Any:
    one, amount = arithmetic.number(1), arithmetic.number(smoothing)
    mass = sum(targets) * amount / arithmetic.number(len(logits))
    total = arithmetic.number(0)
    for t, p in zip(targets, _probabilities(logits, arithmetic, 1.0), strict=True):
        c = p + arithmetic.number(added) if added else textbook_clip(p, arithmetic)
        total = total - (t * (one - amount) + mass) * arithmetic.log(c)
    return total


def _divergence(logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
    softmax = Softmax.of(logits, targets.masked)
    clipped = Clipped.from_below(softmax.probabilities, softmax.complements)
    raised = np.maximum(targets.weights, CLIP_EPSILON)
    weights = logits.exactly(raised, logits.numbers)
    gradient = _pulled_back((-weights).where(clipped.inside, 0.0), softmax.probabilities)
    loss = (weights * (weights.log() - clipped.logarithm())).sum()
    return loss, clipped.settled(gradient)


def _textbook_divergence(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic
) -> Any:
    total = arithmetic.number(0)
    for t, p in zip(targets, _probabilities(logits, arithmetic, 1.0), strict=True):
        weight = textbook_clip(t, arithmetic, above=False)
        clipped = textbook_clip(p, arithmetic, above=False)
        total = total + weight * arithmetic.log(weight / clipped)
    return total


def _focal(logits: Enclosure, targets: Targets, gamma: float) -> tuple[Enclosure, Enclosure]:
    softmax = Softmax.of(logits, targets.masked)
    clipped = Clipped.of(softmax.probabilities, softmax.complements).at(targets.labels)
    at_label = np.arange(logits.middle.shape[1])[None, :] == targets.labels[:, None]
    focus = (clipped.complementary().logarithm() * gamma).exp() * focal.ALPHA
    loss = -clipped.logarithm()
    slope = loss * clipped.values * gamma / clipped.complements + 1.0
    slope = (focus * slope).where(clipped.inside, 0.0)
    gradient = (-softmax.complements).where(at_label, softmax.probabilities) * slope
    return focus * loss, clipped.settled(gradient)


def _textbook_focal(
    logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic, gamma: float
) -> Any:
    probabilities = _probabilities(logits, arithmetic, 1.0)
    chosen = sum(t * p for t, p in zip(targets, probabilities, strict=True))
    clipped = textbook_clip(chosen, arithmetic)
    remainder = arithmetic.log(arithmetic.number(1) - clipped)
    focus = arithmetic.exp(arithmetic.number(gamma) * remainder)
    return -arithmetic.number(focal.ALPHA) * focus * arithmetic.log(clipped)


def _clipped_sparse(loss: LossSpec, *, temperature: float = 1.0, also: str = "") -> LossSpec:
    return replace(
        loss,
        name=f"{loss.name}, clipped",
        formula=f"log(sum_k c_k) - log c_y, {_CLIP}{also}",
        evaluate=lambda x, t: _sparse(x, t, temperature),
        textbook=lambda x, t, arithmetic: _textbook_sparse(x, t, arithmetic, temperature),
        source=f"{_CODE}sparse_categorical_crossentropy",
    )


def _clipped_dense(loss: LossSpec, *, smoothing: float = 0.0) -> LossSpec:
    return replace(
        loss,
        name=f"{loss.name}, clipped",
        formula=f"-sum_j {'((1 - a) t_j + a/n)' if smoothing else 't_j'} log c_j, {_CLIP}",
        evaluate=lambda x, t: _dense(x, t, smoothing, 0.0),
        textbook=lambda x, t, arithmetic: _textbook_dense(x, t, arithmetic, smoothing, 0.0),
        source=f"{_CODE}categorical_crossentropy",
    )


def _clipped_focal(gamma: float) -> LossSpec:
    loss = focal.CATEGORICAL_FOCAL[gamma]
    return replace(
        loss,
        name=f"{loss.name}, clipped",
        formula=f"alpha (1 - c_y)**gamma (-log c_y), {_CLIP}",
        evaluate=lambda x, t: _focal(x, t, gamma),
        textbook=lambda x, t, arithmetic: _textbook_focal(x, t, arithmetic, gamma),
        source=f"{_CODE}categorical_focal_crossentropy",
    )


CLIPPED_CROSS_ENTROPY = _clipped_sparse(SOFTMAX_CROSS_ENTROPY)
CLIPPED_IGNORING_CROSS_ENTROPY = _clipped_sparse(
    cross_entropy.IGNORING_CROSS_ENTROPY, also=", and 0 where the label is -1"
)
CLIPPED_WARM_CROSS_ENTROPY = _clipped_sparse(
    cross_entropy.WARM_CROSS_ENTROPY, temperature=2.0, also=", of x / 2"
)
CLIPPED_COLD_CROSS_ENTROPY = _clipped_sparse(
    cross_entropy.COLD_CROSS_ENTROPY, temperature=1 / 16, also=", of 16 x"
)
CLIPPED_ONE_HOT_CROSS_ENTROPY = _clipped_dense(cross_entropy.ONE_HOT_CROSS_ENTROPY)
CLIPPED_SOFT_CROSS_ENTROPY = _clipped_dense(cross_entropy.SOFT_CROSS_ENTROPY)
CLIPPED_SMOOTHED_CROSS_ENTROPY = _clipped_dense(
    cross_entropy.SMOOTHED_CROSS_ENTROPY, smoothing=cross_entropy.SMOOTHING
)
ONE_HOT_CROSS_ENTROPY_PLUS_EPSILON = replace(
    cross_entropy.ONE_HOT_CROSS_ENTROPY,
    name=f"{cross_entropy.ONE_HOT_CROSS_ENTROPY.name}, epsilon added",
    formula="-sum_j t_j log(softmax(x)_j + 1e-7)",
    evaluate=lambda x, t: _dense(x, t, 0.0, CLIP_EPSILON),
    textbook=lambda x, t, arithmetic: _textbook_dense(x, t, arithmetic, 0.0, CLIP_EPSILON),
    source="the expression itself, which many hand-written losses use",
)
CLIPPED_KL_DIVERGENCE = replace(
    KL_DIVERGENCE,
    name=f"{KL_DIVERGENCE.name}, clipped",
    formula="sum_j T_j log(T_j / c_j), T = clip(t, 1e-7, 1), c = clip(softmax(x), 1e-7, 1)",
    evaluate=_divergence,
    textbook=_textbook_divergence,
    source="the code of Keras and tf_keras, losses.py, kl_divergence",
)
CLIPPED_CATEGORICAL_FOCAL = {gamma: _clipped_focal(gamma) for gamma in focal.GAMMAS}

DOCUMENTED = (
    CLIPPED_CROSS_ENTROPY,
    CLIPPED_IGNORING_CROSS_ENTROPY,
    CLIPPED_WARM_CROSS_ENTROPY,
    CLIPPED_COLD_CROSS_ENTROPY,
    CLIPPED_ONE_HOT_CROSS_ENTROPY,
    CLIPPED_SOFT_CROSS_ENTROPY,
    CLIPPED_SMOOTHED_CROSS_ENTROPY,
    ONE_HOT_CROSS_ENTROPY_PLUS_EPSILON,
    CLIPPED_KL_DIVERGENCE,
    *CLIPPED_CATEGORICAL_FOCAL.values(),
)
