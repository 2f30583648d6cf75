"""Whether a loss takes [rows, classes] only, as one does that is written with ``axis=1``.

On [batch, time, classes] such a loss raises, returns another shape, or even a loss of the right
shape with other values. The last is told from a defect by what is known of such losses: that they
are right where the classes are on axis 1; that they get by on square shapes only; that their mean
divides by the classes in place of the time; or that they flatten all but the batch's axis, as
losses of masks do, and are right of [batch, time * classes].
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.fitting.unreduced import raw_losses
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.reduced import SUM
from lossfuzz.harness.losses.targets import IGNORABLE, INDEX
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.running.execution import UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.running.trial import Trial

    Shape = tuple[int, ...]

_TOLERANCE = 1e-2
_UNITS = 64
_TIME = 3

_FEW = (2, 3)
"""Of batch and time: of few rows a mean of rows is another number than that of longer rows."""

_CLEARLY = 8
"""How many times nearer a loss is to the values that are its own."""


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
    if not _near(trial, rows.loss, exact):
        return False  # wrong on rows as well
    if _is_right_flattened(trial, shape):
        return True
    if _near(trial, there.loss, exact):
        return False  # right as it is
    return len(shape) == _TIME and _is_of_rank_2(trial, shape, there.loss, exact)


def _is_right_flattened(trial: Trial, shape: Shape) -> bool:
    """Whether a reduced loss is that of the same numbers as [batch, time * classes].

    With many classes that may be nearly the loss of the rows: it is told from it by rows of few.
    """
    loss = trial.runner.cell.path.loss
    if loss.reduction is None or loss.target in (INDEX, IGNORABLE):
        return (
            False  # of each row it would have another shape; a label is no label of a longer row
        )
    small = [(*_FEW, 3), (*_FEW, shape[-1])] if len(shape) == _TIME else []
    return any(_is_flattened(trial, one) for one in (*small, shape) if trial.takes(one))


def _is_flattened(trial: Trial, shape: Shape) -> bool:
    """Whether a loss is clearly nearer to the exact loss of the longer rows, and is near to it."""
    logits, targets = trial.rows(shape)
    longer = logits.reshape(len(logits), -1)
    weights = targets.weights.reshape(longer.shape)
    targets = replace(
        targets,
        weights=weights,
        labels=weights.argmax(axis=1),
        masked=targets.masked.reshape(longer.shape),
    )
    loss = trial.runner.cell.path.loss
    try:
        flattened = prepare_targets(longer, targets, {}, loss).reference.loss
    except FormulaError:
        return False
    found = trial.observed(shape).loss
    exact = _exact(trial, (math.prod(logits.shape[:-1]), shape[-1]))
    if not _near(trial, found, flattened):
        return False
    unit = trial.runner.cell.format.unit_roundoff
    apart = float(np.abs(found - exact).max()), float(np.abs(found - flattened).max())
    rounding = _UNITS * unit * max(1.0, float(np.abs(exact).max()))
    return apart[0] > max(rounding, _CLEARLY * apart[1])


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
