"""Whether a loss takes [rows, classes] only, as one does that is written with ``axis=1``.

On [batch, time, classes] such a loss raises, returns another shape, or even a loss of the right
shape with other values. The last is told from a defect by what is known of such losses: that they
are right where the classes are on axis 1; that they get by on square shapes only; or that their
mean divides by the classes in place of the time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.losses.reduced import SUM
from lossfuzz.harness.prepared import prepare_targets
from lossfuzz.harness.unreduced import raw_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.trial import Trial

    Shape = tuple[int, ...]

_TOLERANCE = 1e-2
_UNITS = 64
_TIME = 3


def takes_rows_only(trial: Trial, shape: Shape) -> bool:
    """Whether a loss is right on the rows of a shape, and not meant for the shape itself.

    Args:
        trial: of a cell of the loss.
        shape: of rank 3 or more.
    """
    flat = (math.prod(shape[:-1]), shape[-1])
    if not (trial.takes(flat) and trial.takes(shape)):
        return trial.takes(flat)
    there, rows = trial.observed(shape), trial.observed(flat)
    exact = _exact(trial, flat)
    if _near(trial, there.loss, exact) or not _near(trial, rows.loss, exact):
        return False  # right as it is, or wrong on rows as well
    return len(shape) == _TIME and _is_of_rank_2(trial, shape, there.loss, exact)


def _is_of_rank_2(
    trial: Trial, shape: Shape, found: NDArray[Any], exact: NDArray[np.float64]
) -> bool:
    """Whether other losses than the exact ones are those of a loss with ``axis=1``."""
    batch, time, classes = shape
    if time == classes and not trial.takes((batch, time + 1, classes)):
        return True
    if _is_right_on_axis_1(trial, shape, exact):
        return True
    averaged = trial.runner.cell.path.loss.reduction not in (None, SUM)
    return averaged and _near(trial, found * (classes / time), exact)


def _is_right_on_axis_1(trial: Trial, shape: Shape, exact: NDArray[np.float64]) -> bool:
    """Whether a loss is right on the same rows as [batch, classes, time]."""
    logits, targets = trial.rows(shape)
    fed = targets.fed(logits.shape, logits.dtype)
    if fed.ndim == _TIME:
        fed = np.ascontiguousarray(fed.swapaxes(1, 2))
    try:
        losses = raw_losses(trial, np.ascontiguousarray(logits.swapaxes(1, 2)), fed)
    except UnavailableError:
        return False
    return losses.size == exact.size and _near(trial, losses.reshape(-1), exact)


def _exact(trial: Trial, flat: Shape) -> NDArray[np.float64]:
    logits, targets = trial.rows(flat)
    return prepare_targets(logits, targets, {}, trial.runner.cell.path.loss).reference.loss


def _near(trial: Trial, losses: NDArray[Any], exact: NDArray[np.float64]) -> bool:
    """Whether losses are the exact ones, as far as ordinary rounding lets them."""
    if losses.shape != exact.shape:
        return False
    unit = trial.runner.cell.format.unit_roundoff
    allowed = max(_TOLERANCE, _UNITS * unit) * np.maximum(1.0, np.abs(exact))
    with np.errstate(invalid="ignore"):
        return bool((np.abs(losses.astype(np.float64) - exact) <= allowed).all())
