"""Sound losses in the common style of [rows, classes]: axis 1 holds the classes, whatever comes.

On logits of [batch, time, classes] they raise, or return losses of another shape. They are sound
where they are used, and must be judged there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planted_entry import Sound

_LARGEST_SUM = 32000


def gathered_along_axis_1(logits, labels):
    import tensorflow as tf

    return -tf.gather(tf.nn.log_softmax(logits, axis=1), labels, axis=1, batch_dims=1)


def one_hot_along_axis_1(logits, labels):
    import tensorflow as tf

    hot = tf.one_hot(labels, logits.shape[1], axis=1, dtype=logits.dtype)
    terms = tf.nn.log_softmax(logits, axis=1)
    return -tf.reduce_sum(tf.where(hot == 1, terms, tf.zeros_like(terms)), axis=1)


def shifted_along_axis_1(logits, labels):
    import tensorflow as tf

    rows = tf.range(tf.shape(logits)[0])
    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=1))
    return log_sum - tf.gather_nd(shifted, tf.stack([rows, labels], axis=1))


def unpacked_shape(logits, labels):
    import tensorflow as tf

    rows, classes = logits.shape
    flat = tf.reshape(logits, [rows, classes])
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=flat)


def binary_along_axis_1(logits, targets):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.reduce_mean(tf.cast(losses, tf.float32), axis=1)


def of_rows_alone(entry: Sound) -> Sound:
    """A twin that refuses everything but [rows, classes]."""

    def by_rows(logits: Any, targets: Any) -> Any:
        rows, classes = logits.shape  # raises for [batch, time, classes]
        del rows, classes
        return entry.loss(logits, targets)

    name = f"{entry.name}_of_rows"
    by_rows.__name__ = by_rows.__qualname__ = name
    return replace(entry, name=name, loss=by_rows)


SOUND_OF_ROWS: tuple[Sound, ...] = tuple(
    Sound(
        name=loss.__name__,
        against="binary-cross-entropy" if loss is binary_along_axis_1 else "softmax-cross-entropy",
        loss=loss,
        why="the classes are axis 1",
        most_classes=None if loss in (unpacked_shape, binary_along_axis_1) else _LARGEST_SUM,
    )
    for loss in (
        gathered_along_axis_1,
        one_hot_along_axis_1,
        shifted_along_axis_1,
        unpacked_shape,
        binary_along_axis_1,
    )
)
