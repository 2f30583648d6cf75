"""Whether a user's loss multiplies its gradient with the gradient that comes from above it.

A gradient is linear in what comes from above. A custom gradient that forgets that factor is right
while it is 1, and wrong once the loss is averaged, weighted or scaled. That is checked by itself,
on ordinary rows, where no factor can lead to an overflow: findings of every other kind hold for an
upstream gradient of 1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.execution import compiled, run_path, training_step
from lossfuzz.harness.findings import DEFECT, UPSTREAM_IGNORED, Finding
from lossfuzz.harness.outcome import outcome_of
from lossfuzz.harness.prepared import prepare
from lossfuzz.harness.routes import tame_batch
from lossfuzz.harness.ulp import ulp_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.execution import CellRunner
    from lossfuzz.harness.outcome import Outcome

UPSTREAM = 2.0
"""What comes from above; a power of two, whose multiples are exact."""


def upstream_finding(runner: CellRunner) -> Finding | None:
    """The finding of a cell whose gradient is not linear in the upstream gradient; else None.

    An ordinary row is run with an upstream gradient of 2 for every loss. Its gradient has to be
    twice its gradient for 1, up to rounding, also where losses couple the rows of a batch.

    Raises:
        UnavailableError: the path refused the row.
    """
    cell, loss = runner.cell, runner.cell.path.loss
    logits = tame_batch(cell)[0][:1]
    prepared = prepare(logits, np.zeros(len(logits), np.int32), {}, loss)
    plain = outcome_of(runner, prepared)
    if not np.isfinite(plain.observed.gradient.astype(np.float64)).all():
        return None  # that is a finding of another kind
    step = compiled(training_step(cell, UPSTREAM), cell.mode)
    gradient = run_path(step, prepared.logits, prepared.fed)[1].reshape(1, -1)
    error = float(_errors(plain, gradient)[0])
    if not error > 2 * plain.measurement.bound:
        return None
    exact = UPSTREAM * prepared.reference.gradient[0]
    found = gradient[0].astype(np.float64)
    return replace(
        plain.finding(UPSTREAM_IGNORED, DEFECT, 0),
        observed_gradient=tuple(found.tolist()),
        exact_gradient=tuple(exact.tolist()),
        mixed_error=error,
        ulp_error=float(ulp_errors(found, exact, cell.format).max()),
        repeated=loss.reduction is not None,
        upstream=UPSTREAM,
    )


def _errors(plain: Outcome, gradient: NDArray[Any]) -> NDArray[np.float64]:
    """By how much each row's gradient differs from its multiple, in units of u and its scale."""
    conditions = plain.prepared.conditions
    expected = plain.observed.gradient.astype(np.float64) * UPSTREAM
    with np.errstate(invalid="ignore"):
        apart = np.abs(gradient.astype(np.float64) - expected).max(axis=1)
    units = conditions.format.unit_roundoff * conditions.scale * UPSTREAM
    return np.asarray(np.where(np.isnan(apart), np.inf, apart) / units)
