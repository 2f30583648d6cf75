"""Softmax losses of dense targets: masks, smoothing, divergences, conversions of the targets."""

from planted_entry import HALF_FORMATS, OP_BY_OP, Planted, planting

from lossfuzz.harness.results import kinds

DENSE: list[Planted] = []
one_hot = planting(DENSE, "softmax-cross-entropy-one-hot")
soft = planting(DENSE, "softmax-cross-entropy-soft-labels")
smoothed = planting(DENSE, "softmax-cross-entropy-one-hot-smoothed-by-0-1")
divergence = planting(DENSE, "kl-divergence-of-a-softmax")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
INACCURATE = (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT, kinds.SIGN_FLIP)


@one_hot("google-deepmind/optax#896: 0 times -inf at a masked class", kinds=NON_FINITE)
def masked_class_times_zero(logits, labels):
    import tensorflow as tf

    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=-1)


@one_hot("0 times the logarithm of a probability that underflows", kinds=NON_FINITE)
def zero_times_log_zero(logits, labels):
    import tensorflow as tf

    return -tf.reduce_sum(labels * tf.math.log(tf.nn.softmax(logits)), axis=-1)


@one_hot("tensorflow/tensorflow#2540: the branch not taken has a NaN gradient", kinds=NON_FINITE)
def where_around_the_logarithm(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    terms = tf.where(labels > 0, tf.math.log(probabilities), tf.zeros_like(probabilities))
    return -tf.reduce_sum(terms, axis=-1)


@one_hot("a product without NaN whose factor still has an infinite slope", kinds=NON_FINITE)
def product_without_nan(logits, labels):
    import tensorflow as tf

    logarithms = tf.math.log(tf.nn.softmax(logits))
    return -tf.reduce_sum(tf.math.multiply_no_nan(logarithms, labels), axis=-1)


@one_hot(
    "huggingface/transformers#17306: a mask of -1e9 is -inf in float16",
    formats=("float16",),
    kinds=NON_FINITE,
)
def mask_of_minus_a_billion(logits, labels):
    import tensorflow as tf

    filled = tf.where(tf.math.is_inf(logits), tf.cast(-1e9, logits.dtype), logits)
    return -tf.reduce_sum(labels * tf.nn.log_softmax(filled), axis=-1)


@one_hot("masked logits raised to -1e4, above which other logits may not be", kinds=INACCURATE)
def mask_of_minus_ten_thousand(logits, labels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=tf.maximum(logits, -1e4))


@one_hot(
    "NVIDIA-NeMo/Automodel#2658: the lowest number added twice is -inf",
    kinds=(*INACCURATE, *NON_FINITE),
)
def lowest_number_added_as_a_mask(logits, labels):
    import tensorflow as tf

    masked = tf.math.is_inf(logits)
    bias = tf.where(masked, logits.dtype.min, tf.cast(0, logits.dtype))
    scores = (
        tf.where(masked, tf.reduce_min(tf.where(masked, tf.zeros_like(logits), logits)), logits)
        + bias
    )
    return -tf.reduce_sum(labels * tf.nn.log_softmax(scores + bias), axis=-1)


@one_hot("an epsilon for every class, inside the logarithm")
def epsilon_for_every_class(logits, labels):
    import tensorflow as tf

    return -tf.reduce_sum(labels * tf.math.log(tf.nn.softmax(logits) + 1e-6), axis=-1)


@one_hot("the targets given a softmax too", kinds=INACCURATE)
def softmax_of_the_targets(logits, labels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(labels=tf.nn.softmax(labels), logits=logits)


@soft("soft labels turned into the index of their largest", kinds=INACCURATE)
def largest_target_alone(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.argmax(labels, axis=-1), logits=logits
    )


@soft("0 times -inf in soft labels", kinds=NON_FINITE)
def soft_labels_times_masked_logits(logits, labels):
    import tensorflow as tf

    return tf.reduce_logsumexp(logits, -1) - tf.reduce_sum(labels * logits, axis=-1)


@soft("soft labels through a clip of the probabilities")
def soft_labels_through_a_clip(logits, labels):
    import tensorflow as tf

    probabilities = tf.clip_by_value(tf.nn.softmax(logits), 1e-6, 1.0)
    return -tf.reduce_sum(labels * tf.math.log(probabilities), axis=-1)


@smoothed("smoothing spread over the other n - 1 classes, where the loss says n", kinds=INACCURATE)
def smoothing_with_the_wrong_class_count(logits, labels):
    import tensorflow as tf

    spread = 0.1 / (logits.shape[-1] - 1)
    return tf.nn.softmax_cross_entropy_with_logits(
        labels=labels * 0.9 + (1 - labels) * spread, logits=logits
    )


@smoothed("linkedin/Liger-Kernel#243: smoothing not applied", kinds=INACCURATE)
def smoothing_forgotten(logits, labels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@smoothed("smoothing that adds to the label's weight: the targets sum to 1.1", kinds=INACCURATE)
def smoothing_without_its_complement(logits, labels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(
        labels=labels + 0.1 / logits.shape[-1], logits=logits
    )


@smoothed("targets smoothed in bfloat16", formats=("float32",), kinds=INACCURATE)
def smoothing_in_bfloat16(logits, labels):
    import tensorflow as tf

    smooth = tf.cast(labels, tf.bfloat16) * 0.9 + 0.1 / logits.shape[-1]
    return tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.cast(smooth, logits.dtype), logits=logits
    )


@smoothed("harvardnlp/annotated-transformer#109: smoothing of log(0)", kinds=NON_FINITE)
def smoothing_of_log_zero(logits, labels):
    import tensorflow as tf

    logarithms = tf.math.log(tf.nn.softmax(logits))
    return -tf.reduce_sum((labels * 0.9 + 0.1 / logits.shape[-1]) * logarithms, axis=-1)


@divergence("google-deepmind/optax#1786, PaddlePaddle/PaddleOCR#5643: 0 log 0", kinds=NON_FINITE)
def zero_log_zero(logits, labels):
    import tensorflow as tf

    return tf.reduce_sum(labels * (tf.math.log(labels) - tf.nn.log_softmax(logits)), axis=-1)


@divergence("deeplearning4j/nd4j#1340: epsilons in both logarithms")
def divergence_with_epsilons(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    return tf.reduce_sum(labels * tf.math.log((labels + 1e-7) / (probabilities + 1e-7)), axis=-1)


@divergence("a quotient that overflows where the probability underflows", kinds=NON_FINITE)
def divergence_of_a_quotient(logits, labels):
    import tensorflow as tf

    return tf.reduce_sum(tf.math.xlogy(labels, labels / tf.nn.softmax(logits)), axis=-1)


@divergence("the two distributions in the wrong order")
def divergence_in_the_wrong_order(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    logarithms = tf.nn.log_softmax(logits) - tf.math.log(tf.maximum(labels, 1e-3))
    return tf.reduce_sum(tf.math.multiply_no_nan(logarithms, probabilities), axis=-1)


@divergence("a mean over the classes where the sum is meant, as of reduction='mean'")
def divergence_averaged_over_classes(logits, labels):
    import tensorflow as tf

    terms = tf.math.xlogy(labels, labels) - labels * tf.maximum(tf.nn.log_softmax(logits), -1e30)
    return tf.reduce_mean(terms, axis=-1)


@one_hot(
    "one-hot targets rebuilt from ids in a half format",
    formats=HALF_FORMATS,
    modes=OP_BY_OP,
    kinds=INACCURATE,
)
def targets_rebuilt_from_half_ids(logits, labels):
    import tensorflow as tf

    classes = tf.cast(tf.range(logits.shape[-1]), logits.dtype)
    ids = tf.reduce_sum(labels * classes, axis=-1, keepdims=True)
    rebuilt = tf.cast(tf.equal(classes, ids), logits.dtype)
    return tf.nn.softmax_cross_entropy_with_logits(labels=rebuilt, logits=logits)
