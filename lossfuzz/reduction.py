"""Making findings small: fewer classes and simpler numbers that still show the same kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness import findings as kinds
from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.findings import DEFECT, Finding
from lossfuzz.harness.losses.targets import Targets
from lossfuzz.harness.outcome import outcome_of
from lossfuzz.harness.prepared import Prepared, prepare_targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.execution import Runner

_SHOWS = {kinds.SATURATION: (kinds.SATURATION, kinds.INACCURATE_LOSS)}
"""Kinds that a single row cannot show, and what it shows instead."""

_SIZES = (1, 2, 3)
_COPIES = (1, 2, 8, 64, 512, 4096)
"""Rows of a reduced loss's batch, all of them the same."""


def reduced(finding: Finding, runner: Runner) -> Finding:
    """The same kind of finding on a row of one to three classes, if there is one; else itself.

    A mode disagreement is left as it is, for it needs the other modes; so is a refusal. Of a
    reduced loss the batch is made of copies of one row, as few as show it.

    Args:
        finding: of a cell.
        runner: of that cell, to try smaller rows on.
    """
    if finding.kind in (kinds.MODE_DISAGREEMENT, kinds.REFUSAL):
        return finding
    if runner.cell.path.loss.reduction is not None:
        return _of_copies(finding, runner)
    for size in _SIZES:
        candidates = list(_candidates(finding, runner.cell, size))
        if candidates:
            smaller = _first_that_shows(finding, runner, candidates)
            if smaller is not None:
                return smaller
    return finding


def _of_copies(finding: Finding, runner: Runner) -> Finding:
    whole = (runner.cell.format.cast(finding.logits), _weights(finding))
    for copies in _COPIES:
        if copies > max(finding.batch_rows, 1):
            break
        for size in (2, 3, None):
            rows = [whole] if size is None else list(_candidates(finding, runner.cell, size))
            for row in rows:
                smaller = _first_that_shows(finding, runner, [row] * copies)
                if smaller is not None:
                    return replace(smaller, repeated=True)
    return finding


def _weights(finding: Finding) -> NDArray[np.float64]:
    if finding.target:
        return np.array(finding.target)
    return np.asarray(np.eye(len(finding.logits))[finding.label])


def _candidates(
    finding: Finding, cell: Cell, size: int
) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """Rows of so many classes with the label first, simplest first, and their targets.

    What a distribution gave to a class that is left out goes to the label.
    """
    row, weights = np.array(finding.logits), _weights(finding)
    if len(row) < size or (size == 1 and cell.path.loss.masks):
        return
    others = np.delete(np.arange(len(row)), finding.label)
    finite = others[np.isfinite(row[others])]
    ranked = finite[np.argsort(-row[finite], kind="stable")]
    for chosen in (ranked[: size - 1], ranked[::-1][: size - 1], others[: size - 1]):
        if len(chosen) != size - 1:
            continue
        columns = np.concatenate([[finding.label], chosen]).astype(np.intp)
        kept, targets = row[columns], weights[columns].copy()
        if cell.path.loss.masks and weights.sum() == 1:
            targets[0] += 1 - targets.sum()
        shifts = (kept[np.isfinite(kept)].min(), 0.0) if cell.path.loss.masks else (0.0,)
        for shift in shifts:
            yield cell.format.cast(np.round(kept - shift)), targets
            yield cell.format.cast(kept - shift), targets


def _first_that_shows(
    finding: Finding,
    runner: Runner,
    candidates: list[tuple[NDArray[Any], NDArray[np.float64]]],
) -> Finding | None:
    try:
        prepared = _prepared(finding, runner, candidates)
        outcome = outcome_of(runner, prepared)
    except UnavailableError:
        return None
    measured = outcome.measurement
    flags = measured.defects if finding.tier == DEFECT else measured.inaccuracies
    shown = [flags[kind] for kind in _SHOWS.get(finding.kind, (finding.kind,)) if kind in flags]
    showing = np.flatnonzero(np.logical_or.reduce(shown))
    if not showing.size:
        return None
    smaller = outcome.finding(finding.kind, finding.tier, int(showing[0]))
    return smaller if runner.cell.path.loss.reduction else replace(smaller, row=finding.row)


def _prepared(
    finding: Finding,
    runner: Runner,
    candidates: list[tuple[NDArray[Any], NDArray[np.float64]]],
) -> Prepared:
    loss = runner.cell.path.loss
    rows = np.stack([row for row, _ in candidates])
    weights = np.stack([target for _, target in candidates])
    targets = Targets(
        kind=loss.target,
        weights=weights,
        labels=weights.argmax(axis=1).astype(np.int64),
        masked=np.isneginf(rows.astype(np.float64)),
    )
    return prepare_targets(rows, targets, finding.recipe, loss)
