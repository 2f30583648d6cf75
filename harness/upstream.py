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

UPSTREAM = (2.0, 1.0, 4.0)
"""What comes from above the rows of a batch of three; powers of two, whose multiples are exact."""


def upstream_of(*, reduced: bool) -> tuple[float, ...]:
    """What comes from above each loss of the batch; of a reduced loss there is one."""
    return UPSTREAM[:1] if reduced else UPSTREAM


def upstream_finding(runner: CellRunner) -> Finding | None:
    """The finding of a cell whose gradient is not linear in the upstream gradient; else None.

    Three copies of an ordinary row are run with upstream gradients of 2, 1 and 4, a reduced loss
    with 2. Each row's gradient has to be so many times its gradient for 1, up to rounding.

    Raises:
        UnavailableError: the path refused the rows.
    """
    cell, loss = runner.cell, runner.cell.path.loss
    row = tame_batch(cell)[0][:1]
    logits = np.repeat(row, len(UPSTREAM), axis=0)
    prepared = prepare(logits, np.zeros(len(logits), np.int32), {}, loss)
    plain = outcome_of(runner, prepared)
    above = upstream_of(reduced=loss.reduction is not None)
    step = compiled(training_step(cell, above), cell.mode)
    gradient = run_path(step, prepared.logits, prepared.fed)[1].reshape(logits.shape)
    factors = np.broadcast_to(np.array(above), (len(logits),))
    if not np.isfinite(plain.observed.gradient.astype(np.float64)).all():
        return None  # that is a finding of another kind
    errors = _errors(plain, gradient, factors)
    if not (errors > 2 * plain.measurement.bound).any():
        return None
    worst = 0 if errors[0] > 2 * plain.measurement.bound else int(errors.argmax())
    return replace(
        plain.finding(UPSTREAM_IGNORED, DEFECT, worst),
        observed_gradient=tuple(gradient[worst].astype(np.float64).tolist()),
        exact_gradient=tuple((factors[worst] * prepared.reference.gradient[worst]).tolist()),
        mixed_error=float(errors[worst]),
        ulp_error=_ulp_error(plain, gradient, factors, worst),
        batch_rows=len(logits),
        repeated=True,
        upstream=float(factors[worst]),
    )


def _errors(
    plain: Outcome, gradient: NDArray[Any], factors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """By how much each row's gradient differs from its multiple, in units of u and its scale."""
    conditions = plain.prepared.conditions
    expected = plain.observed.gradient.astype(np.float64) * factors[:, None]
    with np.errstate(invalid="ignore"):
        apart = np.abs(gradient.astype(np.float64) - expected).max(axis=1)
    units = conditions.format.unit_roundoff * conditions.scale * factors
    return np.asarray(np.where(np.isnan(apart), np.inf, apart) / units)


def _ulp_error(
    plain: Outcome, gradient: NDArray[Any], factors: NDArray[np.float64], row: int
) -> float:
    """The largest ULP error of a row's components, in ulps of the logits' format."""
    exact = plain.prepared.reference.gradient[row] * factors[row]
    found = gradient[row].astype(np.float64)
    return float(ulp_errors(found, exact, plain.prepared.conditions.format).max())
