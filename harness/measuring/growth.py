"""Whether a loss stops growing: it stays what it is where the exact loss goes on growing.

Two rows of a batch with one loss and two exact ones show that something saturates, but not that
the row that is shown does: it may be merely rounded. So each row is asked by itself, beside a row
further along its own exact gradient, whose exact loss is larger by more than rounding explains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.running.execution import Runner

_MATTERS = 1e-3
_STEPS = 4.0
"""How many times the growth that could be rounding is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """The rows of a batch, beside rows whose exact losses are larger.

    Attributes:
        stopped: shape ``[rows]``; whether the loss is too small and stays the same further on.
        logits: shape ``[rows, classes]``, float64, of the rows further on.
        exact_loss: shape ``[rows]``, of the rows further on.
    """

    stopped: NDArray[np.bool_]
    logits: NDArray[np.float64]
    exact_loss: NDArray[np.float64]


def growth_of(runner: Runner, outcome: Outcome) -> Growth:
    """Ask every row of a batch whether its loss still grows; one more run of the cell.

    Args:
        runner: of the cell, a loss of each row.
        outcome: of the cell on the batch.

    Raises:
        UnavailableError: the path refused the rows further on.
    """
    prepared, measured = outcome.prepared, outcome.measurement
    loss, exact = outcome.observed.loss.astype(np.float64), prepared.reference.loss
    u = prepared.conditions.format.unit_roundoff
    with np.errstate(invalid="ignore", over="ignore"):
        rounding = 2 * measured.bound * u * np.maximum(1, np.abs(exact))
        further = _further(outcome, _STEPS * rounding)
        beside = outcome_of(
            runner,
            prepare_targets(
                further.reshape(prepared.logits.shape),
                prepared.targets,
                prepared.recipe,
                prepared.loss,
            ),
        )
        beyond = beside.prepared.reference.loss
        low = (loss < exact) & (measured.loss_mixed > measured.bound) & np.isfinite(loss)
        same = beside.observed.loss.astype(np.float64) == loss
        stopped = low & same & (beyond - exact > rounding) & measured.judged
    return Growth(stopped=stopped, logits=further.astype(np.float64), exact_loss=beyond)


def _further(outcome: Outcome, growth: NDArray[np.float64]) -> NDArray[Any]:
    """Rows along their exact gradients, by as much as makes their losses grow so much."""
    prepared = outcome.prepared
    fmt, rows = prepared.conditions.format, prepared.rows.astype(np.float64)
    gradient = np.nan_to_num(prepared.reference.gradient)
    steepness = (gradient**2).sum(axis=1, keepdims=True)
    safe = np.where(steepness > 0, steepness, 1.0)
    step = gradient * growth[:, None] / safe
    # whole numbers are easier to read, and classes that hardly matter stay where they are
    far = np.abs(gradient) >= _MATTERS * np.abs(gradient).max(axis=1, keepdims=True)
    step = np.where(far, np.copysign(np.ceil(np.abs(step)), step), 0.0)
    moved = np.clip(rows + np.nan_to_num(step), -fmt.largest_finite, fmt.largest_finite)
    kept = np.where(np.isfinite(rows), moved, rows)
    return fmt.cast(kept)
