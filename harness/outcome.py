"""What one cell did on one batch, with all that is needed to report on any of its rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.conditions import Conditions, conditions_of
from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.findings import DEFECT, INACCURACY, REFUSAL, Finding
from lossfuzz.harness.formats import BINARY32, format_of
from lossfuzz.harness.measure import Measurement, measure
from lossfuzz.harness.reference.judge import Reference, reference_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.execution import CellRunner, Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch with its exact values, shared by all cells that run it.

    Attributes:
        logits: shape ``[..., classes]``.
        labels: shape ``[...]``.
        reference: of its rows.
        conditions: of its rows.
        recipe: where the batch came from, as JSON's types.
    """

    logits: NDArray[Any]
    labels: NDArray[np.int32]
    reference: Reference
    conditions: Conditions
    recipe: dict[str, Any]

    @property
    def rows(self) -> NDArray[Any]:
        """The logits as ``[rows, classes]``."""
        return self.logits.reshape(-1, self.logits.shape[-1])

    @property
    def row_labels(self) -> NDArray[np.int32]:
        """The labels as ``[rows]``."""
        return self.labels.reshape(-1)


def prepare(logits: NDArray[Any], labels: NDArray[np.int32], recipe: dict[str, Any]) -> Prepared:
    """Compute a batch's exact values, decided for losses in the logits' format and in binary32."""
    rows, row_labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    formats = tuple(dict.fromkeys((format_of(logits), BINARY32)))
    reference = reference_of(rows, row_labels, formats)
    return Prepared(
        logits=logits,
        labels=labels,
        reference=reference,
        conditions=conditions_of(rows, row_labels, reference),
        recipe=recipe,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A cell's results for a batch, and what they measure.

    Attributes:
        runner: of the cell.
        prepared: the batch.
        observed: what the cell returned.
        measurement: its errors and flags.
    """

    runner: CellRunner
    prepared: Prepared
    observed: Observed
    measurement: Measurement

    def worst_rows(self) -> Iterator[tuple[str, str, int, float]]:
        """For every kind and tier that the batch shows: its worst row, and that row's mixed error.

        The worst defect has the largest mixed error, the worst inaccuracy the largest ULP error.
        """
        measured = self.measurement
        mixed = np.maximum(measured.loss_mixed, measured.gradient_mixed)
        strict = np.maximum(measured.loss_ulp, measured.gradient_ulp)
        for tier, flags, errors in (
            (DEFECT, measured.defects, mixed),
            (INACCURACY, measured.inaccuracies, strict),
        ):
            for kind, flagged in flags.items():
                rows = np.flatnonzero(flagged)
                if rows.size:
                    row = int(rows[errors[rows].argmax()])
                    yield kind, tier, row, float(mixed[row])

    def finding(self, kind: str, tier: str, row: int) -> Finding:
        """The record of one row."""
        prepared, measured, observed = self.prepared, self.measurement, self.observed
        cell, reference = self.runner.cell, prepared.reference
        return Finding(
            kind=kind,
            tier=tier,
            path=cell.path.name,
            format=cell.format.dtype_name,
            mode=cell.mode,
            device=cell.device,
            logits=_floats(prepared.rows[row]),
            label=int(prepared.row_labels[row]),
            loss_dtype=observed.loss.dtype.name,
            observed_loss=float(observed.loss[row]),
            exact_loss=float(reference.loss[row]),
            observed_gradient=_floats(observed.gradient[row]),
            exact_gradient=_floats(reference.gradient[row]),
            ulp_error=float(max(measured.loss_ulp[row], measured.gradient_ulp[row])),
            mixed_error=float(max(measured.loss_mixed[row], measured.gradient_mixed[row])),
            bound=float(measured.bound),
            margin=float(prepared.conditions.margin[row]),
            recipe=prepared.recipe,
            row=row,
        )


def refusal_of(runner: CellRunner, prepared: Prepared, error: Exception) -> Finding:
    """The record of a refused batch: of a row that is refused alone, if there is one."""
    row = _refused_row(runner, prepared)
    cell, reference = runner.cell, prepared.reference
    nothing = (math.nan,) * prepared.rows.shape[1]
    return Finding(
        kind=REFUSAL,
        tier=DEFECT,
        path=cell.path.name,
        format=cell.format.dtype_name,
        mode=cell.mode,
        device=cell.device,
        logits=_floats(prepared.rows[row]),
        label=int(prepared.row_labels[row]),
        loss_dtype="",
        observed_loss=math.nan,
        exact_loss=float(reference.loss[row]),
        observed_gradient=nothing,
        exact_gradient=_floats(reference.gradient[row]),
        ulp_error=math.inf,
        mixed_error=math.inf,
        bound=math.nan,
        margin=float(prepared.conditions.margin[row]),
        recipe=prepared.recipe,
        row=row,
        message=str(error),
    )


def _refused_row(runner: CellRunner, prepared: Prepared) -> int:
    """By halving; the first row of what is refused only together."""
    rows, labels = prepared.rows, prepared.row_labels
    start, stop = 0, len(rows)
    while stop - start > 1:
        middle = (start + stop) // 2
        for half in ((start, middle), (middle, stop)):
            try:
                runner.run(rows[half[0] : half[1]], labels[half[0] : half[1]])
            except UnavailableError:
                start, stop = half
                break
        else:
            return start
    return start


def outcome_of(runner: CellRunner, prepared: Prepared) -> Outcome:
    """Run a cell on a batch and measure it.

    Raises:
        UnavailableError: the path refused.
    """
    observed = runner.run(prepared.logits, prepared.labels)
    return Outcome(
        runner=runner,
        prepared=prepared,
        observed=observed,
        measurement=measure(
            observed.loss,
            observed.gradient,
            prepared.reference,
            prepared.row_labels,
            prepared.conditions,
        ),
    )


def _floats(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.astype(np.float64).tolist())
