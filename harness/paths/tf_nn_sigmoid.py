"""Losses of a sigmoid by TensorFlow's own operations: fused, composed with care, and naive."""

from __future__ import annotations

from lossfuzz.harness.losses import binary
from lossfuzz.harness.losses.focal import BALANCED_BINARY_FOCAL, BINARY_FOCAL
from lossfuzz.harness.paths.expression import expression_path

_FUSED = "tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)"

_FOCAL_PATHS = tuple(
    path
    for gamma, loss in BINARY_FOCAL.items()
    if gamma != 0
    for path in (
        expression_path(
            f"tf.nn/binary-focal-{gamma:g}/power",
            loss,
            f"tf.reduce_mean(tf.abs(labels - tf.sigmoid(logits)) ** {gamma}\n    * {_FUSED}, -1)",
        ),
        expression_path(
            f"tf.nn/binary-focal-{gamma:g}/log-sigmoid",
            loss,
            "tf.reduce_mean(\n"
            f"    tf.exp({gamma} * tf.math.log_sigmoid((1 - 2 * labels) * logits))\n"
            f"    * {_FUSED}, -1)",
        ),
    )
)

PATHS = (
    expression_path(
        "tf.nn/binary/fused", binary.BINARY_CROSS_ENTROPY, f"tf.reduce_mean({_FUSED}, -1)"
    ),
    expression_path(
        "tf.nn/binary/log-sigmoid",
        binary.BINARY_CROSS_ENTROPY,
        "-tf.reduce_mean(labels * tf.math.log_sigmoid(logits)\n"
        "    + (1 - labels) * tf.math.log_sigmoid(-logits), -1)",
    ),
    expression_path(
        "tf.nn/binary/softplus",
        binary.BINARY_CROSS_ENTROPY,
        "tf.reduce_mean(tf.nn.softplus(logits) - labels * logits, -1)",
    ),
    expression_path(
        "tf.nn/binary/naive",
        binary.BINARY_CROSS_ENTROPY,
        "-tf.reduce_mean(labels * tf.math.log(tf.sigmoid(logits))\n"
        "    + (1 - labels) * tf.math.log(1 - tf.sigmoid(logits)), -1)",
    ),
    expression_path(
        "tf.nn/soft-binary/fused",
        binary.SOFT_BINARY_CROSS_ENTROPY,
        f"tf.reduce_mean({_FUSED}, -1)",
    ),
    expression_path(
        "tf.nn/smoothed-binary/fused",
        binary.SMOOTHED_BINARY_CROSS_ENTROPY,
        "tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(\n"
        "    labels=labels * (1 - 0.1) + 0.5 * 0.1, logits=logits), -1)",
    ),
    expression_path(
        "tf.nn/weighted-binary/fused",
        binary.WEIGHTED_BINARY_CROSS_ENTROPY,
        "tf.reduce_mean(\n"
        "    tf.nn.weighted_cross_entropy_with_logits(labels, logits, pos_weight=8.0), -1)",
    ),
    expression_path(
        "tf.nn/weighted-binary/naive",
        binary.WEIGHTED_BINARY_CROSS_ENTROPY,
        "-tf.reduce_mean(8.0 * labels * tf.math.log(tf.sigmoid(logits))\n"
        "    + (1 - labels) * tf.math.log(1 - tf.sigmoid(logits)), -1)",
    ),
    *_FOCAL_PATHS,
    expression_path(
        "tf.nn/balanced-binary-focal/power",
        BALANCED_BINARY_FOCAL,
        "tf.reduce_mean((labels * 0.25 + (1 - labels) * 0.75)\n"
        f"    * tf.abs(labels - tf.sigmoid(logits)) ** 2.0 * {_FUSED}, -1)",
    ),
)
