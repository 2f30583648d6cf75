"""Sums over many classes and over batches: in half formats, over the wrong count, twice."""

from planted_entry import HALF_FORMATS, OP_BY_OP, Planted, planting

from lossfuzz.harness.results import kinds

REDUCTIONS: list[Planted] = []
planted = planting(REDUCTIONS, "softmax-cross-entropy")
log_sum_exp = planting(REDUCTIONS, "log-sum-exp")
ignoring = planting(REDUCTIONS, "softmax-cross-entropy-ignoring-a-class")


@planted(
    "a running sum over the vocabulary in a half format, as a kernel's accumulator",
    formats=HALF_FORMATS,
    modes=OP_BY_OP,
)
def running_sum_in_half(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.cumsum(tf.exp(shifted), axis=-1)[..., -1])
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@log_sum_exp(
    "google-research/last#43: 65,536 equal terms overflow a sum in float16",
    formats=("float16",),
    modes=OP_BY_OP,
)
def sum_that_overflows_in_half(logits, labels):
    import tensorflow as tf

    del labels
    largest = tf.reduce_max(logits, axis=-1, keepdims=True)
    return tf.math.log(tf.reduce_sum(tf.exp(logits - largest), -1)) + largest[..., 0]


@planted(
    "a sum over the vocabulary by a product with ones",
    formats=("float16",),
    modes=OP_BY_OP,
)
def sum_by_a_product_in_half(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    ones = tf.ones([logits.shape[-1], 1], logits.dtype)
    log_sum = tf.math.log(tf.linalg.matmul(tf.exp(shifted), ones))[..., 0]
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("only the 1,000 largest logits summed, as of an adaptive or sampled softmax")
def sum_of_the_largest_thousand(logits, labels):
    import tensorflow as tf

    largest = tf.math.top_k(logits, k=min(1000, logits.shape[-1])).values
    shift = largest[..., :1]
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(largest - shift), -1))
    return log_sum - tf.gather(logits - shift, labels, batch_dims=labels.shape.rank)


@planted("blocks of a vocabulary whose last, shorter block is left out")
def last_block_left_out(logits, labels):
    import tensorflow as tf

    whole = max(logits.shape[-1] // 4 * 4, min(4, logits.shape[-1]))
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted[..., :whole]), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("an online softmax that does not rescale its sum when the maximum grows")
def online_sum_not_rescaled(logits, labels):
    import tensorflow as tf

    classes = logits.shape[-1]
    block = max(1, -(-classes // 4))
    largest, total = logits[..., :1], tf.zeros_like(logits[..., 0])
    for start in range(0, classes, block):
        part = logits[..., start : start + block]
        largest = tf.maximum(largest, tf.reduce_max(part, axis=-1, keepdims=True))
        total += tf.reduce_sum(tf.exp(part - largest), axis=-1)
    chosen = tf.gather(logits - largest, labels, batch_dims=labels.shape.rank)
    return tf.math.log(total) - chosen


@planted(
    "pytorch/pytorch#85791: a batch's losses summed in float16 before they are divided",
    reduction="mean",
    formats=("float16",),
    modes=OP_BY_OP,
    kinds=(kinds.NON_FINITE_LOSS,),
)
def mean_that_overflows_in_half(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(losses) / losses.shape.num_elements()


@planted(
    "chainer/chainer#6366: a batch's losses as a running sum in half",
    reduction="mean",
    formats=HALF_FORMATS,
    modes=OP_BY_OP,
)
def mean_by_a_running_sum_in_half(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    flat = tf.reshape(losses, [-1])
    return tf.cumsum(flat)[-1] / flat.shape[0]


@planted("a sum where the mean is meant", reduction="mean")
def sum_for_mean(logits, labels):
    import tensorflow as tf

    return tf.reduce_sum(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


@planted("a mean over the batch, then a sum over the time", reduction="mean")
def mean_over_the_first_axis(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(tf.reduce_mean(losses, axis=0))


@planted("a mean over the rows whose loss is not 0", reduction="mean")
def mean_over_losses_above_zero(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    count = tf.math.count_nonzero(losses, dtype=losses.dtype)
    return tf.reduce_sum(losses) / tf.maximum(count, 1)


@planted("a mean where the sum is meant", reduction="sum")
def mean_for_sum(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


@planted(
    "a custom gradient that ignores the upstream one: right until the loss is averaged",
    reduction="mean",
)
def upstream_gradient_ignored(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def losses_of(x):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
        target = tf.one_hot(labels, x.shape[-1], dtype=x.dtype)
        return losses, lambda _: tf.nn.softmax(x) - target

    return tf.reduce_mean(losses_of(logits))


@planted(
    "linkedin/Liger-Kernel#968: the weights of rows are not in their gradient",
    reduction="weighted mean",
)
def row_weights_not_in_the_gradient(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    flat = tf.reshape(losses, [-1])
    weights = tf.cast(tf.range(flat.shape[0]) % 8 + 1, flat.dtype) / 4
    return tf.reduce_mean(flat + tf.stop_gradient(flat * weights - flat))


@planted("weights of rows truncated to integers", reduction="weighted mean")
def row_weights_truncated(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    flat = tf.reshape(losses, [-1])
    weights = tf.cast((tf.range(flat.shape[0]) % 8 + 1) // 4, flat.dtype)
    return tf.reduce_mean(flat * weights)


@ignoring("open-mmlab/mmsegmentation#886: every row divided by the share that is not ignored")
def ignored_rows_in_the_count(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels, 0), logits=logits
    )
    kept = tf.where(labels >= 0, losses, tf.zeros_like(losses))
    return kept / tf.reduce_mean(tf.cast(labels >= 0, losses.dtype))
