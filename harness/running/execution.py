"""Running a cell on a batch: loss and gradient, as the user's training step would get them."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lossfuzz.harness.paths.own_call import FLOATING, LossError
from lossfuzz.harness.records.printable import printable
from lossfuzz.harness.running.server import Call, Script, UnavailableError
from lossfuzz.harness.users.user_code import (
    OverdueError,
    UserCode,
    UserCodeError,
    kind_of,
    line_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.cells import Cell


__all__ = [
    "CellRunner",
    "Observed",
    "Runner",
    "TimedOutError",
    "UnavailableError",
    "check_gradient",
    "described",
    "own_name",
    "ready",
    "refusals",
    "run_path",
]


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
        self._step: Callable[..., Any] | None = None

    def run(self, logits: NDArray[Any], targets: NDArray[Any]) -> Observed:
        """Loss and gradient of every row.

        Args:
            logits: shape ``[..., classes]`` in the cell's format.
            targets: what the path is given beside them, as `Targets.fed` makes it.

        Raises:
            UnavailableError: TensorFlow or Keras refused to compute it.
        """
        if self._step is None:
            self._step = ready(self.cell).step
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


def ready(cell: Cell, upstream: Sequence[float] = ()) -> Call | Script:
    """What runs a cell's path in this process: the same that a subject's process runs.

    Args:
        cell: which.
        upstream: the gradients that come from above the losses, one for each; empty for 1. A
            whole model takes none.

    Raises:
        UnavailableError: the path's package is not here.
    """
    if cell.path.trained:
        return Script(described(cell))

    def loss(logits: Any, labels: Any) -> Any:
        return cell.path.call(logits, labels, cell.format)

    return Call(described(cell), loss, upstream)


def described(cell: Cell) -> dict[str, Any]:
    """A cell as `server` knows it."""
    return {
        "path": cell.path.name,
        "source": cell.path.source,
        "api": cell.path.api,
        "script": cell.path.trained,
        "dtype": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.local_device,
    }


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
