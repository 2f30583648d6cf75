"""Shrinking what a reduced loss shows: to copies of one row, as few as show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.shrinking.probe import SpentError
from lossfuzz.shrinking.rows import Row, row_of
from lossfuzz.shrinking.selections import rows_of_classes
from lossfuzz.shrinking.simplifications import simpler_rows
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.shrinking.probe import Probe

_COPIES = (1, 2, 8, 64, 512, 4096)
_SIZES = (2, 3)
_TRIED_ROWS = 3
_TRIED_SELECTIONS = 3
_TRIED_STEPS = 6


def shrunk_to_copies(finding: Finding, cell: Cell, probe: Probe) -> Finding:
    """The finding on a batch of copies of a simple row; itself if no copies show it.

    Every candidate takes a call of its own, since the loss is the whole batch's. Besides the
    finding's own row, those of its batch with the largest losses are tried.
    """
    best: Finding | None = None
    try:
        best = _first_copies(finding, cell, probe)
        while best is not None:
            better = _simpler(best, cell, probe)
            if better is None:
                break
            best = better
    except SpentError:
        pass
    return best or finding


def _first_copies(finding: Finding, cell: Cell, probe: Probe) -> Finding | None:
    """Copies of a row that show it: as many as the batch has, and then as few as do.

    A row that shows it in fewer copies alone is looked for last.
    """
    rows = list(_rows(finding, cell))
    most = max(finding.batch_rows, 1)
    fewer = [count for count in _COPIES if count < most]
    for row in (one for size in (*_SIZES, None) for one in _firsts(rows, size, cell)):
        found = probe.record(row, most)
        if found is not None:
            less = (probe.record(row, count) for count in fewer)
            return next((one for one in less if one is not None), found)
    for copies in fewer:
        for size in (*_SIZES, None):
            for row in rows:
                for one in _of_size(row, size, cell):
                    found = probe.record(one, copies)
                    if found is not None:
                        return found
    return None


def _firsts(rows: Sequence[Row], size: int | None, cell: Cell) -> Iterator[Row]:
    """Of each row the simplest of its rows of so many classes."""
    for row in rows:
        yield from _of_size(row, size, cell)[:1]


def _rows(finding: Finding, cell: Cell) -> Iterator[Row]:
    """The finding's own row, then those of its batch with the largest losses."""
    yield row_of(finding)
    try:
        recipe = Recipe.from_json(finding.recipe)
    except (TypeError, ValueError, KeyError):
        return  # rows that no recipe made
    batch = expand(recipe)
    prepared = prepare(batch.logits, batch.labels, finding.recipe, cell.path.loss)
    losses = prepared.row_reference.loss
    for row in np.argsort(-losses, kind="stable")[:_TRIED_ROWS]:
        yield Row(
            logits=tuple(prepared.rows[row].astype(np.float64).tolist()),
            weights=tuple(prepared.targets.weights[row].tolist()),
            label=int(prepared.row_labels[row]),
        )


def _of_size(row: Row, size: int | None, cell: Cell) -> Sequence[Row]:
    if size is None or size >= row.classes:
        return [row] if size is None or size == row.classes else []
    return _spread(rows_of_classes(row, size, cell.path.loss, cell.format), _TRIED_SELECTIONS)


def _simpler(best: Finding, cell: Cell, probe: Probe) -> Finding | None:
    """The next simpler copies: of a few candidates, from the simplest on."""
    row, loss = row_of(best), cell.path.loss
    fewer = [
        one
        for size in _SIZES
        if size < row.classes
        for one in _spread(rows_of_classes(row, size, loss, cell.format), _TRIED_SELECTIONS)
    ]
    for one in (*fewer, *_spread(simpler_rows(row, loss, cell.format), _TRIED_STEPS)):
        found = probe.record(one, best.batch_rows)
        if found is not None:
            return found
    return None


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    """So many of a sorted list, evenly from its first on."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return [rows[k] for k in dict.fromkeys(places.tolist())]
