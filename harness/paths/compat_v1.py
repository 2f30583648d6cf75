"""Losses by ``tf.compat.v1.losses``, which average over the nonzero weights by default."""

from __future__ import annotations

from lossfuzz.harness.losses import binary, cross_entropy
from lossfuzz.harness.losses import reduced as reductions
from lossfuzz.harness.losses.documented_binary import LOG_LOSS
from lossfuzz.harness.losses.reduced import MEAN, reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.expression import SAMPLE_WEIGHTS, expression_path

_LOSSES = "tf.compat.v1.losses"
_NONE = "reduction=tf.compat.v1.losses.Reduction.NONE"

_SPARSE = f"{_LOSSES}.sparse_softmax_cross_entropy(\n    labels, logits"
_DENSE = f"{_LOSSES}.softmax_cross_entropy(\n    labels, logits"
_BINARY = f"{_LOSSES}.sigmoid_cross_entropy(\n    labels, logits"
_LOG = f"{_LOSSES}.log_loss(\n    labels, tf.sigmoid(logits)"

PATHS = (
    expression_path("tf.compat.v1/sparse", SOFTMAX_CROSS_ENTROPY, f"{_SPARSE}, {_NONE})"),
    expression_path(
        "tf.compat.v1/one-hot", cross_entropy.ONE_HOT_CROSS_ENTROPY, f"{_DENSE}, {_NONE})"
    ),
    expression_path(
        "tf.compat.v1/smoothed",
        cross_entropy.SMOOTHED_CROSS_ENTROPY,
        f"{_DENSE}, label_smoothing=0.1, {_NONE})",
    ),
    expression_path(
        "tf.compat.v1/binary",
        binary.BINARY_CROSS_ENTROPY,
        f"tf.reduce_mean({_BINARY}, {_NONE}), -1)",
    ),
    expression_path(
        "tf.compat.v1/smoothed-binary",
        binary.SMOOTHED_BINARY_CROSS_ENTROPY,
        f"tf.reduce_mean({_BINARY}, label_smoothing=0.1, {_NONE}), -1)",
    ),
    expression_path(
        "tf.compat.v1/log-loss",
        binary.BINARY_CROSS_ENTROPY,
        f"tf.reduce_mean({_LOG}, {_NONE}), -1)",
        documented=LOG_LOSS,
    ),
    expression_path("tf.compat.v1/mean/sparse", reductions.MEAN_CROSS_ENTROPY, f"{_SPARSE})"),
    expression_path(
        "tf.compat.v1/weighted-mean/sparse",
        reductions.WEIGHTED_MEAN_CROSS_ENTROPY,
        f"{_SPARSE}, weights={SAMPLE_WEIGHTS})",
    ),
    expression_path(
        "tf.compat.v1/mean/one-hot", reductions.MEAN_ONE_HOT_CROSS_ENTROPY, f"{_DENSE})"
    ),
    expression_path(
        "tf.compat.v1/mean/binary", reductions.MEAN_BINARY_CROSS_ENTROPY, f"{_BINARY})"
    ),
    expression_path(
        "tf.compat.v1/mean/log-loss",
        reductions.MEAN_BINARY_CROSS_ENTROPY,
        f"{_LOG})",
        documented=reduced(LOG_LOSS, MEAN),
    ),
)
