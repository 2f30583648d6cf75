"""Defects of narrow corners: ties, exact zeros, constant rows, masked blocks, swapped axes."""

from planted_entry import Planted, planting

from lossfuzz.harness.results import kinds

CORNERS: list[Planted] = []
planted = planting(CORNERS, "softmax-cross-entropy")
binary = planting(CORNERS, "binary-cross-entropy")
log_sum_exp = planting(CORNERS, "log-sum-exp")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
INACCURATE = (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT, kinds.SIGN_FLIP)


@planted("all logits equal to the maximum left out of log1p(sum of the others)")
def ties_with_the_maximum_dropped(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    others = tf.where(shifted < 0, tf.exp(shifted), tf.zeros_like(shifted))
    log_sum = tf.math.log1p(tf.reduce_sum(others, -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@planted("logits divided by their range and multiplied with it: 0/0 in constant rows")
def range_of_a_constant_row(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    span = tf.reduce_min(tf.where(tf.math.is_inf(shifted), 0, shifted), axis=-1, keepdims=True)
    span = tf.stop_gradient(span)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=shifted / span * span
    )


@planted("tinygrad/tinygrad#17822: a block of classes that are all masked", kinds=NON_FINITE)
def block_of_masked_classes(logits, labels):
    import tensorflow as tf

    first, second = logits[..., : logits.shape[-1] // 2], logits[..., logits.shape[-1] // 2 :]
    sums = []
    for part in (first, second):
        largest = tf.reduce_max(part, axis=-1, keepdims=True)
        total = tf.math.log(tf.reduce_sum(tf.exp(part - largest), axis=-1))
        sums.append(total + largest[..., 0])
    log_sum = tf.reduce_logsumexp(tf.stack(sums, -1), -1)
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("NaN and infinite losses replaced by 0")
def not_a_number_replaced_by_zero(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    losses = -tf.math.log(chosen)
    return tf.where(tf.math.is_finite(losses), losses, tf.zeros_like(losses))


@planted("batch and time swapped when logits are flattened, but not when labels are")
def batch_and_time_swapped(logits, labels):
    import tensorflow as tf

    rank = logits.shape.rank
    swapped = tf.transpose(logits, [1, 0, 2]) if rank == 3 else logits
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(labels, [-1]), logits=tf.reshape(swapped, [-1, logits.shape[-1]])
    )
    return tf.reshape(losses, labels.shape)


@planted("flat positions of labels in two bytes, as 32-bit ones of pytorch/pytorch#111484")
def flat_positions_in_two_bytes(logits, labels):
    import tensorflow as tf

    flat_labels = tf.reshape(labels, [-1])
    rows = tf.range(flat_labels.shape[0]) * logits.shape[-1]
    positions = tf.cast(tf.cast(rows + flat_labels, tf.uint16), tf.int32)
    chosen = tf.gather(tf.reshape(tf.nn.log_softmax(logits), [-1]), positions)
    return -tf.reshape(chosen, labels.shape)


@planted("log1p(e) replaced by e where e is below 1 %", formats=("float32",), kinds=INACCURATE)
def series_cut_too_early(logits, labels):
    import tensorflow as tf

    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    chosen = tf.gather(shifted, labels, batch_dims=labels.shape.rank)
    rest = tf.reduce_sum(tf.exp(shifted), -1) - 1
    return tf.where(rest < 0.01, rest, tf.math.log1p(rest)) - chosen


@planted("the loss scaled by 1024 inside, for a half format's gradients", formats=("float16",))
def scaled_and_unscaled(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.stop_gradient(losses * 1024 / 1024 - losses) + losses


@planted("losses capped at 50 against outliers")
def losses_capped(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.minimum(losses, tf.cast(50, losses.dtype))


@planted("a product with 1 / ln 2 left out of the gradient of a loss in bits")
def gradient_in_bits(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    bits = losses * 1.4426950408889634
    return bits + tf.stop_gradient(losses - bits)


@binary("logarithms clamped at -100, as binary_cross_entropy of PyTorch documents")
def logarithms_clamped(logits, labels):
    import tensorflow as tf

    present = tf.maximum(tf.math.log_sigmoid(logits), -100)
    absent = tf.maximum(tf.math.log_sigmoid(-logits), -100)
    return -tf.reduce_mean(labels * present + (1 - labels) * absent, axis=-1)


@binary("two strict branches, of which neither is taken at exactly 0")
def no_branch_at_zero(logits, labels):
    import tensorflow as tf

    size = tf.math.log1p(tf.exp(-tf.abs(logits)))
    above = tf.where(logits > 0, logits + size, tf.zeros_like(logits))
    below = tf.where(logits < 0, size, tf.zeros_like(logits))
    return tf.reduce_mean(above + below - logits * labels, axis=-1)


@log_sum_exp("a maximum taken of the magnitudes", kinds=NON_FINITE)
def shift_by_the_largest_magnitude(logits, labels):
    import tensorflow as tf

    del labels
    finite = tf.where(tf.math.is_inf(logits), tf.zeros_like(logits), logits)
    largest = tf.reduce_max(tf.abs(finite), axis=-1, keepdims=True)
    return tf.math.log(tf.reduce_sum(tf.exp(logits - largest), -1)) + largest[..., 0]
