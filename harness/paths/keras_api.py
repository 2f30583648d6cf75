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

_CLIPPED = "-log(clip(softmax(x)_y, clip_epsilon, 1 - clip_epsilon))"

_PREDICTIONS: dict[str, str] = {
    "from-logits": "logits",
    "cached-logits": "{api}.activations.softmax(logits)",
    "softmax-op": "tf.nn.softmax(logits)",
    "softmax-identity": "tf.identity(tf.nn.softmax(logits))",
}
"""How the loss gets its predictions, the four ways that lead to different routes."""

_MORE_PREDICTIONS: dict[str, str] = {
    "softmax-layer": "{api}.layers.Softmax(dtype=logits.dtype.name)(logits)",
    "activation-layer": '{api}.layers.Activation("softmax", dtype=logits.dtype.name)(logits)',
    "ops-softmax": "{api}.ops.softmax(logits)",
    "softmax-reshape": "tf.reshape(tf.nn.softmax(logits), tf.shape(logits))",
    "softmax-cast": "tf.cast(tf.nn.softmax(logits), tf.float32)",
    "softmax-times-one": "tf.nn.softmax(logits) * 1.0",
}
"""Other ways that users take to the same probabilities; asked of the functions alone."""


def _predictions(way: str, keras: Any, logits: Any) -> Any:
    import tensorflow as tf

    makers: dict[str, Callable[[], Any]] = {
        "from-logits": lambda: logits,
        "cached-logits": lambda: keras.activations.softmax(logits),
        "softmax-op": lambda: tf.nn.softmax(logits),
        "softmax-identity": lambda: tf.identity(tf.nn.softmax(logits)),
        "softmax-layer": lambda: keras.layers.Softmax(dtype=logits.dtype.name)(logits),
        "activation-layer": lambda: keras.layers.Activation("softmax", dtype=logits.dtype.name)(
            logits
        ),
        "ops-softmax": lambda: keras.ops.softmax(logits),
        "softmax-reshape": lambda: tf.reshape(tf.nn.softmax(logits), tf.shape(logits)),
        "softmax-cast": lambda: tf.cast(tf.nn.softmax(logits), tf.float32),
        "softmax-times-one": lambda: tf.nn.softmax(logits) * 1.0,
    }
    return makers[way]()


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


def keras_paths(
    api: str, kinds: tuple[str, ...], *, without: tuple[str, ...] = ()
) -> tuple[LossPath, ...]:
    """The paths of one Keras package: every kind of call on every kind of predictions.

    Args:
        api: the package.
        kinds: ``function``, ``class``, ``class-own-dtype``.
        without: ways to predictions that the package does not have.
    """
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
            documented=SOFTMAX_CROSS_ENTROPY.formula if way == "from-logits" else _CLIPPED,
        )
        for kind in kinds
        for way, expression in _ways(kind).items()
        if way not in without
    )


def _ways(kind: str) -> dict[str, str]:
    return {**_PREDICTIONS, **_MORE_PREDICTIONS} if kind == "function" else _PREDICTIONS
