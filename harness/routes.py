"""Which route a loss path really took, from the operations that TensorFlow executed.

An op callback records every operation while the path's forward pass runs (eager) or is traced
(graph, XLA). Walking back from the loss to the logits shows what stands between them; operations
that were executed without leading to the loss show what was skipped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.execution import compiled, run_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lossfuzz.harness.cells import Cell

FUSED = "fused on logits"
CACHED = "cached logits"
SKIPPED = "softmax skipped"
CLIPPED = "clip + log"
LOG_SOFTMAX = "log-softmax + gather"
LOG_OF_SOFTMAX = "log of softmax"

_FUSED_OPERATION = "SparseSoftmaxCrossEntropyWithLogits"
_CLIPS = frozenset({"ClipByValue", "Minimum", "Maximum"})
_BOOKKEEPING = frozenset({"Const", "Shape", "StridedSlice", "Reshape", "Pack"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The route from logits to loss.

    Attributes:
        name: one of the names of this module, or ``other``.
        operations: the operations between them, in order of execution.
    """

    name: str
    operations: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Operation:
    name: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


@dataclass(slots=True)
class _Recording:
    """Executed operations in order; they hold their tensors, which are known by identity."""

    operations: list[_Operation] = field(default_factory=list)

    def callback(
        self,
        op_type: Any,
        inputs: Iterable[Any],
        attrs: Any,  # noqa: ARG002
        outputs: Iterable[Any],
        op_name: Any = None,  # noqa: ARG002
        graph: Any = None,  # noqa: ARG002
    ) -> None:
        name = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
        self.operations.append(_Operation(name, tuple(inputs), tuple(outputs)))

    def between(self, logits: Any, loss: Any) -> list[_Operation]:
        """The operations on a way from the logits to the loss, in order of execution."""
        needed = {id(loss)}
        leading = []
        for operation in reversed(self.operations):
            if any(id(output) in needed for output in operation.outputs):
                needed.update(id(tensor) for tensor in operation.inputs)
                leading.append(operation)
        reached = {id(logits)}
        passed = []
        for operation in reversed(leading):
            if any(id(tensor) in reached for tensor in operation.inputs):
                reached.update(id(output) for output in operation.outputs)
                passed.append(operation)
        return passed


def route_of(cell: Cell, logits: NDArray[Any], labels: NDArray[Any]) -> Route:
    """The route that a cell takes for a batch.

    Raises:
        UnavailableError: the path cannot run here.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_callbacks

    recording = _Recording()
    traced: list[tuple[Any, Any]] = []

    def forward(traced_logits: Any, traced_labels: Any) -> Any:
        loss = cell.path.call(traced_logits, traced_labels, cell.format)
        traced.append((traced_logits, loss))
        return loss

    op_callbacks.add_op_callback(recording.callback)
    try:
        with tf.device(cell.device):
            run_path(compiled(forward, cell.mode), logits, labels)
    finally:
        op_callbacks.remove_op_callback(recording.callback)
    steps = recording.between(*traced[0])
    return Route(
        name=_route_name({step.name for step in steps}, recording.operations),
        operations=tuple(step.name for step in steps if step.name not in _BOOKKEEPING),
    )


def _route_name(present: set[str], executed: Iterable[_Operation]) -> str:
    if "Softmax" in present and "Log" in present:
        return CLIPPED if present & _CLIPS else LOG_OF_SOFTMAX
    if "LogSoftmax" in present:
        return LOG_SOFTMAX
    if _FUSED_OPERATION not in present:
        return "other"
    softmaxes = [operation for operation in executed if operation.name == "Softmax"]
    if not softmaxes:
        return FUSED
    cached = any(hasattr(operation.outputs[0], "_keras_logits") for operation in softmaxes)
    return CACHED if cached else SKIPPED
