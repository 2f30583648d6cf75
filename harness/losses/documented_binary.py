"""What libraries' code promises on a sigmoid's probabilities p, clipped to c or not.

    binary          mean_j -(t log(c + b) + (1 - t) log(1 - c + b))
                    dloss/dx = p (1 - p) ((1 - t) / (1 - c + b) - t / (c + b)) where p passes
    binary focal    mean_j weight q**gamma B, B = -log(c + b), p of the true class, q = 1 - p
                    dloss/ds = weight q**gamma (gamma p B + p q / (c + b)), s as in `focal`

Keras has b = 0; tf_keras clips and then adds b = clip_epsilon all the same;
tf.compat.v1.losses.log_loss adds it without a clip. The focal factor q**gamma is never clipped.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses import binary, focal
from lossfuzz.harness.losses.binary import sigmoid, smoothed_binary, softplus
from lossfuzz.harness.losses.clipping import CLIP_EPSILON, Clipped, textbook_clip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.spec import Arithmetic, LossSpec
    from lossfuzz.harness.losses.targets import Targets

_CLIP = "c = clip(sigmoid(x), 1e-7, 1 - 1e-7)"
_KERAS = "the code of Keras, backend/tensorflow/nn.py and losses/losses.py, "
_TF_KERAS = "the code of tf_keras, backend.py, "


def _evaluate(
    logits: Enclosure, targets: Targets, smoothing: float, added: float, *, clips: bool
) -> tuple[Enclosure, Enclosure]:
    count = float(logits.middle.shape[1])
    present, absent = smoothed_binary(targets, logits, smoothing)
    probabilities, complements = sigmoid(logits), sigmoid(-logits)
    clip = Clipped.of if clips else Clipped.unclipped
    clipped = clip(probabilities, complements)
    other = clipped.complementary()
    loss = -(present * clipped.logarithm(added) + absent * other.logarithm(added))
    slopes = absent / (other.values + added) - present / (clipped.values + added)
    gradient = (probabilities * complements * slopes).where(clipped.inside, 0.0)
    return loss.sum() / count, clipped.settled(gradient / count)


def _textbook(
    logits: Sequence[Any],
    targets: Sequence[Any],
    arithmetic: Arithmetic,
    smoothing: float,
    added: float,
    *,
    clips: bool,
) -> Any:
    one, amount, more = (arithmetic.number(value) for value in (1, smoothing, added))
    total = arithmetic.number(0)
    for x, given in zip(logits, targets, strict=True):
        t = given * (one - amount) + amount / arithmetic.number(2)
        p = one / (one + arithmetic.exp(-x))
        c = textbook_clip(p, arithmetic) if clips else p
        total = total - t * arithmetic.log(c + more)
        total = total - (one - t) * arithmetic.log(one - c + more)
    return total / arithmetic.number(len(logits))


def _focal(
    logits: Enclosure, targets: Targets, gamma: float, added: float, *, balanced: bool
) -> tuple[Enclosure, Enclosure]:
    count = float(logits.middle.shape[1])
    positive = targets.weights == 1
    lead = (-logits).where(positive, logits)
    probabilities, complements = sigmoid(-lead), sigmoid(lead)
    clipped = Clipped.of(probabilities, complements)
    loss = -clipped.logarithm(added)
    focus = (-softplus(-lead) * gamma).exp()
    if balanced:
        focus = focus * logits.constant(focal.ALPHA).where(positive, 1 - focal.ALPHA)
    passing = probabilities * complements / (clipped.values + added)
    slope = focus * (probabilities * loss * gamma + passing.where(clipped.inside, 0.0))
    gradient = (-slope).where(positive, slope) / count
    return (focus * loss).sum() / count, clipped.settled(gradient)


def _textbook_focal(
    logits: Sequence[Any],
    targets: Sequence[Any],
    arithmetic: Arithmetic,
    gamma: float,
    added: float,
    *,
    balanced: bool,
) -> Any:
    one, alpha = arithmetic.number(1), arithmetic.number(focal.ALPHA)
    total = arithmetic.number(0)
    for x, t in zip(logits, targets, strict=True):
        lead = -x if t != 0 else x
        p, q = one / (one + arithmetic.exp(lead)), one / (one + arithmetic.exp(-lead))
        weight = (alpha if t != 0 else one - alpha) if balanced else one
        focus = arithmetic.exp(arithmetic.number(gamma) * arithmetic.log(q))
        clipped = textbook_clip(p, arithmetic) + arithmetic.number(added)
        total = total - weight * focus * arithmetic.log(clipped)
    return total / arithmetic.number(len(logits))


def _formula(smoothing: float, inner: str, outer: str) -> str:
    also = ", t smoothed to (1 - a) t + a/2" if smoothing else ""
    return f"mean_j -(t_j log({inner}) + (1 - t_j) log({outer}))" + also


def _clipped(loss: LossSpec, *, smoothing: float = 0.0) -> LossSpec:
    return replace(
        loss,
        name=f"{loss.name}, clipped",
        formula=f"{_formula(smoothing, 'c_j', '1 - c_j')}, {_CLIP}",
        evaluate=lambda x, t: _evaluate(x, t, smoothing, 0.0, clips=True),
        textbook=lambda x, t, arithmetic: _textbook(x, t, arithmetic, smoothing, 0.0, clips=True),
        source=f"{_KERAS}binary_crossentropy",
    )


def _plus_epsilon(loss: LossSpec, *, clips: bool, smoothing: float = 0.0) -> LossSpec:
    letter = "c_j" if clips else "p_j"
    where = _CLIP if clips else "p = sigmoid(x)"
    return replace(
        loss,
        name=f"{loss.name}, {'clipped, ' if clips else ''}epsilon added",
        formula=f"{_formula(smoothing, f'{letter} + 1e-7', f'1 - {letter} + 1e-7')}, {where}",
        evaluate=lambda x, t: _evaluate(x, t, smoothing, CLIP_EPSILON, clips=clips),
        textbook=lambda x, t, arithmetic: _textbook(
            x, t, arithmetic, smoothing, CLIP_EPSILON, clips=clips
        ),
        source=f"{_TF_KERAS}binary_crossentropy"
        if clips
        else "tf.compat.v1.losses.log_loss's code",
    )


def _clipped_focal(loss: LossSpec, gamma: float, *, added: float, balanced: bool) -> LossSpec:
    more = " + 1e-7" if added else ""
    return replace(
        loss,
        name=f"{loss.name}, clipped{', epsilon added' if added else ''}",
        formula="mean_j weight (1 - p)**gamma (-log(clip(p, 1e-7, 1 - 1e-7)"
        f"{more})), p = sigmoid(x_j) or 1 - sigmoid(x_j)",
        evaluate=lambda x, t: _focal(x, t, gamma, added, balanced=balanced),
        textbook=lambda x, t, arithmetic: _textbook_focal(
            x, t, arithmetic, gamma, added, balanced=balanced
        ),
        source=f"{_TF_KERAS if added else _KERAS}binary_focal_crossentropy",
    )


CLIPPED_BINARY = _clipped(binary.BINARY_CROSS_ENTROPY)
CLIPPED_SOFT_BINARY = _clipped(binary.SOFT_BINARY_CROSS_ENTROPY)
CLIPPED_SMOOTHED_BINARY = _clipped(
    binary.SMOOTHED_BINARY_CROSS_ENTROPY, smoothing=binary.SMOOTHING
)
CLIPPED_BINARY_PLUS_EPSILON = _plus_epsilon(binary.BINARY_CROSS_ENTROPY, clips=True)
CLIPPED_SOFT_BINARY_PLUS_EPSILON = _plus_epsilon(binary.SOFT_BINARY_CROSS_ENTROPY, clips=True)
CLIPPED_SMOOTHED_BINARY_PLUS_EPSILON = _plus_epsilon(
    binary.SMOOTHED_BINARY_CROSS_ENTROPY, clips=True, smoothing=binary.SMOOTHING
)
LOG_LOSS = _plus_epsilon(binary.BINARY_CROSS_ENTROPY, clips=False)
CLIPPED_BINARY_FOCAL = {
    gamma: _clipped_focal(loss, gamma, added=0.0, balanced=False)
    for gamma, loss in focal.BINARY_FOCAL.items()
}
CLIPPED_BALANCED_BINARY_FOCAL = _clipped_focal(
    focal.BALANCED_BINARY_FOCAL, focal.GAMMAS[0], added=0.0, balanced=True
)
CLIPPED_BINARY_FOCAL_PLUS_EPSILON = {
    gamma: _clipped_focal(loss, gamma, added=CLIP_EPSILON, balanced=False)
    for gamma, loss in focal.BINARY_FOCAL.items()
}
CLIPPED_BALANCED_BINARY_FOCAL_PLUS_EPSILON = _clipped_focal(
    focal.BALANCED_BINARY_FOCAL, focal.GAMMAS[0], added=CLIP_EPSILON, balanced=True
)

DOCUMENTED = (
    CLIPPED_BINARY,
    CLIPPED_SOFT_BINARY,
    CLIPPED_SMOOTHED_BINARY,
    CLIPPED_BINARY_PLUS_EPSILON,
    CLIPPED_SOFT_BINARY_PLUS_EPSILON,
    CLIPPED_SMOOTHED_BINARY_PLUS_EPSILON,
    LOG_LOSS,
    *CLIPPED_BINARY_FOCAL.values(),
    CLIPPED_BALANCED_BINARY_FOCAL,
    *CLIPPED_BINARY_FOCAL_PLUS_EPSILON.values(),
    CLIPPED_BALANCED_BINARY_FOCAL_PLUS_EPSILON,
)
