"""Right losses with wrong gradients, and losses that differ between eager, graph and XLA."""

from planted_entry import Planted, planting

from lossfuzz.harness.results import kinds

GRADIENTS: list[Planted] = []
planted = planting(GRADIENTS, "softmax-cross-entropy")
smoothed = planting(GRADIENTS, "softmax-cross-entropy-one-hot-smoothed-by-0-1")
binary = planting(GRADIENTS, "binary-cross-entropy")
ignoring = planting(GRADIENTS, "softmax-cross-entropy-ignoring-a-class")

WRONG = (
    kinds.INACCURATE_GRADIENT,
    kinds.SIGN_FLIP,
    kinds.GRADIENT_COLLAPSE,
    kinds.LABEL_GRADIENT_COLLAPSE,
    kinds.NON_FINITE_GRADIENT,
)
IN_GRAPHS = ("graph", "xla")


def _fused_with(gradient_of):
    """The fused loss with a gradient of one's own, ``(tf, logits, target) -> gradient``."""

    def loss(logits, labels):
        import tensorflow as tf

        @tf.custom_gradient
        def losses_of(x):
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
            target = tf.one_hot(labels, x.shape[-1], dtype=x.dtype)
            return losses, lambda up: gradient_of(tf, x, target) * up[..., None]

        return losses_of(logits)

    return loss


@planted("a custom gradient of the wrong sign", kinds=WRONG)
def gradient_of_the_wrong_sign(logits, labels):
    return _fused_with(lambda tf, x, t: t - tf.nn.softmax(x))(logits, labels)


@planted("a custom gradient without the label's term", kinds=WRONG)
def gradient_without_the_label(logits, labels):
    return _fused_with(lambda tf, x, _: tf.nn.softmax(x))(logits, labels)


@planted("a custom gradient whose softmax is not shifted", kinds=WRONG)
def gradient_by_an_unshifted_softmax(logits, labels):
    def gradient(tf, x, t):
        weights = tf.exp(x)
        return weights / tf.reduce_sum(weights, axis=-1, keepdims=True) - t

    return _fused_with(gradient)(logits, labels)


@planted("a custom gradient clipped to [-0.5, 0.5]", kinds=WRONG)
def gradient_clipped(logits, labels):
    return _fused_with(lambda tf, x, t: tf.clip_by_value(tf.nn.softmax(x) - t, -0.5, 0.5))(
        logits, labels
    )


@planted("a custom gradient computed in float16", formats=("float32",), kinds=WRONG)
def gradient_in_float16(logits, labels):
    def gradient(tf, x, t):
        largest = tf.reduce_max(x, axis=-1, keepdims=True)
        return tf.cast(tf.nn.softmax(tf.cast(x - largest, tf.float16)), x.dtype) - t

    return _fused_with(gradient)(logits, labels)


@planted("a custom gradient divided by the classes, as of a mean", kinds=WRONG)
def gradient_divided_by_the_classes(logits, labels):
    return _fused_with(lambda tf, x, t: (tf.nn.softmax(x) - t) / x.shape[-1])(logits, labels)


@planted("a custom gradient that is zero where the label already wins", kinds=WRONG)
def gradient_of_mistakes_alone(logits, labels):
    def gradient(tf, x, t):
        chosen = tf.reduce_sum(tf.math.multiply_no_nan(x, t), axis=-1, keepdims=True)
        wrong = tf.cast(chosen < tf.reduce_max(x, axis=-1, keepdims=True), x.dtype)
        return (tf.nn.softmax(x) - t) * wrong

    return _fused_with(gradient)(logits, labels)


@planted("the softmax of the gradient over a batch, not a row", kinds=WRONG)
def gradient_of_a_softmax_over_rows(logits, labels):
    return _fused_with(lambda tf, x, t: tf.nn.softmax(x, axis=0) - t)(logits, labels)


@planted("the label's logit detached from the tape", kinds=WRONG)
def label_detached(logits, labels):
    import tensorflow as tf

    log_sum = tf.reduce_logsumexp(logits, -1)
    chosen = tf.gather(logits, labels, batch_dims=labels.shape.rank)
    return log_sum - tf.stop_gradient(chosen)


@planted("the log-sum-exp detached from the tape", kinds=WRONG)
def log_sum_detached(logits, labels):
    import tensorflow as tf

    log_sum = tf.stop_gradient(tf.reduce_logsumexp(logits, -1))
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


@planted("a right value whose gradient flows through log(softmax)", kinds=WRONG)
def gradient_through_the_unstable_branch(logits, labels):
    import tensorflow as tf

    stable = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    chosen = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    unstable = -tf.math.log(tf.maximum(chosen, 1e-6))
    return unstable + tf.stop_gradient(stable - unstable)


@planted("tensorflow/tensorflow#2540 around a margin that is cut off", kinds=WRONG)
def where_around_a_margin(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(logits, labels, batch_dims=labels.shape.rank)
    others = tf.where(
        tf.one_hot(labels, logits.shape[-1], on_value=True, off_value=False),
        logits.dtype.min,
        logits,
    )
    margin = tf.reduce_logsumexp(others - chosen[..., None], -1)
    return tf.where(margin > 30, margin, tf.math.log1p(tf.exp(margin)))


@smoothed(
    "linkedin/Liger-Kernel#198: the smoothed loss with an unsmoothed gradient",
    formats=("float16", "float32"),
    kinds=WRONG,
)
def gradient_without_smoothing(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def losses_of(x):
        smooth = labels * 0.9 + 0.1 / x.shape[-1]
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=smooth, logits=x)
        return losses, lambda up: (tf.nn.softmax(x) - labels) * up[..., None]

    return losses_of(logits)


@binary(
    "tenstorrent/tt-metal#56397: softplus's gradient as exp(x) / (exp(x) + 1), which overflows",
    kinds=WRONG,
)
def softplus_gradient_that_overflows(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def softplus(x):
        growth = tf.exp(x)
        return tf.math.softplus(x), lambda up: up * growth * tf.math.reciprocal(growth + 1)

    return tf.reduce_mean(softplus(logits) - logits * labels, axis=-1)


@ignoring("ignored rows counted as rows of class 0")
def ignored_rows_counted(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels, 0), logits=logits
    )


@ignoring("ignored rows with a loss of 0 that still have a gradient", kinds=WRONG)
def ignored_rows_with_a_gradient(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels, 0), logits=logits
    )
    return losses - tf.stop_gradient(tf.where(labels < 0, losses, tf.zeros_like(losses)))


@planted("a branch on executing_eagerly() that forgets a factor in graphs", modes=IN_GRAPHS)
def other_in_graphs(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return losses if tf.executing_eagerly() else losses / 2


@planted("a branch on executing_eagerly() whose eager side is for debugging", modes=("eager",))
def naive_in_eager_mode(logits, labels):
    import tensorflow as tf

    if tf.executing_eagerly():
        probabilities = tf.exp(logits) / tf.reduce_sum(tf.exp(logits), -1, keepdims=True)
        return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@planted(
    "Python's truth of a symbolic shape: the batch is unknown, so the loss is not shifted",
    modes=IN_GRAPHS,
)
def unshifted_where_values_are_unknown(logits, labels):
    import tensorflow as tf

    largest = tf.get_static_value(tf.reduce_max(logits, axis=-1, keepdims=True))
    shifted = logits if largest is None else logits - largest
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)
