"""Losses by Keras 3 and by tf_keras, package by package."""

from __future__ import annotations

from lossfuzz.harness.losses.divergences import LOG_SUM_EXP
from lossfuzz.harness.paths import keras_reduced, keras_sigmoid, keras_softmax
from lossfuzz.harness.paths.expression import expression_path

_LOSSES = (
    keras_softmax.SPARSE,
    *keras_softmax.LOSSES,
    *keras_sigmoid.LOSSES,
    *keras_reduced.LOSSES,
)

KERAS_PATHS = (
    *(path for loss in _LOSSES for path in loss.paths("keras")),
    expression_path(
        "keras/log-sum-exp", LOG_SUM_EXP, "keras.ops.logsumexp(logits, axis=-1)", api="keras"
    ),
)

TF_KERAS_PATHS = tuple(path for loss in _LOSSES for path in loss.paths("tf_keras"))

PATHS = (*KERAS_PATHS, *TF_KERAS_PATHS)
