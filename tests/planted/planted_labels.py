"""Label ids that are lost on the way: cast, clipped, wrapped, shifted by one."""

from planted_entry import HALF_FORMATS, Planted, planting

from lossfuzz.harness.results import kinds

LABELS: list[Planted] = []
planted = planting(LABELS, "softmax-cross-entropy")

WRONG = (
    kinds.INACCURATE_LOSS,
    kinds.INACCURATE_GRADIENT,
    kinds.SIGN_FLIP,
    kinds.NON_FINITE_LOSS,
    kinds.NON_FINITE_GRADIENT,
    kinds.LOSS_COLLAPSE,
)


@planted(
    "tensorflow/tensorflow#50964, keras-team/keras#15012: ids cast to the logits' dtype",
    formats=HALF_FORMATS,
    kinds=WRONG,
)
def ids_cast_to_the_logits(logits, labels):
    import tensorflow as tf

    ids = tf.cast(tf.cast(labels, logits.dtype), tf.int64)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.minimum(ids, logits.shape[-1] - 1), logits=logits
    )


@planted("ids stored in one byte", kinds=WRONG)
def ids_in_one_byte(logits, labels):
    import tensorflow as tf

    ids = tf.cast(tf.cast(labels, tf.uint8), tf.int32)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)


@planted("ids stored in two bytes with a sign", kinds=WRONG)
def ids_in_two_bytes(logits, labels):
    import tensorflow as tf

    target = tf.one_hot(tf.cast(tf.cast(labels, tf.int16), tf.int32), logits.shape[-1])
    return tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.cast(target, logits.dtype), logits=logits
    )


@planted("the last class folded into the one before it", kinds=WRONG)
def last_class_lost(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.minimum(labels, logits.shape[-1] - 2), logits=logits
    )


@planted("ids clipped to the first thousand classes", kinds=WRONG)
def ids_clipped(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.clip_by_value(labels, 0, 999), logits=logits
    )


@planted("class 0 kept for padding: its rows have no loss", kinds=WRONG)
def first_class_taken_for_padding(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return losses * tf.cast(labels != 0, losses.dtype)


@planted("ids that start at 1 taken for ids that start at 0", kinds=WRONG)
def ids_shifted_by_one(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.maximum(labels - 1, 0), logits=logits
    )


@planted("every row of a batch given the first row's label", kinds=WRONG)
def label_of_the_first_row(logits, labels):
    import tensorflow as tf

    first = tf.reshape(labels, [-1])[0]
    return -tf.gather(tf.nn.log_softmax(logits), first, axis=-1)
