"""Losses of elements, ``[..., classes]``, where a loss of rows takes the mean over the classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.paths.own import loss_of
from lossfuzz.harness.paths.own_call import raw_call
from lossfuzz.harness.paths.signature import signature_of
from lossfuzz.harness.running.execution import UnavailableError, own_name, run_path
from lossfuzz.harness.running.server import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.running.trial import Trial

_TOLERANCE = 1e-3
_UNITS = 64


def is_of_elements(trial: Trial, shape: tuple[int, ...]) -> bool:
    """Whether a loss returns one loss for every element, which is that of the element alone.

    Args:
        trial: of a loss in whose targets every class is a question of its own.
        shape: of the tame batch.
    """
    logits, targets = trial.rows(shape)
    fed = targets.fed(logits.shape, logits.dtype)
    apart = (math.prod(logits.shape), 1)
    try:
        whole = raw_losses(trial, logits, fed)
        alone = raw_losses(trial, logits.reshape(apart), fed.reshape(apart))
    except UnavailableError:
        return False
    if whole.shape != logits.shape or alone.shape != apart:
        return False
    unit = trial.runner.cell.format.unit_roundoff
    allowed = max(_TOLERANCE, _UNITS * unit) * np.maximum(1.0, np.abs(alone.reshape(shape)))
    return bool((np.abs(whole - alone.reshape(logits.shape)) <= allowed).all())


def raw_losses(trial: Trial, logits: NDArray[Any], fed: NDArray[Any]) -> NDArray[np.float64]:
    """What a user's loss returns, in whatever shape.

    Raises:
        UnavailableError: it raises.
    """
    import tensorflow as tf

    cell = trial.runner.cell
    loss = loss_of(cell.path)
    call = raw_call(loss, cell.path.name, signature_of(loss, cell.path.loss))

    def step(some: Any, given: Any) -> Any:
        return tf.convert_to_tensor(call(some, given, cell.format))

    with tf.device(cell.device):
        (losses,) = run_path(compiled(step, cell.mode), logits, fed, name=own_name(cell))
    return losses.astype(np.float64)
