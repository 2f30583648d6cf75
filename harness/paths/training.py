"""Training steps of whole Keras models: the reported loss, and the gradient the optimizer got.

The model is the smallest whose logits can be chosen freely: it looks up row i of an embedding,
whose table is the logits, and ends in a head. The gradient of the table, as it reaches the
optimizer behind loss scaling and clipping, is then the gradient of the logits. Everything else is
Keras's own: layers under the dtype policy of the cell's format, ``compile`` in the cell's mode,
``train_on_batch`` or ``fit``.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.formats import BINARY32
from lossfuzz.harness.subjects.server import noting, restart_loss_scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.formats import FloatFormat

_LOSS_SCALES = (2.0**15, 1.0)
"""Where loss scaling starts by default, and where it may end."""

_KEPT_MODELS = 4
"""Of one cell, by shape; each holds its table twice and its compiled functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A kind of model and how it is trained; as a path's ``trains`` it makes a cell's step.

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

    def head(self, logits: Any) -> Any:
        """What the model ends in, on its logits."""
        if self.activation is None:
            return logits
        layers = importlib.import_module(self.api).layers
        return layers.Activation(self.activation, dtype=self.head_dtype)(logits)

    def objective(self) -> Any:
        """The loss that the model is compiled with."""
        losses = importlib.import_module(self.api).losses
        return getattr(losses, self.loss)(from_logits=self.activation is None)

    def forward(self, logits: Any, targets: Any, fmt: FloatFormat) -> Any:
        """Head and loss without the model around them, for use inside a function of tensors."""
        with dtype_policy(self.api, fmt):
            return self.objective()(targets, self.head(logits))

    def __call__(self, cell: Cell) -> Callable[[Any, Any], tuple[Any, Any]]:
        """A step of a cell: ``(logits, targets) -> (loss, gradient)``, each call by itself.

        The loss is a float32 scalar, the gradient float32 and of the logits' shape; NaN where the
        optimizer got none, as when loss scaling skips a step.
        """

        @lru_cache(_KEPT_MODELS)
        def model_of(shape: tuple[int, int]) -> TrainedModel:
            return TrainedModel(self, cell, shape)

        def step(logits: Any, targets: Any) -> tuple[Any, Any]:
            import tensorflow as tf

            rows, row_targets = as_rows(cell, logits, targets)
            loss, gradient = model_of((rows.shape[0], rows.shape[1])).step(rows, row_targets)
            return loss, tf.reshape(gradient, logits.shape)

        return step


class TrainedModel:
    """A compiled model for batches of one shape, which starts afresh in every step."""

    def __init__(self, recipe: Recipe, cell: Cell, shape: tuple[int, int]) -> None:
        import tensorflow as tf

        keras = importlib.import_module(recipe.api)
        self._recipe, self._cell = recipe, cell
        with tf.device(cell.device), dtype_policy(recipe.api, cell.format):
            self._ids = tf.range(shape[0])
            self._received = tf.Variable(tf.fill(shape, math.nan))
            self._table = keras.layers.Embedding(*shape)
            inputs = keras.Input((), dtype="int32")
            self.model = keras.Model(inputs, recipe.head(self._table(inputs)))
        self.model.train_step = _on_device(self.model.train_step, cell.device)
        self.compile()

    def compile(self, **optimizer_options: Any) -> None:
        """Compile the model with an optimizer that keeps what it is given and changes nothing."""
        import tensorflow as tf

        with tf.device(self._cell.device), dtype_policy(self._recipe.api, self._cell.format):
            self.model.compile(
                optimizer=_receiver(self._recipe.api, self._received, optimizer_options),
                loss=self._recipe.objective(),
                run_eagerly=self._cell.mode == "eager",
                jit_compile=self._cell.mode == "xla",
            )
            self.model.optimizer.build(self.model.trainable_variables)

    def step(self, logits: Any, targets: Any) -> tuple[Any, Any]:
        """Loss and gradient of one batch.

        A dynamic loss scale starts at 2**15 and falls as long as steps are skipped; so a batch
        that is skipped there is trained on again at the scale 1, below which none falls to any
        use. What is skipped then is not finite at any scale.

        Args:
            logits: shape ``[rows, classes]``.
            targets: of its rows.
        """
        import tensorflow as tf

        with tf.device(self._cell.device), dtype_policy(self._recipe.api, self._cell.format):
            self._table.embeddings.assign(tf.cast(logits, tf.float32))
            self._received.assign(tf.fill(self._received.shape, math.nan))
            loss = math.nan
            for scale in _LOSS_SCALES:
                scaled = restart_loss_scale(self.model.optimizer, scale)
                self.model.reset_metrics()
                loss = self._train(targets)
                skipped = bool(tf.reduce_all(tf.math.is_nan(self._received)))
                if not (scaled and skipped):
                    break
            return tf.constant(loss, tf.float32), tf.identity(self._received)

    def _train(self, targets: Any) -> float:
        if self._recipe.method == "train_on_batch":
            return float(self.model.train_on_batch(self._ids, targets))
        rows = self._ids.shape[0]
        history = self.model.fit(self._ids, targets, batch_size=rows, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    def watch(self, logits: list[Any], losses: list[Any]) -> None:
        """Have every later step note the tensors that it computes; they are kept alive."""
        self._table.call = noting(self._table.call, logits)
        self.model.compute_loss = noting(self.model.compute_loss, losses)


def traced(cell: Cell, logits: Any, targets: Any) -> list[tuple[Any, Any]]:
    """The logits and loss tensors of a cell's training step, between which its route runs.

    A fresh model takes the step, so that in graph and XLA mode it is traced during this call.

    Raises:
        TypeError: the cell's path trains no model.
    """
    import tensorflow as tf

    recipe = cell.path.trains
    if not isinstance(recipe, Recipe):
        raise TypeError(f"expected the path of a model, got {cell.path.name}: it has no Recipe")
    rows, row_targets = as_rows(cell, tf.convert_to_tensor(logits), tf.convert_to_tensor(targets))
    trained = TrainedModel(recipe, cell, (rows.shape[0], rows.shape[1]))
    noted: tuple[list[Any], list[Any]] = ([], [])
    trained.watch(*noted)
    trained.step(rows, row_targets)
    return [(noted[0][-1], noted[1][-1])]  # those before are of Keras's own dry runs


def as_rows(cell: Cell, logits: Any, targets: Any) -> tuple[Any, Any]:
    """Logits as ``[rows, classes]`` and targets as their rows.

    Raises:
        ValueError: the logits are not of the cell's format, or the shapes do not belong together.
    """
    import tensorflow as tf

    if logits.dtype.name != cell.format.dtype_name:
        raise ValueError(f"expected {cell.format.dtype_name} logits, got {logits.dtype.name}")
    shape = tuple(logits.shape)
    if not shape or 0 in shape:
        raise ValueError(f"expected logits of shape [..., classes] with rows in it, got {shape}")
    if tuple(targets.shape) not in (shape, shape[:-1]):
        raise ValueError(
            f"expected targets of shape {shape[:-1]}, or {shape} if they are dense, for logits of "
            f"shape {shape}, got {tuple(targets.shape)}"
        )
    dense = targets.shape == logits.shape
    return tf.reshape(logits, (-1, shape[-1])), tf.reshape(targets, (-1, shape[-1])[: 1 + dense])


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


def _receiver(api: str, received: Any, options: dict[str, Any]) -> Any:
    """An optimizer whose update stores the gradient: after clipping, when it is really applied."""
    import tensorflow as tf

    sgd: Any = importlib.import_module(api).optimizers.SGD

    class Receiver(sgd):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
            del variable, learning_rate
            received.assign(tf.convert_to_tensor(gradient))

    return Receiver(**options)


def _on_device(train_step: Callable[[Any], Any], device: str) -> Callable[[Any], Any]:
    """The step on a device, also where it is traced: a traced body does not inherit it."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    @wraps(train_step)
    def placed(data: Any) -> Any:
        with tf.device(device):
            return train_step(data)

    return placed  # type: ignore[no-any-return]
