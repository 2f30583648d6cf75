"""Shrinking a finding: the simplest row, by `simplicity`, that still shows it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.harness.losses import targets
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.regions import region_of
from lossfuzz.shrinking.copies import shrunk_to_copies
from lossfuzz.shrinking.gathered import FEW_NUMBERS, LONG, gathered_rows
from lossfuzz.shrinking.library import library_batches
from lossfuzz.shrinking.probe import Probe, SpentError
from lossfuzz.shrinking.rows import row_of
from lossfuzz.shrinking.selections import rows_of_classes
from lossfuzz.shrinking.simplicity import simplicity
from lossfuzz.shrinking.simplifications import simpler_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import Runner
    from lossfuzz.shrinking.rows import Row

CALLS = 80
"""How often a cell may be run for one finding."""

WIDE_CALLS = 30
"""The same for a row of more than `_WIDE` classes, where each call takes tenths of a second."""

_WIDE = 4096

COPIES_CALLS = 40
"""The same where each row takes a call of its own."""

TRAINING_CALLS = 16
"""The same where each call builds and trains a model."""

_FEW = (1, 2, 3)
_ROUNDS = 24
_CLASS_COUNTS = {"eager": 8, "graph": 6, "xla": 4}
"""Class counts tried between three and the row's: each is traced or compiled anew."""


_AS_THEY_ARE = (kinds.CRASH, kinds.TIMEOUT, kinds.UPSTREAM_IGNORED)


def shrunk(
    finding: Finding,
    runner: Runner,
    *,
    others: Mapping[str, Runner] = {},
    deadline: float = math.inf,
) -> Finding:
    """The same kind of finding, in the same tier and cell, on the simplest row that shows it.

    Deterministic, for a cell that is and without a deadline. Of a defect's error the simpler row
    keeps a tenth. Left as they are: crashes and timeouts; an upstream gradient that is ignored,
    which was found on an ordinary row; a mode disagreement without the other modes; and what no
    single row shows without the rest of its batch. A saturation becomes an inaccurate loss if the
    row's own loss goes on growing.

    Args:
        finding: of a cell.
        runner: of that cell.
        others: mode to the runner of the same path in another mode.
        deadline: of `time.perf_counter`; from then on no more rows are tried.
    """
    if finding.kind in _AS_THEY_ARE or not finding.logits:
        return finding
    if finding.kind == kinds.MODE_DISAGREEMENT and not set(others) - {finding.mode}:
        return finding
    if runner.cell.path.loss.reduction is not None:
        calls = TRAINING_CALLS if runner.cell.path.trained else COPIES_CALLS
        probe = Probe(finding, runner, others, calls, deadline)
        return shrunk_to_copies(finding, runner.cell, probe)
    return _shrunk_row(finding, runner, others, deadline)


def _shrunk_row(
    finding: Finding, runner: Runner, others: Mapping[str, Runner], deadline: float
) -> Finding:
    """The same for a loss of each row."""
    calls = CALLS if len(finding.logits) <= _WIDE else WIDE_CALLS
    probe = Probe(finding, runner, others, calls, deadline)
    try:
        shows = probe.keep_error_of(row_of(finding))
    except SpentError:
        return finding
    if not shows and finding.kind == kinds.SATURATION:
        rounded = replace(finding, kind=kinds.INACCURATE_LOSS)
        return _shrunk_row(rounded, runner, others, deadline)
    for alone in (False, True):
        probe.alone = alone
        search = _Search(row_of(finding), runner, probe)
        search.run()
        if search.row is search.start and not shows:
            return finding
        probe.calls = max(probe.calls, 2)  # a saturation takes two
        smaller = probe.last(search.row)
        if smaller is not None:
            return smaller
        # it showed beside other rows only
        probe.calls = calls
    return finding


class _Search:
    """The state of shrinking one row."""

    def __init__(self, row: Row, runner: Runner, probe: Probe) -> None:
        self.start = self.row = row
        self._cell, self._probe = runner.cell, probe
        self._loss, self._format = runner.cell.path.loss, runner.cell.format

    def run(self) -> None:
        """Until nothing is simpler, or the calls are spent."""
        try:
            self._from_library()
            self._gather()
            while True:
                before = self.row
                self._fewer_classes()
                self._simpler_numbers()
                if self.row is before:
                    return
                self._from_library()
        except SpentError:
            return

    def _is_simpler(self, row: Row) -> bool:
        return simplicity(row, self._format) < simplicity(self.row, self._format)

    def _take(self, row: Row | None) -> bool:
        if row is None or not self._is_simpler(row):
            return False
        self.row = row
        return True

    def _from_library(self) -> None:
        """The first textbook row in the row's own region: elsewhere it may have another cause."""
        if self._probe.alone:
            return
        row, loss = self.row, self._loss
        region = region_of(row.logits, row.label, row.weights, loss, self._format)
        for classes in _counts(loss):
            if classes > row.classes:
                return
            size = self._probe.rows_for(classes)
            if not size:
                continue
            for rows, regions, prepared in library_batches(loss, self._format, classes, size):
                wanted = [place == region for place in regions]
                if not any(wanted) or not self._is_simpler(rows[wanted.index(True)]):
                    continue
                showing = self._probe.showing(prepared)
                found = zip(rows, wanted, showing if showing is not None else (), strict=False)
                if self._take(next((one for one, here, shows in found if here and shows), None)):
                    return

    def _gather(self) -> None:
        """Few different numbers in a long row, before its classes are counted."""
        row = self.row
        if row.classes > LONG and len(set(row.logits)) > FEW_NUMBERS:
            self._take(self._probe.first(gathered_rows(row, self._loss, self._format)))

    def _fewer_classes(self) -> None:
        """One to three at once, else by halving what is between three and those that there are."""
        start = self.row
        for classes in _counts(self._loss):
            if classes >= start.classes:
                return
            if self._take(self._first_of_classes(start, classes)):
                return
        too_few, enough = _FEW[-1], start.classes
        for _ in range(_CLASS_COUNTS[self._cell.mode]):
            if enough - too_few <= 1:
                return
            middle = max(too_few + 1, int((too_few * enough) ** 0.5))
            if self._take(self._first_of_classes(self.row, middle)):
                enough = middle
            else:
                too_few = middle

    def _first_of_classes(self, row: Row, classes: int) -> Row | None:
        return self._probe.first(rows_of_classes(row, classes, self._loss, self._format))

    def _simpler_numbers(self) -> None:
        for _ in range(_ROUNDS):
            candidates = simpler_rows(self.row, self._loss, self._format)
            if not self._take(self._probe.first(candidates)):
                return


def _counts(loss: LossSpec) -> Iterator[int]:
    """The class counts to try first: one only where a class can be alone.

    That is where each class is a question of its own, or where there is no target. A label or a
    distribution over a single class says nothing.
    """
    yield from _FEW[0 if loss.target in (*targets.BY_CLASS, targets.NONE) else 1 :]
