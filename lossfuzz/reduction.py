"""Making findings small: fewer classes and simpler numbers that still show the same kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness import findings as kinds
from lossfuzz.harness.execution import CellRunner, UnavailableError
from lossfuzz.harness.findings import DEFECT, Finding
from lossfuzz.harness.outcome import outcome_of, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.formats import FloatFormat

_SHOWS = {kinds.SATURATION: (kinds.SATURATION, kinds.INACCURATE_LOSS)}
"""Kinds that a single row cannot show, and what it shows instead."""

_SIZES = (2, 3)


def reduced(finding: Finding, cell: Cell) -> Finding:
    """The same kind of finding on a row of two or three classes, if there is one; else itself.

    A mode disagreement is left as it is, for it needs the other modes; so is a refusal.
    """
    if finding.kind in (kinds.MODE_DISAGREEMENT, kinds.REFUSAL):
        return finding
    for size in _SIZES:
        candidates = list(_candidates(finding, cell.format, size))
        if candidates:
            smaller = _first_that_shows(finding, cell, np.stack(candidates))
            if smaller is not None:
                return smaller
    return finding


def _candidates(finding: Finding, fmt: FloatFormat, size: int) -> Iterator[NDArray[Any]]:
    """Rows of so many classes with the label first, simplest first."""
    row = np.array(finding.logits)
    if len(row) < size:
        return
    others = np.delete(row, finding.label)
    finite = np.sort(others[np.isfinite(others)])[::-1]
    for chosen in (finite[: size - 1], finite[::-1][: size - 1]):
        if len(chosen) == size - 1:
            kept = np.concatenate([[row[finding.label]], chosen])
            lead = kept - kept.min()
            yield fmt.cast(np.round(lead))
            yield fmt.cast(lead)
            yield fmt.cast(np.round(kept))
            yield fmt.cast(kept)


def _first_that_shows(finding: Finding, cell: Cell, rows: NDArray[Any]) -> Finding | None:
    prepared = prepare(rows, np.zeros(len(rows), np.int32), finding.recipe)
    try:
        outcome = outcome_of(CellRunner(cell), prepared)
    except UnavailableError:
        return None
    measured = outcome.measurement
    flags = measured.defects if finding.tier == DEFECT else measured.inaccuracies
    shown = [flags[kind] for kind in _SHOWS.get(finding.kind, (finding.kind,)) if kind in flags]
    showing = np.flatnonzero(np.logical_or.reduce(shown))
    if not showing.size:
        return None
    smaller = outcome.finding(finding.kind, finding.tier, int(showing[0]))
    return replace(smaller, row=finding.row)
