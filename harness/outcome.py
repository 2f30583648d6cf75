"""What one cell did on one batch, with all that is needed to report on any of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.findings import DEFECT, INACCURACY, REFUSAL, Finding
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.measure import Measurement, measure
from lossfuzz.harness.rounding import Rounding, rounding_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.execution import Observed, Runner
    from lossfuzz.harness.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A cell's results for a batch, and what they measure.

    Attributes:
        runner: of the cell.
        prepared: the batch.
        observed: what the cell returned.
        measurement: its errors and flags.
        rounding: its errors against the documented formula; None where that is the loss.
    """

    runner: Runner
    prepared: Prepared
    observed: Observed
    measurement: Measurement
    rounding: Rounding | None

    def worst_rows(self) -> Iterator[tuple[str, str, int, float]]:
        """For every kind and tier that the batch shows: its worst row, and that row's mixed error.

        The worst defect has the largest mixed error, the worst inaccuracy the largest ULP error;
        what a path documents is less bad than what it does not.
        """
        measured = self.measurement
        mixed = np.maximum(measured.loss_mixed, measured.gradient_mixed)
        strict = np.maximum(measured.loss_ulp, measured.gradient_ulp)
        designed = self.rounding.by_design if self.rounding else np.zeros(len(mixed), np.bool_)
        for tier, flags, errors in (
            (DEFECT, measured.defects, mixed),
            (INACCURACY, measured.inaccuracies, strict),
        ):
            for kind, flagged in flags.items():
                rows = np.flatnonzero(flagged & ~designed)
                if not rows.size:
                    rows = np.flatnonzero(flagged)
                if rows.size:
                    row = int(rows[errors[rows].argmax()])
                    yield kind, tier, row, float(mixed[row])

    def finding(self, kind: str, tier: str, row: int) -> Finding:
        """The record of one row."""
        prepared, measured, observed = self.prepared, self.measurement, self.observed
        rounding = self.rounding
        exact = _at(prepared.reference.loss, row)
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
            ulp_error=max(_at(measured.loss_ulp, row), _at(measured.gradient_ulp, row)),
            mixed_error=max(_at(measured.loss_mixed, row), _at(measured.gradient_mixed, row)),
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
    """The record of a refused batch: of a row that is refused alone, if there is one."""
    row = 0 if prepared.loss.reduction else _refused_row(runner, prepared)
    exact = _at(prepared.reference.loss, row)
    return Finding(
        **origin_of(runner.cell, prepared, row),
        kind=REFUSAL,
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
    return Outcome(
        runner=runner,
        prepared=prepared,
        observed=observed,
        measurement=measurement,
        rounding=None
        if documented is runner.cell.path.loss
        else rounding_of(observed.loss, observed.gradient, documented, prepared),
    )


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.astype(np.float64).tolist())


def _at(values: NDArray[Any], row: int) -> float:
    """A row's value; of a reduced loss the only one."""
    return float(values[row if len(values) > 1 else 0])
