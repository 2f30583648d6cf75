"""Losses that look as the planted ones do and have no defect; they must never be flagged.

Some look unsound and are not: a half format throughout, a difference that cancels only what
rounding has already lost, an epsilon that guards a logarithm whose argument cannot be small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planted_entry import Sound

if TYPE_CHECKING:
    from collections.abc import Callable

TWINS: list[Sound] = []

HALF_SUM = 32000
"""Classes whose exponentials TensorFlow sums in float16, in blocks, without overflow."""


def sound(against: str, why: str, **fields: Any) -> Callable[[Any], Any]:
    """A decorator that adds a function to the twins."""

    def add(loss: Any) -> Any:
        TWINS.append(Sound(name=loss.__name__, against=against, loss=loss, why=why, **fields))
        return loss

    return add


@sound("softmax-cross-entropy", "TensorFlow's fused kernel")
def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@sound("softmax-cross-entropy", "log_softmax of the label", most_classes=HALF_SUM)
def log_softmax_of_the_label(logits, labels):
    import tensorflow as tf

    return -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=labels.shape.rank)


@sound(
    "softmax-cross-entropy", "both terms shifted by the constant maximum", most_classes=HALF_SUM
)
def shifted_by_hand(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@sound(
    "softmax-cross-entropy",
    "shifted by a varying maximum, whose gradient cancels exactly",
    most_classes=HALF_SUM,
)
def shifted_by_a_varying_maximum(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@sound("softmax-cross-entropy", "computed in float32 and returned there")
def widened_to_float32(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.cast(logits, tf.float32)
    )


@sound("softmax-cross-entropy", "computed in float64 and rounded once")
def widened_to_float64(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.cast(logits, tf.float64)
    )
    return tf.cast(losses, logits.dtype)


@sound(
    "softmax-cross-entropy",
    "a custom gradient that multiplies with the upstream one",
    most_classes=HALF_SUM,
)
def custom_gradient(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def losses_of(x):
        shifted = x - tf.reduce_max(x, axis=-1, keepdims=True)
        weights = tf.exp(shifted)
        total = tf.reduce_sum(weights, axis=-1, keepdims=True)
        target = tf.one_hot(labels, x.shape[-1], dtype=x.dtype)
        chosen = tf.gather(shifted, labels, batch_dims=labels.shape.rank)
        losses = tf.math.log(total)[..., 0] - chosen
        return losses, lambda up: (weights / total - target) * up[..., None]

    return losses_of(logits)


@sound("softmax-cross-entropy", "an online sum over blocks that rescales, masked blocks included")
def online_blocks(logits, labels):
    import tensorflow as tf

    wide = tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    block = max(1, -(-classes // 4))
    largest = tf.stop_gradient(tf.reduce_max(wide, axis=-1, keepdims=True))
    total = tf.zeros_like(wide[..., 0])
    for start in range(0, classes, block):
        total += tf.reduce_sum(tf.exp(wide[..., start : start + block] - largest), axis=-1)
    chosen = tf.gather(wide - largest, labels, batch_dims=labels.shape.rank)
    return tf.cast(tf.math.log(total) - chosen, logits.dtype)


@sound(
    "softmax-cross-entropy",
    "log1p of the other classes' sum, by a count of ties",
    most_classes=HALF_SUM,
)
def log1p_of_the_others(logits, labels):
    import tensorflow as tf

    winner = tf.argmax(logits, axis=-1, output_type=tf.int32)
    leads = tf.one_hot(winner, logits.shape[-1], on_value=True, off_value=False)
    shifted = logits - tf.gather(logits, winner, batch_dims=winner.shape.rank)[..., None]
    others = tf.where(leads, tf.zeros_like(shifted), tf.exp(shifted))
    log_sum = tf.math.log1p(tf.reduce_sum(others, -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@sound(
    "softmax-cross-entropy",
    "an epsilon in the logarithm of a sum that is at least 1",
    most_classes=HALF_SUM,
)
def epsilon_that_does_nothing(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    total = tf.reduce_sum(tf.exp(shifted), -1)
    log_sum = tf.math.log(tf.maximum(total, tf.cast(1e-7, total.dtype)))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@sound("softmax-cross-entropy-one-hot", "the kernel of integer labels: nothing is multiplied by 0")
def labels_of_one_hot(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.argmax(labels, axis=-1), logits=logits
    )


@sound(
    "softmax-cross-entropy-one-hot",
    "two wheres: neither value nor slope meets an infinity",
    most_classes=HALF_SUM,
)
def two_wheres(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    safe = tf.where(labels > 0, shifted, tf.zeros_like(shifted))
    return log_sum - tf.reduce_sum(labels * safe, axis=-1)


@sound(
    "softmax-cross-entropy-soft-labels",
    "soft labels times log_softmax where they are not 0",
    most_classes=HALF_SUM,
)
def soft_labels(logits, labels):
    import tensorflow as tf

    logarithms = tf.nn.log_softmax(logits)
    terms = tf.where(labels > 0, labels * logarithms, tf.zeros_like(labels))
    return -tf.reduce_sum(terms, axis=-1)


@sound("softmax-cross-entropy-one-hot-smoothed-by-0-1", "smoothed targets given to the kernel")
def smoothed(logits, labels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(
        labels=labels * 0.9 + 0.1 / logits.shape[-1], logits=logits
    )


@sound("softmax-cross-entropy-ignoring-a-class", "ignored rows get a safe label, then no loss")
def ignoring(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.where(labels < 0, tf.argmax(logits, -1, tf.int32), labels), logits=logits
    )
    return tf.where(labels < 0, tf.zeros_like(losses), losses)


@sound(
    "kl-divergence-of-a-softmax", "every term safe where its target is 0", most_classes=HALF_SUM
)
def divergence(logits, labels):
    import tensorflow as tf

    logarithms = tf.nn.log_softmax(logits)
    present = labels > 0
    safe = tf.where(present, logarithms, tf.zeros_like(logarithms))
    return tf.reduce_sum(tf.math.xlogy(labels, labels) - labels * safe, axis=-1)


@sound("softmax-cross-entropy-at-temperature-1-16", "shifted before it is scaled")
def shifted_before_scaled(logits, labels):
    import tensorflow as tf

    wide = tf.cast(logits, tf.float64)
    shifted = wide - tf.reduce_max(wide, axis=-1, keepdims=True)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=shifted * 16)
    return tf.cast(losses, logits.dtype)


@sound("softmax-cross-entropy-at-temperature-2", "halving is exact")
def halved(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits / 2)


@sound("log-sum-exp", "TensorFlow's reduce_logsumexp", most_classes=HALF_SUM)
def log_sum_exp(logits, labels):
    import tensorflow as tf

    del labels
    return tf.reduce_logsumexp(logits, axis=-1)


@sound(
    "generalised-cross-entropy-q-0-5", "expm1 of half the log-probability", most_classes=HALF_SUM
)
def generalised(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=labels.shape.rank)
    return -2 * tf.math.expm1(0.5 * chosen)


@sound("categorical-focal-loss-alpha-0-25-gamma-2", "1 - p by expm1 of the loss, in float64")
def focal(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.argmax(labels, axis=-1), logits=tf.cast(logits, tf.float64)
    )
    return tf.cast(0.25 * tf.math.expm1(-losses) ** 2 * losses, logits.dtype)


@sound("binary-cross-entropy", "TensorFlow's stable form")
def binary(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(tf.cast(losses, tf.float32), axis=-1)


@sound("binary-cross-entropy", "softplus of either sign")
def softplus_of_either_sign(logits, labels):
    import tensorflow as tf

    losses = labels * tf.math.softplus(-logits) + (1 - labels) * tf.math.softplus(logits)
    return tf.reduce_mean(tf.cast(losses, tf.float32), axis=-1)


@sound("binary-cross-entropy", "log_sigmoid(x) - x cancels only what rounding has lost already")
def complement_by_subtraction(logits, labels):
    import tensorflow as tf

    present = tf.math.log_sigmoid(logits)
    terms = labels * present + (1 - labels) * (present - logits)
    return -tf.reduce_mean(tf.cast(terms, tf.float32), axis=-1)


@sound("binary-cross-entropy-soft-labels", "two wheres around log1p(exp(-|x|))")
def two_wheres_of_softplus(logits, labels):
    import tensorflow as tf

    positive = logits >= 0
    decay = tf.exp(tf.where(positive, -logits, logits))
    missed = tf.where(positive, logits * (1 - labels), -logits * labels)
    terms = tf.cast(missed + tf.math.log1p(decay), tf.float32)
    return tf.reduce_mean(terms, axis=-1)


@sound("binary-cross-entropy-positive-weight-8", "the weight on the positive softplus")
def weighted_binary(logits, labels):
    import tensorflow as tf

    x, targets = tf.cast(logits, tf.float32), tf.cast(labels, tf.float32)
    losses = 8 * targets * tf.math.softplus(-x) + (1 - targets) * tf.math.softplus(x)
    return tf.reduce_mean(losses, axis=-1)


@sound("binary-focal-loss-gamma-2", "1 - p as a sigmoid of the opposite sign")
def binary_focal(logits, labels):
    import tensorflow as tf

    signed = logits * (1 - 2 * labels)
    terms = tf.sigmoid(signed) ** 2 * tf.math.softplus(signed)
    return tf.reduce_mean(tf.cast(terms, tf.float32), axis=-1)


@sound("softmax-cross-entropy", "a batch's losses averaged in float32", reduction="mean")
def mean_in_float32(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=tf.cast(logits, tf.float32)
        )
    )


@sound("softmax-cross-entropy", "weights of rows inside the mean", reduction="weighted mean")
def weighted_mean_in_float32(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.cast(logits, tf.float32)
    )
    flat = tf.reshape(losses, [-1])
    weights = tf.cast(tf.range(flat.shape[0]) % 8 + 1, flat.dtype) / 4
    return tf.reduce_mean(flat * weights)


SOUND: tuple[Sound, ...] = tuple(TWINS)
"""Losses without a defect; their names are unique."""
