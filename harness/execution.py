"""Running a cell on a batch: loss and gradient, as the user's training step would get them."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.losses.spec import LossSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a cell returned for a batch.

    Attributes:
        loss: shape ``[rows]``, or ``[1]`` of a reduced loss, in the dtype that the path chose
            (Keras may widen it).
        gradient: shape ``[rows, classes]``, in the logits' format, or wider from an optimizer.
        seconds: time spent inside TensorFlow.
    """

    loss: NDArray[Any]
    gradient: NDArray[Any]
    seconds: float


class UnavailableError(RuntimeError):
    """The installed versions cannot run this cell; the message says why."""


class Runner(Protocol):
    """A cell that is ready to run, wherever it runs.

    Attributes:
        cell: what is run.
        documented: the formula that its route promises.
    """

    cell: Cell
    documented: LossSpec

    def run(self, logits: NDArray[Any], targets: NDArray[Any]) -> Observed:
        """Loss and gradient of every row; see `CellRunner.run`."""


class CellRunner:
    """A cell, ready to run: its step is built once and traced or compiled once per shape.

    Attributes:
        cell: what is run.
        documented: the formula that its route promises; the path's own unless another is given.
    """

    def __init__(self, cell: Cell, documented: LossSpec | None = None) -> None:
        import tensorflow as tf

        self.cell = cell
        self.documented = cell.path.documented if documented is None else documented
        self._tf = tf
        trains = cell.path.trains
        self._step = trains(cell) if trains else compiled(training_step(cell), cell.mode)

    def run(self, logits: NDArray[Any], targets: NDArray[Any]) -> Observed:
        """Loss and gradient of every row.

        Args:
            logits: shape ``[..., classes]`` in the cell's format.
            targets: what the path is given beside them, as `Targets.fed` makes it.

        Raises:
            UnavailableError: TensorFlow or Keras refused to compute it.
        """
        start = time.perf_counter()
        with self._tf.device(self.cell.device):
            loss, gradient = run_path(self._step, logits, targets)
        seconds = time.perf_counter() - start
        classes = logits.shape[-1]
        return Observed(
            loss=loss.reshape(-1), gradient=gradient.reshape(-1, classes), seconds=seconds
        )


def run_path(
    step: Callable[..., Any], logits: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    """Run a step of a path on arrays, and wait for its results as arrays.

    Raises:
        UnavailableError: the path refused; TensorFlow's first line says why.
    """
    import tensorflow as tf

    inputs = tf.constant(logits), tf.constant(labels)
    with _refusals():
        return tuple(result.numpy() for result in tf.nest.flatten(step(*inputs)))


def trace(
    step: Callable[..., Any], mode: str, logits: NDArray[Any], targets: NDArray[Any]
) -> None:
    """Trace a step of a path for such arrays without running it, in graph or XLA.

    Raises:
        UnavailableError: the path refused to be traced.
    """
    import tensorflow as tf

    with _refusals():
        compiled(step, mode).get_concrete_function(tf.constant(logits), tf.constant(targets))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turn whatever a path raises into one line.

    A process that the path forked, and that comes back from it, ends here: it would go on with
    everything that is done and written once.
    """
    process = os.getpid()
    try:
        yield
    except Exception as error:
        raise UnavailableError(f"{type(error).__name__}: {_line(error)}"[:300]) from error
    finally:
        if os.getpid() != process:
            os._exit(0)


def _line(error: Exception) -> str:
    """The line of an error that says what happened.

    Of one inside a graph it stands before that of the node, behind where the node was made.
    """
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return "no message"
    if lines[0].startswith("Graph execution error"):
        nodes = [place for place, line in enumerate(lines) if line.startswith("[[{{node")]
        return lines[nodes[0] - 1] if nodes and nodes[0] > 0 else lines[-1]
    return lines[0]


def training_step(
    cell: Cell, upstream: Sequence[float] = ()
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """A function of tensors that returns a path's losses and their gradient.

    Args:
        cell: whose path is called.
        upstream: the gradients that come from above the losses, one for each; empty for 1.
    """
    import tensorflow as tf

    def step(logits: Any, labels: Any) -> tuple[Any, Any]:
        with tf.device(cell.device):  # again inside, since a traced body does not inherit it
            with tf.GradientTape() as tape:
                tape.watch(logits)
                loss = cell.path.call(logits, labels, cell.format)
            above = None
            if upstream:
                above = tf.reshape(tf.constant(upstream, loss.dtype), tf.shape(loss))
            gradient = tape.gradient(loss, logits, output_gradients=above)
        if gradient is None:
            raise UnavailableError(
                "the loss has no gradient with respect to the logits (does it round, take an "
                "argmax, leave TensorFlow, or stop its own gradient?)"
            )
        return loss, tf.convert_to_tensor(gradient)  # of a gather they come as slices

    return step


def compiled(step: Callable[..., Any], mode: str) -> Any:
    """A function of tensors, in a mode."""
    import tensorflow as tf

    if mode == "eager":
        return step
    return tf.function(step, autograph=False, jit_compile=True if mode == "xla" else None)
