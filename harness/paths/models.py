"""Losses of whole Keras models, by the head that they end in and the way they are trained."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.reduced import (
    MEAN_BINARY_CROSS_ENTROPY,
    MEAN_CROSS_ENTROPY,
    MEAN_ONE_HOT_CROSS_ENTROPY,
)
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.path import LossPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A kind of model and how it is trained.

    The model is the smallest whose logits can be chosen freely: it looks up row i of an embedding,
    whose table is the logits, and ends in a head. The gradient of the table, as it reaches the
    optimizer behind loss scaling and clipping, is then the gradient of the logits. Everything else
    is Keras's own: layers under the dtype policy of the cell's format, ``compile`` in the cell's
    mode, ``train_on_batch`` or ``fit``.

    Attributes:
        api: the Keras package.
        loss: the name of a class in its ``losses``.
        activation: of the head; None leaves logits, and the loss is told so.
        head_dtype: of the head, where it is not the policy's.
        method: ``train_on_batch`` or ``fit``.
    """

    api: str
    loss: str
    activation: str | None = None
    head_dtype: str | None = None
    method: str = "train_on_batch"

    def forward(self, logits: Any, targets: Any, fmt: FloatFormat) -> Any:
        """Head and loss without the model around them, for use inside a function of tensors."""
        keras = importlib.import_module(self.api)
        with dtype_policy(self.api, fmt):
            loss = getattr(keras.losses, self.loss)(from_logits=self.activation is None)
            if self.activation is None:
                return loss(targets, logits)
            head = keras.layers.Activation(self.activation, dtype=self.head_dtype)
            return loss(targets, head(logits))


_SPARSE = "SparseCategoricalCrossentropy"
_ONE_HOT = "CategoricalCrossentropy"
_BINARY = "BinaryCrossentropy"

_LOSSES: dict[str, LossSpec] = {
    _SPARSE: MEAN_CROSS_ENTROPY,
    _ONE_HOT: MEAN_ONE_HOT_CROSS_ENTROPY,
    _BINARY: MEAN_BINARY_CROSS_ENTROPY,
}
"""What each class computes; its default reduction is the mean."""


def _models(api: str) -> dict[str, Model]:
    return {
        "softmax-head/train_on_batch": Model(api=api, loss=_SPARSE, activation="softmax"),
        "softmax-head/fit": Model(api=api, loss=_SPARSE, activation="softmax", method="fit"),
        "softmax-head/train_on_batch/one-hot": Model(api=api, loss=_ONE_HOT, activation="softmax"),
        "softmax-head-float32/train_on_batch": Model(
            api=api, loss=_SPARSE, activation="softmax", head_dtype="float32"
        ),
        "logits-head/train_on_batch": Model(api=api, loss=_SPARSE),
        "logits-head/train_on_batch/one-hot": Model(api=api, loss=_ONE_HOT),
        "sigmoid-head/train_on_batch": Model(api=api, loss=_BINARY, activation="sigmoid"),
        "binary-logits-head/train_on_batch": Model(api=api, loss=_BINARY),
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


def script(model: Model) -> str:
    """A script that defines ``loss`` and ``gradient`` from ``logits``, ``labels`` and ``mode``.

    The logits are a tensor ``[rows, classes]``, the labels one of their targets, the mode one of
    `modes.MODES`. It sets the global dtype policy, as a user's script does.
    """
    dtype = "" if model.head_dtype is None else f', dtype="{model.head_dtype}"'
    head = _HEAD.format(api=model.api, activation=model.activation, dtype=dtype)
    return _SCRIPT.format(
        api=model.api,
        head="" if model.activation is None else f"outputs = {head}\n",
        loss=model.loss,
        from_logits=model.activation is None,
        trained=_TRAINED[model.method],
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
            loss=_LOSSES[model.loss],
            api=api,
            call=model.forward,
            source=script(model),
            documented=documented(_LOSSES[model.loss])
            if documented is not None and model.activation is not None
            else _LOSSES[model.loss],
            trained=True,
        )
        for name, model in _models(api).items()
    )


@contextlib.contextmanager
def dtype_policy(api: str, fmt: FloatFormat) -> Iterator[None]:
    """Under the policy that computes in a format and keeps variables in float32."""
    mixed_precision = importlib.import_module(api).mixed_precision
    before = mixed_precision.global_policy()
    name = "float32" if fmt == BINARY32 else f"mixed_{fmt.dtype_name}"
    mixed_precision.set_global_policy(name)
    try:
        yield
    finally:
        mixed_precision.set_global_policy(before)
