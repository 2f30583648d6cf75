"""Whether a user's loss multiplies its gradient with the gradient that comes from above it.

A gradient is linear in what comes from above. A custom gradient that forgets that factor, or takes
its magnitude, rounds, caps or averages it, is right while it is 1, and wrong once the loss is
weighted, scaled or subtracted. That is checked by itself, on ordinary rows, where no factor can
lead to an overflow: findings of every other kind hold for an upstream gradient of 1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.numbers.ulp import ulp_errors
from lossfuzz.harness.results.kinds import DEFECT, UPSTREAM_IGNORED
from lossfuzz.harness.running.execution import (
    check_gradient,
    own_name,
    ready,
    run_path,
)
from lossfuzz.harness.running.trial import Trial, within

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import CellRunner

FACTORS = (4.0, -1.0, 0.5)
"""What comes from above the rows by turns; powers of two, whose multiples are exact."""

_ROW = (0.0, 3.0, 1.0, -1.0, 2.0)


def upstream_finding(runner: CellRunner, shape: tuple[int, ...]) -> Finding | None:
    """The finding of a cell whose gradient is not linear in the upstream gradient; else None.

    Copies of an ordinary row are run with upstream gradients of 4, -1 and 1/2 by turns. Each row's
    gradient has to be so many times its gradient for 1, up to rounding. A loss that is reduced, or
    whose rows depend on each other, is run with each of them for the whole batch.

    Args:
        runner: of the cell.
        shape: on which the loss runs.

    Raises:
        UnavailableError: the path refused the rows.
    """
    prepared = _copies(runner, shape)
    plain = outcome_of(runner, prepared)
    if not np.isfinite(plain.observed.gradient.astype(np.float64)).all():
        return None  # that is a finding of another kind
    rows = len(prepared.rows)
    if prepared.loss.reduction is None and not _coupled(runner, plain):
        above = [np.resize(FACTORS, rows)]
    else:
        above = [np.full(rows, factor) for factor in FACTORS]
    for factors in above:
        finding = _finding(plain, runner, factors)
        if finding is not None:
            return finding
    return None


def _copies(runner: CellRunner, shape: tuple[int, ...]) -> Prepared:
    """A batch of copies of one ordinary row: three, if the loss takes as few."""
    cell = runner.cell
    few = (len(FACTORS), shape[-1])
    chosen = few if Trial(runner).takes(few) else shape
    row = cell.format.cast(within(np.resize(_ROW, (1, shape[-1])), cell.path.bounds))
    targets = targets_of(cell.path.loss.target, row, np.zeros(1, np.int32))
    copies = np.zeros(math.prod(chosen[:-1]), np.intp)
    logits = row[copies].reshape(chosen)
    return prepare_targets(logits, targets.take(copies), {}, cell.path.loss)


def _coupled(runner: CellRunner, plain: Outcome) -> bool:
    """Whether the first row's loss changes at all with the last one."""
    prepared, cell = plain.prepared, runner.cell
    moved = prepared.logits.copy()
    other = within(np.resize(_ROW[::-1], moved.shape[-1]) / 2, cell.path.bounds)
    moved.reshape(len(prepared.rows), -1)[-1] = cell.format.cast(other)
    changed = runner.run(moved, prepared.fed).loss
    return bool(len(changed) > 1 and changed[0] != plain.observed.loss[0])


def _finding(plain: Outcome, runner: CellRunner, factors: NDArray[np.float64]) -> Finding | None:
    """The finding of the row whose gradient differs most from its multiple, if by too much."""
    prepared, reduced = plain.prepared, plain.prepared.loss.reduction is not None
    above = tuple(factors[: 1 if reduced else None].tolist())
    step = ready(runner.cell, above).step
    given, name = (prepared.logits, prepared.fed), own_name(runner.cell)
    found = run_path(step, *given, name=name)[1]
    check_gradient(found, prepared.logits, name)
    gradient = found.astype(np.float64).reshape(prepared.rows.shape)
    conditions = prepared.conditions
    expected = plain.observed.gradient.astype(np.float64) * factors[:, None]
    with np.errstate(invalid="ignore"):
        apart = np.abs(gradient - expected).max(axis=1)
    units = conditions.format.unit_roundoff * conditions.scale * np.abs(factors)
    errors = np.where(np.isnan(apart), np.inf, apart) / units
    row = int(errors.argmax())
    if not errors[row] > 2 * plain.measurement.bound:
        return None
    exact = factors[row] * prepared.reference.gradient[row]
    return replace(
        plain.finding(UPSTREAM_IGNORED, DEFECT, row),
        observed_gradient=tuple(gradient[row].tolist()),
        exact_gradient=tuple(exact.tolist()),
        mixed_error=float(errors[row]),
        ulp_error=float(ulp_errors(gradient[row], exact, conditions.format).max()),
        batch_rows=len(factors),
        repeated=True,
        upstream=above,
    )
