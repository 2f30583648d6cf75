"""Softmax cross-entropies of integer labels that take the logarithm of a probability."""

from planted_entry import HALF_FORMATS, OP_BY_OP, Planted, planting

from lossfuzz.harness.results import kinds

PROBABILITIES: list[Planted] = []
planted = planting(PROBABILITIES, "softmax-cross-entropy")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
STOPS = (kinds.SATURATION, kinds.INACCURATE_LOSS, kinds.GRADIENT_COLLAPSE)


@planted("deeplearning4j/nd4j#2822, deeplearning4j/deeplearning4j#785", kinds=NON_FINITE)
def log_of_softmax(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


@planted("mkocabas/focal-loss-keras#5, FluxML/Flux.jl#306: an epsilon in the logarithm")
def epsilon_in_the_logarithm(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    chosen = tf.gather(probabilities, labels, batch_dims=labels.shape.rank)
    return -tf.math.log(chosen + 1e-7)


@planted(
    "lisa-lab/DeepLearningTutorials#86: an epsilon of 1e-8 is 0 in float16",
    formats=("float16",),
    modes=OP_BY_OP,
    kinds=NON_FINITE,
)
def epsilon_that_underflows(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits)
    chosen = tf.gather(probabilities, labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.maximum(chosen, tf.cast(1e-8, logits.dtype)))


@planted("an epsilon of 1e-12 in the logarithm, with the loss in float32", kinds=STOPS)
def small_epsilon_in_float32(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(tf.cast(logits, tf.float32))
    chosen = tf.gather(probabilities, labels, batch_dims=labels.shape.rank)
    return -tf.math.log(chosen + 1e-12)


@planted("tensorflow/addons#693, openai/baselines#131: no gradient beyond a clip", kinds=STOPS)
def clipped_probabilities(logits, labels):
    import tensorflow as tf

    probabilities = tf.clip_by_value(tf.nn.softmax(logits), 1e-7, 1.0 - 1e-7)
    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


@planted("DigiRL-agent/digirl#22: probabilities clamped to [0.001, 0.99]", kinds=STOPS)
def strongly_clipped_probabilities(logits, labels):
    import tensorflow as tf

    probabilities = tf.clip_by_value(tf.nn.softmax(logits), 0.001, 0.99)
    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


@planted("a probability renormalised after an epsilon was added to all classes", kinds=STOPS)
def renormalised_after_epsilon(logits, labels):
    import tensorflow as tf

    probabilities = tf.nn.softmax(logits) + 1e-5
    probabilities /= tf.reduce_sum(probabilities, axis=-1, keepdims=True)
    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


@planted("tflearn/tflearn#562, nfmcclure/tensorflow_cookbook#86: softmax twice")
def double_softmax(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.nn.softmax(logits)
    )


@planted("log(softmax(x)) given where logits are expected", kinds=NON_FINITE)
def log_of_softmax_as_logits(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.math.log(tf.nn.softmax(logits))
    )


@planted("softmax in a half format, the logarithm in float32: upcast too late", kinds=NON_FINITE)
def upcast_too_late(logits, labels):
    import tensorflow as tf

    probabilities = tf.cast(tf.nn.softmax(logits), tf.float32)
    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


@planted(
    "logits rounded to bfloat16 before they are widened to float32: upcast too late",
    formats=("float16", "float32"),
)
def rounded_before_the_upcast(logits, labels):
    import tensorflow as tf

    rounded = tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=rounded)


@planted("float32 logits computed in float16, which overflows at 65520", formats=("float32",))
def computed_in_float16(logits, labels):
    import tensorflow as tf

    log_probabilities = tf.nn.log_softmax(tf.cast(logits, tf.float16))
    chosen = tf.gather(log_probabilities, labels, batch_dims=labels.shape.rank)
    return -tf.cast(chosen, tf.float32)


@planted("-log(1 - q), where q, the mass of the other classes, rounds to 1", kinds=NON_FINITE)
def complement_that_rounds_to_one(logits, labels):
    import tensorflow as tf

    others = 1 - tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return -tf.math.log1p(-tf.reduce_sum(tf.nn.softmax(logits) * others, axis=-1))


@planted("the losses of confident rows dropped: p > 0.9 counts as learnt", kinds=())
def confident_rows_dropped(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.where(losses < 0.1, tf.zeros_like(losses), losses)


@planted("exp and sum in a half format without a wider sum", formats=HALF_FORMATS, modes=OP_BY_OP)
def probabilities_without_a_shift_in_half(logits, labels):
    import tensorflow as tf

    weights = tf.exp(logits)
    probabilities = weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
    chosen = tf.gather(probabilities, labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.maximum(chosen, 1e-4))
