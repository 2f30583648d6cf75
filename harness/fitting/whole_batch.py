"""Losses that return one number for the batch: whether that is a mean or a sum over its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.fitting.arguments import other_arguments
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.reduced import REDUCTIONS, reduced
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.paths.own import loss_of
from lossfuzz.harness.paths.own_call import checked_call
from lossfuzz.harness.paths.signature import signature_of
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.harness.running.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    Shape = tuple[int, ...]

_TOLERANCE = 1e-3
_UNITS = 64


def is_of_the_whole_batch(trial: Trial, shapes: Sequence[Shape]) -> bool:
    """Whether a loss returns one number that no reduction of the rows' exact losses comes to.

    A loss that is a reduction once its arguments are exchanged counts as one.

    Args:
        trial: of a loss that is held against one of each row.
        shapes: of ordinary batches, of few rows, of which a mean is unlike another number.

    Returns:
        False, too, where that cannot be told, since it refuses the batches.
    """
    if trial.runner.cell.path.loss.reduction is not None:
        return False
    trials = [_reducing(trial, how) for how in REDUCTIONS]
    taken = [shape for shape in shapes if trials[0].takes(shape)]
    try:
        return bool(taken) and not any(
            all(_is_right(one, shape) for shape in taken) or other_arguments(one, taken[-1])
            for one in trials
        )
    except (FormulaError, UnavailableError):
        return False


def _reducing(trial: Trial, how: str) -> Trial:
    """The trial of the same loss, held against a reduction."""
    cell = trial.runner.cell
    loss, spec = loss_of(cell.path), reduced(cell.path.loss, how)
    call = checked_call(loss, spec, cell.path.name, signature_of(loss, spec))
    path = replace(cell.path, loss=spec, documented=spec, call=call)
    return Trial(CellRunner(replace(cell, path=path)))


def _is_right(trial: Trial, shape: Shape) -> bool:
    logits, targets = trial.rows(shape)
    cell = trial.runner.cell
    exact = prepare_targets(logits, targets, {}, cell.path.loss).reference.loss
    found = trial.observed(shape).loss.astype(np.float64)
    allowed = max(_TOLERANCE, _UNITS * cell.format.unit_roundoff)
    return bool((np.abs(found - exact) <= allowed * np.maximum(1.0, np.abs(exact))).all())
