"""Peak memory and time of a cell, forward alone and with its backward pass.

Bytes are those that TensorFlow's allocator handed out at once, above the inputs; on the CPU its
BFC allocator must be on (`backend.start_tensorflow` sees to it), which rounds requests up by at
most a few percent. They are given as a multiple of the logits' size.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.backend import BackendError
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.running.execution import UnavailableError, ready, run_path
from lossfuzz.harness.running.server import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.paths.cells import Cell

_REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a cell costs, in multiples of the logits' size.

    Attributes:
        forward: peak bytes of the loss alone, above the inputs.
        step: peak bytes of loss and gradient, above the inputs.
        held: bytes that stay allocated when a step's results are gone, such as constants that a
            graph keeps; they are part of `step`.
        seconds: the fastest step.
    """

    forward: float
    step: float
    held: float
    seconds: float


def footprint_of(cell: Cell, shape: tuple[int, ...], seed: int = 0) -> Footprint:
    """Measure a cell on a normal batch of a shape ``[..., classes]``.

    The peak is the largest of three steps after a first one, since a graph's schedule varies.

    Raises:
        BackendError: TensorFlow's allocator keeps no count on this device.
        UnavailableError: the path cannot run here.
    """
    import tensorflow as tf

    generator = np.random.default_rng(seed)
    logits = cell.format.cast(generator.standard_normal(shape, np.float32))
    labels = generator.integers(0, shape[-1], shape[:-1]).astype(np.int32)
    rows = logits.reshape(-1, shape[-1])
    targets = targets_of(cell.path.loss.target, rows, labels.reshape(-1))
    fed = targets.fed(shape, cell.format.dtype)
    del rows, targets

    def forward(x: Any, y: Any) -> Any:
        with tf.device(cell.device):
            return cell.path.call(x, y, cell.format)

    forward_peak, _, _ = _peak(cell, compiled(forward, cell.mode), logits, fed)
    step = ready(cell).step
    step_peak, held, seconds = _peak(cell, step, logits, fed)
    size = math.prod(shape) * cell.format.dtype.itemsize
    return Footprint(
        forward=forward_peak / size, step=step_peak / size, held=held / size, seconds=seconds
    )


def _peak(
    cell: Cell, step: Callable[..., Any], logits: Any, labels: Any
) -> tuple[int, int, float]:
    """Peak and held bytes above the inputs, and the fastest time, of a step."""
    import tensorflow as tf

    memory = tf.config.experimental
    run_path(step, logits[:1], labels[:1])  # says here, on little data, if the path refuses
    gc.collect()
    try:
        memory.get_memory_info(cell.device)
    except ValueError as error:
        raise BackendError(
            f"TensorFlow's allocator keeps no count of memory on {cell.device} ({error}): it must "
            "be started by lossfuzz, with TF_CPU_ALLOCATOR_USE_BFC=1 and oneDNN on"
        ) from None
    if cell.path.trained:
        run_path(step, logits, labels)  # makes the model of this shape: its weights are inputs
    gc.collect()
    gc.freeze()  # so that to collect after every step is quick
    with tf.device(cell.device):
        inputs = tf.constant(logits), tf.constant(labels)
    given = memory.get_memory_info(cell.device)["current"]
    peak, fastest = 0, math.inf
    for repeat in range(_REPEATS + 1):
        memory.reset_memory_stats(cell.device)
        start = time.perf_counter()
        try:
            results = tf.nest.flatten(step(*inputs))
            for result in results:
                np.ravel(result.numpy())[:0]  # wait for it
        except tf.errors.ResourceExhaustedError as error:
            raise UnavailableError(f"out of memory: {str(error).splitlines()[0]}") from error
        if repeat:
            fastest = min(fastest, time.perf_counter() - start)
        peak = max(peak, memory.get_memory_info(cell.device)["peak"])
        del results, result
        gc.collect()
    gc.unfreeze()
    held = memory.get_memory_info(cell.device)["current"] - given
    del inputs
    return peak - given, max(0, held), fastest
