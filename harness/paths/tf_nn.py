"""Softmax cross-entropy by TensorFlow's own operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.path import LossPath

if TYPE_CHECKING:
    from lossfuzz.harness.formats import FloatFormat


def _fused(logits: Any, labels: Any, _: FloatFormat) -> Any:
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def _gathered_log_softmax(logits: Any, labels: Any, _: FloatFormat) -> Any:
    import tensorflow as tf

    return -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=labels.shape.rank)


def _log_of_softmax(logits: Any, labels: Any, _: FloatFormat) -> Any:
    import tensorflow as tf

    return -tf.math.log(tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank))


PATHS = (
    LossPath(
        name="tf.nn/fused",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=_fused,
        source="tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)",
        documented="log(sum_k exp(x_k)) - x_y",
    ),
    LossPath(
        name="tf.nn/log-softmax-gather",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=_gathered_log_softmax,
        source="-tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)",
        documented="-(x_y - log(sum_k exp(x_k)))",
    ),
    LossPath(
        name="tf.nn/naive",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=_log_of_softmax,
        source="-tf.math.log(tf.gather(tf.nn.softmax(logits), labels, batch_dims=1))",
        documented="-log(softmax(x)_y)",
    ),
)
