"""Shrinking what a row shows only beside other rows: to as few rows as do it, and simple ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.measuring.prepared import Prepared, prepare
from lossfuzz.harness.results.row_batch import RowBatch
from lossfuzz.shrinking.gathered import LONG
from lossfuzz.shrinking.probe import Probe, SpentError
from lossfuzz.shrinking.rows import batch_of, fed_of, rows_of
from lossfuzz.shrinking.selections import rows_of_classes
from lossfuzz.shrinking.simplifications import simpler_rows
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import Runner
    from lossfuzz.shrinking.rows import Row

CALLS = {"eager": 120, "graph": 40, "xla": 20}
"""How often a cell may be run for one batch, by mode: of others each size is compiled anew."""

_FEW = (1, 2, 3)
_MOST_PARTNERS = 12
_FEW_PARTNERS = 4
_MOST_STEPS = 8
_MOST_ROWS = 4096


def whole_batch(finding: Finding, cell: Cell) -> Prepared | None:
    """The batch that a row was found in; None if its recipe does not give it."""
    try:
        batch = expand(Recipe.from_json(finding.recipe))
    except (TypeError, ValueError, KeyError):
        return None  # rows that no recipe made
    loss, fmt = cell.path.loss, cell.format
    prepared = prepare(batch.logits, batch.labels, finding.recipe, loss, whole=not cell.path.own)
    rows = prepared.rows
    if not 0 <= finding.row < len(rows) or rows.dtype != fmt.dtype:
        return None
    same = tuple(rows[finding.row].astype(np.float64).tolist()) == finding.logits
    return prepared if same else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Company:
    """Rows in their order, the finding's among them."""

    rows: tuple[Row, ...]
    place: int
    shape: tuple[int, ...]

    def without(self, gone: set[int]) -> _Company:
        """Some rows left out, of a batch with one leading axis."""
        kept = [k for k in range(len(self.rows)) if k not in gone]
        return _of([self.rows[k] for k in kept], kept.index(self.place))


def _of(rows: Sequence[Row], place: int) -> _Company:
    return _Company(rows=tuple(rows), place=place, shape=(len(rows),))


def with_company(finding: Finding, runner: Runner, probe: Probe) -> Finding | None:
    """The finding with the rows that its own one needs beside it; None if none show it.

    Args:
        finding: as it was found, of a recipe's batch.
        runner: of its cell.
        probe: with the calls that it is worth.
    """
    whole = whole_batch(finding, runner.cell)
    if whole is None or len(whole.rows) > _MOST_ROWS:
        return None
    search = _Search(finding, runner, probe)
    start = _Company(
        rows=tuple(rows_of(whole)), place=finding.row, shape=tuple(whole.logits.shape[:-1])
    )
    best: _Company | None = None
    try:
        for one in _starts(start):
            if search.shows(one):
                best = one
                break
        if best is not None:
            best = search.smaller(best)
    except SpentError:
        best = search.best or best
    if best is None:
        return None
    loss = runner.cell.path.loss
    batch = RowBatch(
        logits=tuple(row.logits for row in best.rows),
        targets=tuple(fed_of(row, loss) for row in best.rows),
        shape=best.shape,
        row=best.place,
    )
    own = best.rows[best.place]
    return replace(
        finding,
        logits=own.logits,
        label=own.label,
        target=own.weights if finding.target else (),
        batch_rows=len(best.rows),
        batch=batch,
    )


def _starts(whole: _Company) -> Iterator[_Company]:
    """Batches to begin with: the whole one without its axes, with them; its row in as many."""
    yield _of(whole.rows, whole.place)
    if len(whole.shape) > 1:
        row = whole.rows[whole.place]
        ones = (1,) * len(whole.shape)
        yield _Company(rows=(row,), place=0, shape=ones)
        yield _Company(rows=(row, row), place=0, shape=(*ones[1:], 2))
        yield _Company(rows=(row, row), place=0, shape=(2, *ones[1:]))
        yield whole


class _Search:
    """The state of making one batch small."""

    def __init__(self, finding: Finding, runner: Runner, probe: Probe) -> None:
        self._finding, self._cell, self._probe = finding, runner.cell, probe
        self.best: _Company | None = None

    def shows(self, company: _Company) -> bool:
        """Whether the finding's row shows it in a batch; the last one that does is kept.

        Raises:
            SpentError: no call is left.
        """
        loss, fmt = self._cell.path.loss, self._cell.format
        try:
            prepared = batch_of(company.rows, loss, fmt, self._finding.recipe, company.shape)
        except FormulaError:
            return False  # the formula does not take as few classes
        showing = self._probe.showing(prepared)
        found = showing is not None and bool(showing[company.place])
        if found:
            self.best = company
        return found

    def smaller(self, company: _Company) -> _Company:
        """Fewer rows, then fewer different ones, fewer classes, and simpler numbers."""
        if len(company.shape) == 1:
            company = self._fewer_rows(company)
        if len(company.rows) > 2:
            company = self._alike(company)
        company = self._fewer_classes(company)
        for _ in range(_MOST_STEPS if company.rows[0].classes <= LONG else 1):
            simpler = self._simpler(company)
            if simpler is None:
                return company
            company = simpler
        return company

    def _fewer_rows(self, company: _Company) -> _Company:
        own = company.rows[company.place]
        for other in _partners(company):
            for pair, place in (([own, other], 0), ([other, own], 1)):
                found = _of(pair, place)
                if self.shows(found):
                    return found
        size = len(company.rows) // 2
        while size >= 1:
            start = 0
            while start < len(company.rows):
                gone = set(range(start, min(start + size, len(company.rows)))) - {company.place}
                fewer = company.without(gone) if gone else company
                if gone and self.shows(fewer):
                    company = fewer
                else:
                    start += size
            size //= 2
        return company

    def _alike(self, company: _Company) -> _Company:
        """All the others the same, which matters where their number does."""
        own = company.rows[company.place]
        for other in _partners(company)[:_FEW_PARTNERS]:
            rows = [other] * len(company.rows)
            rows[company.place] = own
            found = replace(company, rows=tuple(rows))
            if self.shows(found):
                return found
        return company

    def _fewer_classes(self, company: _Company) -> _Company:
        loss, fmt = self._cell.path.loss, self._cell.format
        for size in _FEW:
            if size >= company.rows[0].classes or (size == 1 and loss.masks):
                continue
            choices = [rows_of_classes(row, size, loss, fmt) for row in company.rows]
            for k in range(min(_MOST_PARTNERS, *map(len, choices))):
                rows = [some[k * len(some) // _MOST_PARTNERS] for some in choices]
                found = replace(company, rows=tuple(rows))
                if self.shows(found):
                    return found
        return company

    def _simpler(self, company: _Company) -> _Company | None:
        loss, fmt = self._cell.path.loss, self._cell.format
        for place, row in enumerate(company.rows[:_MOST_STEPS]):
            candidates = simpler_rows(row, loss, fmt)
            for k in range(0, len(candidates), max(1, len(candidates) // _MOST_STEPS)):
                rows = (*company.rows[:place], candidates[k], *company.rows[place + 1 :])
                found = replace(company, rows=rows)
                if self.shows(found):
                    return found
        return None


def _partners(company: _Company) -> list[Row]:
    """Rows that may matter most to another one: those with the largest and smallest logits."""
    others = [row for k, row in enumerate(company.rows) if k != company.place]
    finite = [[one for one in row.logits if abs(one) < float("inf")] or [0.0] for row in others]
    order = sorted(range(len(others)), key=lambda k: max(finite[k]))
    lowest = sorted(range(len(others)), key=lambda k: min(finite[k]))
    picked = [*order[::-1][:4], *lowest[:4], *order[:2], *order[len(order) // 2 :][:2]]
    return [others[k] for k in dict.fromkeys(picked)][:_MOST_PARTNERS]
