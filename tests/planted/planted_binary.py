"""Binary cross-entropies: logarithms of sigmoids, softplus in its wrong forms, weights."""

from planted_entry import HALF_FORMATS, OP_BY_OP, Planted, planting

from lossfuzz.harness.results import kinds

BINARY: list[Planted] = []
binary = planting(BINARY, "binary-cross-entropy")
soft = planting(BINARY, "binary-cross-entropy-soft-labels")
smoothed = planting(BINARY, "binary-cross-entropy-smoothed-by-0-1")
weighted = planting(BINARY, "binary-cross-entropy-positive-weight-8")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
INACCURATE = (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT, kinds.SIGN_FLIP)


@binary("the logarithm of a sigmoid that is 0 or 1", kinds=NON_FINITE)
def log_of_sigmoid(logits, labels):
    import tensorflow as tf

    chances = tf.sigmoid(logits)
    terms = labels * tf.math.log(chances) + (1 - labels) * tf.math.log(1 - chances)
    return -tf.reduce_mean(terms, axis=-1)


@binary(
    "keras-team/keras#377: 1 - 1e-9 is 1, so the upper clip does nothing",
    kinds=NON_FINITE,
)
def clip_that_rounds_to_one(logits, labels):
    import tensorflow as tf

    chances = tf.clip_by_value(tf.sigmoid(logits), 1e-9, 1.0 - 1e-9)
    terms = labels * tf.math.log(chances) + (1 - labels) * tf.math.log(1 - chances)
    return -tf.reduce_mean(terms, axis=-1)


@binary(
    "1 - 1e-7 is 1 in half formats",
    formats=HALF_FORMATS,
    modes=OP_BY_OP,
    kinds=NON_FINITE,
)
def clip_that_rounds_to_one_in_half(logits, labels):
    import tensorflow as tf

    chances = tf.clip_by_value(tf.sigmoid(logits), 1e-7, 1.0 - 1e-7)
    terms = labels * tf.math.log(chances) + (1 - labels) * tf.math.log(1 - chances)
    return -tf.reduce_mean(terms, axis=-1)


@binary("an epsilon in both logarithms")
def epsilon_in_both_logarithms(logits, labels):
    import tensorflow as tf

    chances = tf.sigmoid(logits)
    terms = labels * tf.math.log(chances + 1e-6) + (1 - labels) * tf.math.log(1 - chances + 1e-6)
    return -tf.reduce_mean(terms, axis=-1)


@binary("tensorflow/tensorflow#2540: the branch not taken overflows", kinds=NON_FINITE)
def where_between_two_forms(logits, labels):
    import tensorflow as tf

    above = logits + tf.math.log1p(tf.exp(-logits))
    below = tf.math.log1p(tf.exp(logits))
    return tf.reduce_mean(tf.where(logits > 0, above, below) - logits * labels, axis=-1)


@binary("pytorch/pytorch#68425: identity above a threshold, softplus below", kinds=NON_FINITE)
def where_with_a_threshold(logits, labels):
    import tensorflow as tf

    growth = tf.where(logits > 20, logits, tf.math.log1p(tf.exp(logits)))
    return tf.reduce_mean(growth - logits * labels, axis=-1)


@binary("log(1 + exp(x)) overflows", kinds=NON_FINITE)
def softplus_that_overflows(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(tf.math.log(1 + tf.exp(logits)) - logits * labels, axis=-1)


@binary("(1 - t) x + log(1 + exp(-x)) overflows below zero", kinds=NON_FINITE)
def softplus_that_overflows_below_zero(logits, labels):
    import tensorflow as tf

    terms = (1 - labels) * logits + tf.math.log1p(tf.exp(-logits))
    return tf.reduce_mean(terms, axis=-1)


@binary("jax-ml/jax#2140: relu and abs lose the gradient at exactly 0", kinds=INACCURATE)
def gradient_lost_at_zero(logits, labels):
    import tensorflow as tf

    terms = tf.nn.relu(logits) - logits * labels + tf.math.log1p(tf.exp(-tf.abs(logits)))
    return tf.reduce_mean(terms, axis=-1)


@binary("jax-ml/jax#2140 with a maximum, whose gradient at a tie goes one way", kinds=INACCURATE)
def gradient_doubled_at_zero(logits, labels):
    import tensorflow as tf

    rest = tf.math.log1p(tf.exp(-tf.abs(logits)))
    return tf.reduce_mean(tf.maximum(logits, 0) - logits * labels + rest, axis=-1)


@binary("sigmoid twice, the second one inside the loss", kinds=INACCURATE)
def double_sigmoid(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=tf.sigmoid(logits))
    return tf.reduce_mean(losses, axis=-1)


@binary("logits clipped to [-15, 15]")
def clipped_binary_logits(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=labels, logits=tf.clip_by_value(logits, -15.0, 15.0)
    )
    return tf.reduce_mean(losses, axis=-1)


@binary("a sum over the classes where the mean is meant", kinds=INACCURATE)
def sum_over_classes(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(losses, axis=-1)


@binary("absent classes left out: only the positive term", kinds=INACCURATE)
def positive_term_alone(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(labels * tf.math.softplus(-logits), axis=-1)


@soft("soft labels truncated to integers", kinds=INACCURATE)
def soft_labels_truncated(logits, labels):
    import tensorflow as tf

    whole = tf.cast(tf.cast(labels, tf.int32), logits.dtype)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=whole, logits=logits)
    return tf.reduce_mean(losses, axis=-1)


@soft("1 - sigmoid(x) rounds to 0", kinds=NON_FINITE)
def complement_of_sigmoid(logits, labels):
    import tensorflow as tf

    present = labels * tf.math.softplus(-logits)
    absent = (1 - labels) * tf.math.log1p(-tf.sigmoid(logits))
    return tf.reduce_mean(present - absent, axis=-1)


@smoothed("smoothing by a instead of a / 2 to the negative side", kinds=INACCURATE)
def smoothing_of_one_side(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels * 0.9, logits=logits)
    return tf.reduce_mean(losses, axis=-1)


@weighted("the weight on the negative class", kinds=INACCURATE)
def weight_on_the_wrong_class(logits, labels):
    import tensorflow as tf

    losses = tf.nn.weighted_cross_entropy_with_logits(1 - labels, -logits, 8.0)
    return tf.reduce_mean(losses, axis=-1)


@weighted(
    "PaddlePaddle/Paddle#64253: the gradient of the weighted loss was w sigmoid(x) - t",
    kinds=INACCURATE,
)
def weighted_gradient_of_the_wrong_term(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def losses_of(x):
        losses = tf.nn.weighted_cross_entropy_with_logits(labels, x, 8.0)
        return losses, lambda upstream: upstream * (tf.sigmoid(x) * 8.0 - labels)

    return tf.reduce_mean(losses_of(logits), axis=-1)
