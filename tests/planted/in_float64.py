"""Every loss as a careful user writes it in float64, by the textbook's stable forms."""

from lossfuzz.harness.losses import targets as target_kinds
from lossfuzz.harness.losses.binary import (
    SMOOTHED_BINARY_CROSS_ENTROPY,
    WEIGHTED_BINARY_CROSS_ENTROPY,
)
from lossfuzz.harness.losses.cross_entropy import (
    COLD_CROSS_ENTROPY,
    SMOOTHED_CROSS_ENTROPY,
    WARM_CROSS_ENTROPY,
)
from lossfuzz.harness.losses.divergences import (
    GENERALISED_CROSS_ENTROPY,
    KL_DIVERGENCE,
    LOG_SUM_EXP,
)
from lossfuzz.harness.losses.focal import (
    ALPHA,
    BALANCED_BINARY_FOCAL,
    BINARY_FOCAL,
    CATEGORICAL_FOCAL,
)


def one_hot(tf, logits, labels):
    return tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


TEMPERATURES = {WARM_CROSS_ENTROPY.name: 2.0, COLD_CROSS_ENTROPY.name: 1 / 16}
GAMMAS = {x.name: g for group in (CATEGORICAL_FOCAL, BINARY_FOCAL) for g, x in group.items()}
GAMMAS[BALANCED_BINARY_FOCAL.name] = 2.0


def focal(tf, losses, gamma):
    # the derivative of the power at 0 would be infinite for a gamma below 1
    return losses * tf.maximum(-tf.math.expm1(-losses), 1e-300) ** gamma if gamma else losses


def softmax_rows(tf, base, x, t):
    shifted = x - tf.stop_gradient(tf.reduce_max(x, -1, keepdims=True))
    masked = tf.math.is_inf(x)
    safe = tf.where(masked, tf.zeros_like(x), shifted / TEMPERATURES.get(base.name, 1.0))
    weights = tf.where(masked, tf.zeros_like(x), tf.exp(safe))
    log_sum = tf.math.log(tf.reduce_sum(weights, -1))
    if base is LOG_SUM_EXP:
        return log_sum + tf.reduce_max(tf.stop_gradient(x), -1)
    if base is SMOOTHED_CROSS_ENTROPY:
        t = t * 0.9 + 0.1 / x.shape[-1]
    losses = log_sum * tf.reduce_sum(t, -1) - tf.reduce_sum(t * safe, -1)
    if base is KL_DIVERGENCE:
        return losses + tf.reduce_sum(tf.math.xlogy(t, t), -1)
    if base is GENERALISED_CROSS_ENTROPY:
        return -tf.math.expm1(-losses * 0.5) * 2
    return focal(tf, losses, GAMMAS[base.name]) * ALPHA if base.name in GAMMAS else losses


def binary_rows(tf, base, x, t):
    if base is SMOOTHED_BINARY_CROSS_ENTROPY:
        t = t * 0.9 + 0.05
    weight = 8.0 if base is WEIGHTED_BINARY_CROSS_ENTROPY else 1.0
    losses = weight * t * tf.nn.softplus(-x) + (1 - t) * tf.nn.softplus(x)
    losses = focal(tf, losses, GAMMAS.get(base.name, 0.0))
    if base is BALANCED_BINARY_FOCAL:
        losses *= t * ALPHA + (1 - t) * (1 - ALPHA)
    return tf.reduce_mean(losses, -1)


def in_float64(tf, loss):
    """The loss as a careful user writes it, in float64."""
    base = loss.base or loss
    integer = base.target in (target_kinds.INDEX, target_kinds.IGNORABLE, target_kinds.NONE)

    def call(logits, given, _):
        x = tf.cast(logits, tf.float64)
        t = tf.cast(one_hot(tf, x, given) if integer else given, tf.float64)
        losses = (softmax_rows if base.masks else binary_rows)(tf, base, x, t)
        if loss.reduction:
            count = losses.shape.num_elements()
            ordinals = tf.reshape(tf.range(count) % 8 + 1, losses.shape)
            weights = tf.cast(ordinals, tf.float64) / 4 if "weighted" in loss.reduction else 1.0
            losses = tf.reduce_sum(losses * weights) / (1 if loss.reduction == "sum" else count)
        return tf.cast(losses, logits.dtype)

    return call
