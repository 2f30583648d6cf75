"""Running a cell on a batch: loss and gradient, as the user's training step would get them."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossfuzz.harness.paths.own_call import FLOATING, LossError
from lossfuzz.harness.printable import printable
from lossfuzz.harness.user_code import OverdueError, UserCode, UserCodeError, kind_of, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

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


_MOST_TOLD = 300


class UnavailableError(RuntimeError):
    """The installed versions cannot run this cell; the message says why."""


class TimedOutError(UnavailableError):
    """A user's loss took longer than one call of it may take."""


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
            loss, gradient = run_path(self._step, logits, targets, name=own_name(self.cell))
        seconds = time.perf_counter() - start
        classes = logits.shape[-1]
        if self.cell.path.own:
            check_gradient(gradient, logits, own_name(self.cell))
        return Observed(
            loss=loss.reshape(-1), gradient=gradient.reshape(-1, classes), seconds=seconds
        )


def own_name(cell: Cell) -> str:
    """The name of the user's function that a cell calls; empty if the path is one of ours."""
    return cell.path.written if cell.path.own else ""


def run_path(
    step: Callable[..., Any], logits: NDArray[Any], labels: NDArray[Any], *, name: str = ""
) -> tuple[NDArray[Any], ...]:
    """Run a step of a path on arrays, and wait for its results as arrays.

    Args:
        step: of tensors.
        logits: its first argument.
        labels: its second one.
        name: of the user's function that it calls, if it does.

    Raises:
        UnavailableError: the path refused; TensorFlow's first line says why.
        TimedOutError: the user's function took too long.
    """
    import tensorflow as tf

    inputs = tf.constant(logits), tf.constant(labels)
    with refusals(name):
        return tuple(result.numpy() for result in tf.nest.flatten(step(*inputs)))


def trace(
    step: Callable[..., Any],
    mode: str,
    logits: NDArray[Any],
    targets: NDArray[Any],
    *,
    name: str = "",
) -> None:
    """Trace a step of a path for such arrays without running it, in graph or XLA.

    Raises:
        UnavailableError: the path refused to be traced.
        TimedOutError: the user's function took too long.
    """
    import tensorflow as tf

    with refusals(name):
        compiled(step, mode).get_concrete_function(tf.constant(logits), tf.constant(targets))


class refusals:  # noqa: N801 - it is used as a function
    """``with refusals(name):`` turns whatever a path raises into one line.

    Of a path that calls a user's function the line has its name, and the function gets through
    the door that `UserCode` is. This is no generator, into which `GeneratorExit` cannot be thrown.
    A process that the path forked, and that comes back from it, ends here: it would go on with
    everything that is done and written once.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._door = UserCode(name) if name else contextlib.nullcontext()
        self._process = os.getpid()

    def __enter__(self) -> None:
        """Open the door, if it is a user's function.

        Raises:
            TimedOutError: the user's function took too long before.
        """
        try:
            self._door.__enter__()
        except OverdueError as overdue:
            raise TimedOutError(str(overdue)) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Turn an error into a refusal.

        Raises:
            UnavailableError: the path refused.
            TimedOutError: the user's function took too long.
        """
        if os.getpid() != self._process:
            os._exit(0)
        try:
            self._door.__exit__(kind, error, trace)
        except OverdueError as overdue:
            raise TimedOutError(str(overdue)) from error
        except UserCodeError as other:
            raise UnavailableError(str(other)[:_MOST_TOLD]) from error
        if isinstance(error, Exception):
            raise UnavailableError(self._told(error)[:_MOST_TOLD]) from error

    def _told(self, error: Exception) -> str:
        kind, line = kind_of(error), _line(error)
        if not self._name:
            return f"{kind}: {line}"
        if isinstance(error, LossError):
            return line
        if isinstance(error, UnavailableError):
            return f"{self._name}: {line}"
        return f"{self._name} raised {kind}: {line}"


def check_gradient(gradient: NDArray[Any], logits: NDArray[Any], name: str) -> None:
    """See that a gradient is one of these logits; TensorFlow asks nothing of a custom one.

    Raises:
        UnavailableError: it has not the logits' shape, or holds no floating-point numbers.
    """
    gradient = np.asarray(gradient)  # a string comes as bytes
    if gradient.shape != logits.shape:
        raise UnavailableError(
            f"{name}: the gradient has shape {list(gradient.shape)}, expected the logits' own, "
            f"{list(logits.shape)} (does tf.custom_gradient return it so?)"
        )
    if gradient.dtype.name not in FLOATING:
        raise UnavailableError(
            f"{name}: the gradient has dtype {gradient.dtype.name}, expected a floating one, such "
            f"as the logits' own, {logits.dtype.name} (does tf.custom_gradient return it so?)"
        )


def _line(error: Exception) -> str:
    """The line of an error that says what happened.

    Of one inside a graph it stands before that of the node, behind where the node was made.
    """
    first = line_of(error)
    if not first.startswith("Graph execution error"):
        return first
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    nodes = [place for place, line in enumerate(lines) if line.startswith("[[{{node")]
    return printable(lines[nodes[0] - 1] if nodes and nodes[0] > 0 else lines[-1])


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
