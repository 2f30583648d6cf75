"""Sparse categorical cross-entropy by Keras 3 and by tf_keras, which share their signatures.

Each is called as function and as class, on logits and on probabilities that reach it in three
ways, since Keras looks behind the probabilities for the logits that they came from.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.path import LossPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.formats import FloatFormat

    Predict = Callable[[Any, Any], Any]

_PREDICTIONS: dict[str, tuple[str, str]] = {
    "from-logits": ("logits", "log(sum_k exp(x_k)) - x_y"),
    "cached-logits": (
        "{api}.activations.softmax(logits)",
        "-log(clip(softmax(x)_y, clip_epsilon, 1 - clip_epsilon))",
    ),
    "softmax-op": (
        "tf.nn.softmax(logits)",
        "-log(clip(softmax(x)_y, clip_epsilon, 1 - clip_epsilon))",
    ),
    "softmax-identity": (
        "tf.identity(tf.nn.softmax(logits))",
        "-log(clip(softmax(x)_y, clip_epsilon, 1 - clip_epsilon))",
    ),
}
"""How the loss gets its predictions: expression and documented formula."""


def _predictions(way: str, keras: Any, logits: Any) -> Any:
    import tensorflow as tf

    if way == "from-logits":
        return logits
    if way == "cached-logits":
        return keras.activations.softmax(logits)
    probabilities = tf.nn.softmax(logits)
    return tf.identity(probabilities) if way == "softmax-identity" else probabilities


def _function(api: str, way: str) -> Callable[[Any, Any, FloatFormat], Any]:
    def call(logits: Any, labels: Any, _: FloatFormat) -> Any:
        keras = importlib.import_module(api)
        return keras.losses.sparse_categorical_crossentropy(
            labels, _predictions(way, keras, logits), from_logits=way == "from-logits"
        )

    return call


def _class(api: str, way: str, *, own_dtype: bool) -> Callable[[Any, Any, FloatFormat], Any]:
    def call(logits: Any, labels: Any, fmt: FloatFormat) -> Any:
        keras = importlib.import_module(api)
        dtype = {"dtype": fmt.dtype_name} if own_dtype else {}
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=way == "from-logits", reduction="none", **dtype
        )
        return loss(labels, _predictions(way, keras, logits))

    return call


def _sources(api: str, way: str, predictions: str) -> dict[str, str]:
    from_logits = way == "from-logits"
    return {
        "function": f"{api}.losses.sparse_categorical_crossentropy(\n"
        f"    labels, {predictions}, from_logits={from_logits})",
        "class": f"{api}.losses.SparseCategoricalCrossentropy(\n"
        f'    from_logits={from_logits}, reduction="none")(labels, {predictions})',
        "class-own-dtype": f"{api}.losses.SparseCategoricalCrossentropy(\n"
        f'    from_logits={from_logits}, reduction="none", dtype=logits.dtype.name)'
        f"(labels, {predictions})",
    }


def keras_paths(api: str, kinds: tuple[str, ...]) -> tuple[LossPath, ...]:
    """The paths of one Keras package: every kind of call on every kind of predictions."""
    calls: dict[str, Callable[[str], Callable[[Any, Any, FloatFormat], Any]]] = {
        "function": lambda way: _function(api, way),
        "class": lambda way: _class(api, way, own_dtype=False),
        "class-own-dtype": lambda way: _class(api, way, own_dtype=True),
    }
    return tuple(
        LossPath(
            name=f"{api}/{kind}/{way}",
            loss=SOFTMAX_CROSS_ENTROPY,
            api=api,
            call=calls[kind](way),
            source=_sources(api, way, expression.format(api=api))[kind],
            documented=documented,
        )
        for kind in kinds
        for way, (expression, documented) in _PREDICTIONS.items()
    )
