"""Losses of whole Keras models, by the head that they end in and the way they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.losses.reduced import (
    MEAN_BINARY_CROSS_ENTROPY,
    MEAN_CROSS_ENTROPY,
    MEAN_ONE_HOT_CROSS_ENTROPY,
)
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.training import Recipe, traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec

_SPARSE = "SparseCategoricalCrossentropy"
_ONE_HOT = "CategoricalCrossentropy"
_BINARY = "BinaryCrossentropy"

_LOSSES: dict[str, LossSpec] = {
    _SPARSE: MEAN_CROSS_ENTROPY,
    _ONE_HOT: MEAN_ONE_HOT_CROSS_ENTROPY,
    _BINARY: MEAN_BINARY_CROSS_ENTROPY,
}
"""What each class computes; its default reduction is the mean."""


def _recipes(api: str) -> dict[str, Recipe]:
    return {
        "softmax-head/train_on_batch": Recipe(api=api, loss=_SPARSE, activation="softmax"),
        "softmax-head/fit": Recipe(api=api, loss=_SPARSE, activation="softmax", method="fit"),
        "softmax-head/train_on_batch/one-hot": Recipe(
            api=api, loss=_ONE_HOT, activation="softmax"
        ),
        "softmax-head-float32/train_on_batch": Recipe(
            api=api, loss=_SPARSE, activation="softmax", head_dtype="float32"
        ),
        "logits-head/train_on_batch": Recipe(api=api, loss=_SPARSE),
        "logits-head/train_on_batch/one-hot": Recipe(api=api, loss=_ONE_HOT),
        "sigmoid-head/train_on_batch": Recipe(api=api, loss=_BINARY, activation="sigmoid"),
        "binary-logits-head/train_on_batch": Recipe(api=api, loss=_BINARY),
    }


_HEAD = '{api}.layers.Activation("{activation}"{dtype})(outputs)'

_TRAINED: dict[str, str] = {
    "train_on_batch": "model.train_on_batch(tf.range(rows), labels)",
    "fit": "model.fit(tf.range(rows), labels, batch_size=rows, shuffle=False, verbose=0)"
    '.history["loss"][0]',
}

_SCRIPT = """\
import {api}
import tensorflow as tf

rows, classes = logits.shape
{api}.mixed_precision.set_global_policy(
    "float32" if logits.dtype == tf.float32 else "mixed_" + logits.dtype.name)
gradient = tf.Variable(tf.fill([rows, classes], float("nan")))  # stays so if a step is skipped


class Receiver({api}.optimizers.SGD):
    def update_step(self, received, variable, learning_rate=None):
        gradient.assign(tf.convert_to_tensor(received))


inputs = {api}.Input((), dtype="int32")
embedding = {api}.layers.Embedding(rows, classes)
outputs = embedding(inputs)
{head}model = {api}.Model(inputs, outputs)
embedding.embeddings.assign(tf.cast(logits, tf.float32))
model.compile(
    Receiver(),
    {api}.losses.{loss}(from_logits={from_logits}),
    run_eagerly=mode == "eager",
    jit_compile=mode == "xla",
)
loss = {trained}
"""


def script(recipe: Recipe) -> str:
    """A script that defines ``loss`` and ``gradient`` from ``logits``, ``labels`` and ``mode``.

    The logits are a tensor ``[rows, classes]``, the labels one of their targets, the mode one of
    `modes.MODES`. It sets the global dtype policy, as a user's script does.
    """
    dtype = "" if recipe.head_dtype is None else f', dtype="{recipe.head_dtype}"'
    head = _HEAD.format(api=recipe.api, activation=recipe.activation, dtype=dtype)
    return _SCRIPT.format(
        api=recipe.api,
        head="" if recipe.activation is None else f"outputs = {head}\n",
        loss=recipe.loss,
        from_logits=recipe.activation is None,
        trained=_TRAINED[recipe.method],
    )


def model_paths(
    api: str, *, documented: Callable[[LossSpec], LossSpec] | None = None
) -> tuple[LossPath, ...]:
    """The paths of one Keras package that train a whole model.

    Args:
        api: the package.
        documented: from a loss to what the package's documentation promises for it when it gets
            probabilities; the loss itself by default.
    """
    return tuple(
        LossPath(
            name=f"model/{api}/{name}",
            loss=_LOSSES[recipe.loss],
            api=api,
            call=recipe.forward,
            source=script(recipe),
            documented=documented(_LOSSES[recipe.loss])
            if documented is not None and recipe.activation is not None
            else _LOSSES[recipe.loss],
            trains=recipe,
            traces=traced,
        )
        for name, recipe in _recipes(api).items()
    )
