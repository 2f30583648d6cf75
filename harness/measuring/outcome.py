"""What one cell did on one batch, with all that is needed to report on any of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formula.kinks import loss_at_a_kink
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.measuring.measure import Measurement, excused, measure
from lossfuzz.harness.measuring.rounding import Rounding, rounding_of
from lossfuzz.harness.measuring.sensitivity import explained_by_inputs
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import (
    DEFECT,
    INACCURACY,
    NON_FINITE_GRADIENT,
    NON_FINITE_LOSS,
    REFUSAL,
    TIMEOUT,
)
from lossfuzz.harness.running.execution import TimedOutError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.running.execution import Observed, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A cell's results for a batch, and what they measure.

    Attributes:
        runner: of the cell.
        prepared: the batch.
        observed: what the cell returned.
        measurement: its errors and flags.
        rounding: its errors against the documented formula; None where that is the loss.
        kinks: number to loss of rows on a kink of a user's formula, where the cell returned NaN.
    """

    runner: Runner
    prepared: Prepared
    observed: Observed
    measurement: Measurement
    rounding: Rounding | None
    kinks: dict[int, float] = field(default_factory=dict)

    def worst_rows(self) -> Iterator[tuple[str, str, int, float]]:
        """For every kind and tier that the batch shows: its worst row, and that row's mixed error.

        The worst defect has the largest mixed error, the worst inaccuracy the largest ULP error,
        of what the kind is about; what a path documents is less bad than what it does not.
        """
        measured = self.measurement
        none = np.zeros(len(measured.judged), np.bool_)
        designed = self.rounding.by_design if self.rounding else none
        for tier, flags in ((DEFECT, measured.defects), (INACCURACY, measured.inaccuracies)):
            for kind, flagged in flags.items():
                rows = np.flatnonzero(flagged & ~designed)
                if not rows.size:
                    rows = np.flatnonzero(flagged)
                if rows.size:
                    mixed = measured.mixed_errors(kind)
                    errors = mixed if tier == DEFECT else measured.ulp_errors(kind)
                    row = int(rows[errors[rows].argmax()])
                    yield kind, tier, row, float(mixed[row])

    def finding(self, kind: str, tier: str, row: int) -> Finding:
        """The record of one row."""
        prepared, measured, observed = self.prepared, self.measurement, self.observed
        rounding = self.rounding
        exact = self.kinks.get(row, _at(prepared.reference.loss, row))
        return Finding(
            **origin_of(self.runner.cell, prepared, row),
            kind=kind,
            tier=tier,
            loss_dtype=observed.loss.dtype.name,
            observed_loss=_at(observed.loss, row),
            exact_loss=exact,
            documented_loss=_at(rounding.documented_loss, row) if rounding else exact,
            by_design=bool(rounding.by_design[row]) if rounding else False,
            observed_gradient=_floats(observed.gradient[row]),
            exact_gradient=_floats(prepared.reference.gradient[row]),
            ulp_error=_at(measured.ulp_errors(kind), row),
            mixed_error=math.inf if row in self.kinks else _at(measured.mixed_errors(kind), row),
            bound=float(measured.bound),
        )


def origin_of(cell: Cell, prepared: Prepared, row: int) -> dict[str, Any]:
    """What a finding tells of its cell and row, whatever it found; fields of `Finding`."""
    dense = prepared.loss.target not in (kinds.INDEX, kinds.NONE)
    return {
        "loss": prepared.loss.name,
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
        "logits": _floats(prepared.rows[row]),
        "label": int(prepared.row_labels[row]),
        "target": _floats(prepared.targets.weights[row]) if dense else (),
        "batch_rows": len(prepared.rows) if prepared.loss.reduction else 1,
        "margin": float(prepared.conditions.margin[row]),
        "recipe": prepared.recipe,
        "row": row,
    }


def refusal_of(runner: Runner, prepared: Prepared, error: Exception) -> Finding:
    """The record of a refused batch: of a row that is refused alone, if there is one.

    Of one that took too long, which is not run again, no row is looked for: it is the batch's.
    """
    overdue = isinstance(error, TimedOutError)
    row = 0 if overdue or prepared.loss.reduction else _refused_row(runner, prepared)
    exact = _at(prepared.reference.loss, row)
    origin = origin_of(runner.cell, prepared, row)
    if overdue:
        origin["batch_rows"] = len(prepared.rows)
    return Finding(
        **origin,
        kind=TIMEOUT if overdue else REFUSAL,
        tier=DEFECT,
        loss_dtype="",
        observed_loss=math.nan,
        exact_loss=exact,
        documented_loss=exact,
        by_design=False,
        observed_gradient=(math.nan,) * prepared.rows.shape[1],
        exact_gradient=_floats(prepared.reference.gradient[row]),
        ulp_error=math.inf,
        mixed_error=math.inf,
        bound=math.nan,
        message=str(error),
    )


def _refused_row(runner: Runner, prepared: Prepared) -> int:
    """By halving; the first row of what is refused only together."""
    rows = prepared.rows
    fed = prepared.targets.fed(rows.shape, rows.dtype)
    start, stop = 0, len(rows)
    while stop - start > 1:
        middle = (start + stop) // 2
        for half in ((start, middle), (middle, stop)):
            try:
                runner.run(rows[half[0] : half[1]], fed[half[0] : half[1]])
            except UnavailableError:
                start, stop = half
                break
        else:
            return start
    return start


def outcome_of(runner: Runner, prepared: Prepared, observed: Observed | None = None) -> Outcome:
    """Run a cell on a batch, unless it was run already, and measure it.

    Raises:
        UnavailableError: the path refused.
    """
    if observed is None:
        observed = runner.run(prepared.logits, prepared.fed)
    documented = runner.documented
    measurement = measure(
        observed.loss,
        observed.gradient,
        prepared.reference,
        prepared.row_labels,
        prepared.conditions,
        users=runner.cell.path.own,  # the libraries' losses are held to every finite row
    )
    if runner.cell.path.own:
        measurement = excused(measurement, explained_by_inputs(measurement, observed, prepared))
    kinks = kinks_with_nan(observed, prepared)
    for row, loss in kinks.items():
        nan_loss = math.isnan(float(observed.loss[row]))
        kind = NON_FINITE_LOSS if nan_loss and math.isfinite(loss) else NON_FINITE_GRADIENT
        measurement.defects[kind][row] = True
    return Outcome(
        runner=runner,
        kinks=kinks,
        prepared=prepared,
        observed=observed,
        measurement=measurement,
        rounding=None
        if documented is runner.cell.path.loss
        else rounding_of(observed.loss, observed.gradient, documented, prepared),
    )


_MOST_KINKS = 4
"""Rows of a batch that are asked whether they lie on a kink, which takes some evaluations each."""


def kinks_with_nan(observed: Observed, prepared: Prepared) -> dict[int, float]:
    """Rows without a derivative for which a cell returned NaN though a number would be right.

    Returns:
        The number of the row to its exact loss; only of users' formulas, of each row.
    """
    loss = prepared.loss
    if loss.derived is None or loss.reduction is not None:
        return {}
    wide = prepared.rows.astype(np.float64)
    broken = np.isnan(observed.gradient.astype(np.float64)).any(axis=1)
    broken |= np.isnan(observed.loss.astype(np.float64))
    asked = np.flatnonzero(broken & ~prepared.reference.judged & np.isfinite(wide).all(axis=1))
    known = prepared.kinks  # the cells of a batch mostly break on the same rows
    found: dict[int, float] = {}
    for row in asked[:_MOST_KINKS].tolist():
        if row not in known:
            weights = prepared.targets.weights[row]
            known[row] = loss_at_a_kink(loss.derived, wide[row], weights)
        value = known[row]
        if value is not None:
            found[row] = value
    return found


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.astype(np.float64).tolist())


def _at(values: NDArray[Any], row: int) -> float:
    """A row's value; of a reduced loss the only one."""
    return float(values[row if len(values) > 1 else 0])
