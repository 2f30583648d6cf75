"""Which route a loss path really took, from the operations that TensorFlow executed.

An op callback records every operation while the path's forward pass runs (eager) or is traced
(graph, XLA). Walking back from the loss to the logits shows what stands between them; operations
that were executed without leading to the loss show what was skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.paths.route import Route, route_from
from lossfuzz.harness.running.execution import own_name, ready, refusals
from lossfuzz.harness.running.server import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.paths.cells import Cell

_TAME_LOGITS = [[0.0, 3.0, 1.0], [2.0, 0.0, -1.0]]


def route_of(
    cell: Cell, logits: NDArray[Any] | None = None, targets: NDArray[Any] | None = None
) -> Route:
    """The route that a cell takes for a batch, by default for a tame one.

    Raises:
        UnavailableError: the path cannot run here.
    """
    import tensorflow as tf

    if logits is None or targets is None:
        logits, targets = tame_batch(cell)
    recording = Recording()
    inputs = tf.constant(logits), tf.constant(targets)
    with recording.running(), tf.device(cell.device), refusals(own_name(cell)):
        ends = ready(cell).trace(*inputs)
    return route_from(recording.between(*ends), recording.executed())


def tame_batch(cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two rows that no path has a reason to refuse, as the cell's path is fed them."""
    logits = cell.format.cast(_TAME_LOGITS)
    targets = targets_of(cell.path.loss.target, logits, np.zeros(len(logits), np.int32))
    return logits, targets.fed(logits.shape, logits.dtype)
