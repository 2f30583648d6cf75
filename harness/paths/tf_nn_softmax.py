"""Losses of a softmax by TensorFlow's own operations: fused, composed with care, and naive."""

from __future__ import annotations

from lossfuzz.harness.losses import cross_entropy, reduced
from lossfuzz.harness.losses.divergences import (
    GENERALISED_CROSS_ENTROPY,
    KL_DIVERGENCE,
    LOG_SUM_EXP,
)
from lossfuzz.harness.losses.documented_softmax import ONE_HOT_CROSS_ENTROPY_PLUS_EPSILON
from lossfuzz.harness.losses.focal import CATEGORICAL_FOCAL
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.expression import SAMPLE_WEIGHTS, expression_path

_GATHERED = "tf.gather({0}, labels, batch_dims=labels.shape.rank)"
_SPARSE = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits={0})"
_DENSE = "tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)"

_FUSED = _SPARSE.format("logits")
_LOG_PROBABILITY = _GATHERED.format("tf.nn.log_softmax(logits)")
_PROBABILITY = _GATHERED.format("tf.nn.softmax(logits)")
_LOGIT = _GATHERED.format("logits")

_INDEX_PATHS = (
    expression_path("tf.nn/fused", SOFTMAX_CROSS_ENTROPY, _FUSED),
    expression_path("tf.nn/log-softmax-gather", SOFTMAX_CROSS_ENTROPY, f"-{_LOG_PROBABILITY}"),
    expression_path("tf.nn/naive", SOFTMAX_CROSS_ENTROPY, f"-tf.math.log({_PROBABILITY})"),
    expression_path(
        "tf.nn/fused-upcast",
        SOFTMAX_CROSS_ENTROPY,
        _SPARSE.format("tf.cast(logits, tf.float32)"),
    ),
    expression_path(
        "tf.nn/logsumexp-gather",
        SOFTMAX_CROSS_ENTROPY,
        f"tf.reduce_logsumexp(logits, -1) - {_LOGIT}",
    ),
    expression_path(
        "tf.nn/shifted-by-hand",
        SOFTMAX_CROSS_ENTROPY,
        "tf.math.log(tf.reduce_sum(\n"
        "    tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True)), -1)\n"
        f") + tf.reduce_max(logits, -1) - {_LOGIT}",
    ),
)

_DENSE_PATHS = (
    expression_path("tf.nn/one-hot/fused", cross_entropy.ONE_HOT_CROSS_ENTROPY, _DENSE),
    expression_path(
        "tf.nn/one-hot/fused-other-axis",
        cross_entropy.ONE_HOT_CROSS_ENTROPY,
        "tf.nn.softmax_cross_entropy_with_logits(\n"
        "    labels=tf.linalg.matrix_transpose(labels),\n"
        "    logits=tf.linalg.matrix_transpose(logits), axis=logits.shape.rank - 2)",
    ),
    expression_path(
        "tf.nn/one-hot/log-softmax",
        cross_entropy.ONE_HOT_CROSS_ENTROPY,
        "-tf.reduce_sum(labels * tf.nn.log_softmax(logits), -1)",
    ),
    expression_path(
        "tf.nn/one-hot/naive-plus-epsilon",
        cross_entropy.ONE_HOT_CROSS_ENTROPY,
        "-tf.reduce_sum(labels * tf.math.log(tf.nn.softmax(logits) + 1e-7), -1)",
        documented=ONE_HOT_CROSS_ENTROPY_PLUS_EPSILON,
    ),
    expression_path("tf.nn/soft/fused", cross_entropy.SOFT_CROSS_ENTROPY, _DENSE),
    expression_path(
        "tf.nn/smoothed/fused",
        cross_entropy.SMOOTHED_CROSS_ENTROPY,
        "tf.nn.softmax_cross_entropy_with_logits(\n"
        "    labels=labels * (1 - 0.1) + 0.1 / logits.shape[-1], logits=logits)",
    ),
)

_IGNORING = "tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)"

_VARIANT_PATHS = (
    expression_path(
        "tf.nn/ignoring/where",
        cross_entropy.IGNORING_CROSS_ENTROPY,
        f"tf.where(labels >= 0, {_IGNORING}, 0.0)",
    ),
    expression_path(
        "tf.nn/ignoring/times-mask",
        cross_entropy.IGNORING_CROSS_ENTROPY,
        f"{_IGNORING} * tf.cast(labels >= 0, logits.dtype)",
    ),
    expression_path(
        "tf.nn/warm/fused", cross_entropy.WARM_CROSS_ENTROPY, _SPARSE.format("logits / 2.0")
    ),
    expression_path(
        "tf.nn/cold/fused", cross_entropy.COLD_CROSS_ENTROPY, _SPARSE.format("logits / 0.0625")
    ),
    expression_path(
        "tf.nn/kl/fused",
        KL_DIVERGENCE,
        f"{_DENSE} + tf.reduce_sum(tf.math.xlogy(labels, labels), -1)",
    ),
    expression_path(
        "tf.nn/kl/naive",
        KL_DIVERGENCE,
        "tf.reduce_sum(tf.math.xlogy(labels, labels / tf.nn.softmax(logits)), -1)",
    ),
    expression_path(
        "tf.nn/gce/expm1",
        GENERALISED_CROSS_ENTROPY,
        f"-tf.math.expm1(0.5 * {_LOG_PROBABILITY}) / 0.5",
    ),
    expression_path(
        "tf.nn/gce/naive", GENERALISED_CROSS_ENTROPY, f"(1 - {_PROBABILITY} ** 0.5) / 0.5"
    ),
    expression_path("tf.nn/log-sum-exp/reduce", LOG_SUM_EXP, "tf.reduce_logsumexp(logits, -1)"),
    expression_path(
        "tf.nn/log-sum-exp/naive",
        LOG_SUM_EXP,
        "tf.math.log(tf.reduce_sum(tf.exp(logits), -1))",
    ),
)

_FOCAL_PATHS = tuple(
    path
    for gamma, loss in CATEGORICAL_FOCAL.items()
    if gamma != 0
    for path in (
        expression_path(
            f"tf.nn/focal-{gamma:g}/log-softmax",
            loss,
            f"-0.25 * tf.reduce_sum(labels * (1 - tf.nn.softmax(logits)) ** {gamma}\n"
            "    * tf.nn.log_softmax(logits), -1)",
        ),
        expression_path(
            f"tf.nn/focal-{gamma:g}/expm1",
            loss,
            f"0.25 * (-tf.math.expm1(-{_DENSE})) ** {gamma} * {_DENSE}",
        ),
    )
)

_REDUCED_PATHS = (
    expression_path("tf.nn/mean/fused", reduced.MEAN_CROSS_ENTROPY, f"tf.reduce_mean({_FUSED})"),
    expression_path("tf.nn/sum/fused", reduced.SUMMED_CROSS_ENTROPY, f"tf.reduce_sum({_FUSED})"),
    expression_path(
        "tf.nn/weighted-mean/fused",
        reduced.WEIGHTED_MEAN_CROSS_ENTROPY,
        f"tf.reduce_mean({SAMPLE_WEIGHTS} * {_FUSED})",
    ),
)

PATHS = (*_INDEX_PATHS, *_DENSE_PATHS, *_VARIANT_PATHS, *_FOCAL_PATHS, *_REDUCED_PATHS)
