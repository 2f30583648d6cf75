"""Softmax cross-entropies of integer labels whose shift, or whose lack of one, is the defect."""

from planted_entry import Planted, planting

from lossfuzz.harness.results import kinds

SHIFTS: list[Planted] = []
planted = planting(SHIFTS, "softmax-cross-entropy")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
INACCURATE = (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT)


@planted("tensorflow/tensorflow#10142, apache/singa#540: exp overflows", kinds=NON_FINITE)
def no_max_shift(logits, labels):
    import tensorflow as tf

    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits), -1))
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("apache/singa#540, whose remedy was exp(x - max(x)) without an axis", kinds=NON_FINITE)
def shift_by_the_largest_of_the_batch(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("PaddlePaddle/Paddle#19800: the maximum was not along the classes", kinds=NON_FINITE)
def shift_by_the_maximum_over_rows(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=0, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("a shift by the mean instead of the maximum; overflows with one outlier")
def shift_by_the_mean(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_mean(logits, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("a shift by the minimum, a slip of the pen", kinds=NON_FINITE)
def shift_by_the_minimum(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_min(logits, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("a running maximum that starts at 0 instead of -inf", kinds=NON_FINITE)
def shift_by_a_maximum_of_at_least_zero(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.maximum(tf.reduce_max(logits, axis=-1, keepdims=True), 0)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("tracel-ai/burn#4697: a floor of -1e4 under the maximum", kinds=NON_FINITE)
def shift_by_a_maximum_with_a_floor(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.maximum(tf.reduce_max(logits, axis=-1, keepdims=True), -1e4)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("a maximum clamped to [-50, 50]", kinds=NON_FINITE)
def shift_by_a_clamped_maximum(logits, labels):
    import tensorflow as tf

    largest = tf.clip_by_value(tf.reduce_max(logits, axis=-1, keepdims=True), -50.0, 50.0)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits - largest), -1)) + largest[..., 0]
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("cancellation at a common offset: logsumexp(x) - x_y", kinds=INACCURATE)
def maximum_added_back(logits, labels):
    import tensorflow as tf

    log_sum = tf.reduce_logsumexp(logits, axis=-1)
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("the maximum is constant in the shift and varies when it is added back", kinds=INACCURATE)
def maximum_added_back_with_its_gradient(logits, labels):
    import tensorflow as tf

    largest = tf.reduce_max(logits, axis=-1, keepdims=True)
    shifted = logits - tf.stop_gradient(largest)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1)) + largest[..., 0]
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("log(sum(exp(x - x_y))), which overflows where the label loses", kinds=NON_FINITE)
def shift_by_the_label(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(logits, labels, batch_dims=labels.shape.rank)
    return tf.math.log(tf.reduce_sum(tf.exp(logits - chosen[..., None]), -1))


@planted("a shift by the first logit, as of a pivot class", kinds=NON_FINITE)
def shift_by_the_first_class(logits, labels):
    import tensorflow as tf

    shifted = logits - logits[..., :1]
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("the maximum in bfloat16, too small by up to 1/256 of it", formats=("float32",))
def maximum_in_bfloat16(logits, labels):
    import tensorflow as tf

    largest = tf.reduce_max(tf.cast(logits, tf.bfloat16), axis=-1, keepdims=True)
    shifted = logits - tf.cast(largest, logits.dtype)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("openxla/xla#44738, jax-ml/jax#37234: logits scaled before the maximum is subtracted")
def base_two_before_the_shift(logits, labels):
    import tensorflow as tf

    scaled = logits * tf.cast(1.4426950408889634, logits.dtype)
    shifted = scaled - tf.stop_gradient(tf.reduce_max(scaled, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.pow(tf.cast(2.0, logits.dtype), shifted), -1))
    chosen = tf.gather(shifted, labels, batch_dims=labels.shape.rank)
    return log_sum - chosen * tf.cast(0.6931471805599453, logits.dtype)


@planted("logits clipped to [-50, 50] so that exp cannot overflow")
def clipped_logits(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.clip_by_value(logits, -50.0, 50.0)
    )


@planted("softmax along the wrong axis", kinds=(*INACCURATE, kinds.SIGN_FLIP, *NON_FINITE))
def softmax_over_the_batch(logits, labels):
    import tensorflow as tf

    log_probabilities = tf.nn.log_softmax(logits, axis=0)
    return -tf.gather(log_probabilities, labels, batch_dims=labels.shape.rank)


@planted("softmax along axis 1, which of [batch, time, classes] is the time")
def softmax_over_time(logits, labels):
    import tensorflow as tf

    log_probabilities = tf.nn.log_softmax(logits, axis=1)
    return -tf.gather(log_probabilities, labels, batch_dims=labels.shape.rank)


@planted("reduce_logsumexp without its axis")
def log_sum_over_everything(logits, labels):
    import tensorflow as tf

    log_probabilities = logits - tf.reduce_logsumexp(logits)
    return -tf.gather(log_probabilities, labels, batch_dims=labels.shape.rank)


@planted(
    "log-sum-exp replaced by the maximum where one logit leads clearly",
    formats=("float16", "float32"),
)
def maximum_for_log_sum_exp(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    log_sum = tf.reduce_logsumexp(shifted, -1)
    log_sum = tf.where(log_sum < 0.05, tf.zeros_like(log_sum), log_sum)
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)
