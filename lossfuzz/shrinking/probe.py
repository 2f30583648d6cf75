"""Asking a cell which rows show what a finding shows: many rows in each call of TensorFlow."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.measuring.growth import Growth, growth_of
from lossfuzz.harness.measuring.measure import disagreements
from lossfuzz.harness.measuring.outcome import outcome_of, refusal_of
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.running.execution import UnavailableError
from lossfuzz.harness.running.trial import Trial
from lossfuzz.shrinking.rows import batch_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.measure import Measurement
    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import Runner
    from lossfuzz.shrinking.rows import Row

_KEPT = 0.1
"""The share of the first row's error that a simpler row of a defect has to keep."""

_BATCH_ROWS = ((4, 128), (1024, 32), (4096, 8))
"""Up to so many classes, rows of every batch; so graph and XLA see one shape per class count."""

_ALONE = 12
"""Rows that are tried of a list where each needs a call of its own."""


class SpentError(Exception):
    """The calls of TensorFlow that a finding is worth are spent."""


def batch_rows(classes: int) -> int:
    """Rows of every batch of so many classes."""
    return next((rows for limit, rows in _BATCH_ROWS if classes <= limit), 2)


class Probe:
    """Runs rows through the finding's cell, and says which show its kind in its tier.

    Attributes:
        calls: how often the cell may still be run.
        alone: whether every row is run by itself, in a batch of its copies.
        least: the smallest mixed error with which a row counts, in units of u.
    """

    def __init__(
        self,
        finding: Finding,
        runner: Runner,
        others: Mapping[str, Runner],
        calls: int,
        deadline: float = math.inf,
    ) -> None:
        self._finding, self._runner = finding, runner
        self._others = {mode: one for mode, one in others.items() if mode != runner.cell.mode}
        self.calls, self._deadline = calls, deadline
        self.alone = False
        self.least = 0.0
        self._growth: Growth | None = None
        self._trial = Trial(runner)

    def keep_error_of(self, row: Row) -> bool:
        """Let only rows count that keep a share of a row's error; returns whether it shows itself.

        So shrinking does not end with the tamest row that is still beyond the bound.
        """
        size = self.rows_for(row.classes)
        if self._finding.kind == kinds.REFUSAL or not size:
            return True
        outcome = self._outcome(self._batch([row], size))
        if outcome is None:
            return False
        shown = self.flags(outcome)
        if self._finding.tier == DEFECT and shown.any():
            self.least = _KEPT * float(self._errors(outcome.measurement)[shown].max())
        return bool(shown.any())

    def _errors(self, measured: Measurement) -> NDArray[np.float64]:
        """The errors that the finding's kind is about; 0 where that is what is not finite."""
        if self._finding.kind in (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT):
            return np.zeros(len(measured.judged))
        return measured.mixed_errors(self._finding.kind)

    def rows_for(self, classes: int) -> int:
        """Rows of batches of so many classes; 0 if loss or formula takes none of that size.

        A user's loss may take one number of classes only, or of rows; what it refuses at another
        one is no finding.
        """
        size = batch_rows(classes)
        if not self._runner.cell.path.own:
            return size
        whole = math.prod(self._finding.recipe.get("shape", (size,))[:-1])
        return next((rows for rows in (size, whole) if self._trial.takes((rows, classes))), 0)

    def first(self, rows: Sequence[Row]) -> Row | None:
        """The first of some rows that shows it; None if none does.

        Args:
            rows: of equally many classes.

        Raises:
            SpentError: no call is left.
        """
        if not rows:
            return None
        if not self.rows_for(rows[0].classes):
            return None
        if self.alone:
            return next((row for row in rows[:_ALONE] if self.record(row) is not None), None)
        size = self.rows_for(rows[0].classes)
        for start in range(0, len(rows), size):
            part = list(rows[start : start + size])
            showing = self.showing(self._batch(part, size))
            if showing is None:
                found = self._first_beside_refusals(part, size)
                if found is not None:
                    return found
            elif showing.any():
                return part[int(np.flatnonzero(showing)[0]) % len(part)]
        return None

    def last(self, row: Row) -> Finding | None:
        """The record of the row that shrinking ends with, whatever time it is."""
        self._deadline = math.inf
        return self.record(row)

    def record(self, row: Row, copies: int | None = None) -> Finding | None:
        """The finding of a row that shows it alone, in a batch of copies; else None."""
        reduced = self._runner.cell.path.loss.reduction is not None
        size = self.rows_for(row.classes) if copies is None else copies
        own = self._runner.cell.path.own
        if not size or (own and not self._trial.takes((size, row.classes))):
            return None
        prepared = self._batch([row], size)
        if self._finding.kind == kinds.REFUSAL:
            message = self._refusal(prepared)
            if message is None:
                return None
            kept = prepared if reduced else self._batch([row], 1)
            found = refusal_of(self._runner, kept, UnavailableError(message))
        else:
            outcome = self._outcome(prepared)
            flags = None if outcome is None else self.flags(outcome)
            if outcome is None or flags is None or not flags.any():
                return None
            at = int(np.flatnonzero(flags)[0])
            found = outcome.finding(self._finding.kind, self._finding.tier, at)
            found = self.with_growth(found, at)
        if reduced:
            return replace(found, repeated=True, recipe=self._finding.recipe)
        return replace(found, row=self._finding.row, recipe=self._finding.recipe)

    def with_growth(self, found: Finding, row: int) -> Finding:
        """The record of a row of the last outcome, with the row that shows a saturation."""
        if self._growth is None:
            return found
        return replace(
            found,
            further=tuple(self._growth.logits[row].tolist()),
            further_exact_loss=float(self._growth.exact_loss[row]),
        )

    def showing(self, prepared: Prepared) -> NDArray[np.bool_] | None:
        """Which rows of a batch show it; None if the cell refuses the batch, whatever it shows."""
        if self._finding.kind == kinds.REFUSAL:
            none = np.zeros(len(prepared.rows), np.bool_)
            return none if self._refusal(prepared) is None else None
        outcome = self._outcome(prepared)
        return None if outcome is None else self.flags(outcome)

    def _batch(self, rows: Sequence[Row], size: int) -> Prepared:
        """The rows, repeated until the batch is full."""
        filled = [rows[k % len(rows)] for k in range(size)]
        cell = self._runner.cell
        return batch_of(filled, cell.path.loss, cell.format, self._finding.recipe)

    def _spend(self) -> None:
        if self.calls <= 0 or time.perf_counter() > self._deadline:
            raise SpentError
        self.calls -= 1

    def _outcome(self, prepared: Prepared) -> Outcome | None:
        self._spend()
        try:
            return outcome_of(self._runner, prepared)
        except UnavailableError:
            return None

    def flags(self, outcome: Outcome) -> NDArray[np.bool_]:
        """Which rows of an outcome show it."""
        finding, measured = self._finding, outcome.measurement
        if finding.kind == kinds.MODE_DISAGREEMENT:
            showing = self._disagreeing(outcome)
        elif finding.kind == kinds.SATURATION:
            showing = self._stopped(outcome)
        else:
            flags = measured.defects if finding.tier == DEFECT else measured.inaccuracies
            showing = flags.get(finding.kind, np.zeros(len(measured.judged), np.bool_))
        showing = showing & (self._errors(measured) >= self.least)
        designed = outcome.rounding.by_design if outcome.rounding else np.False_
        return np.asarray(showing & (designed == finding.by_design))

    def _stopped(self, outcome: Outcome) -> NDArray[np.bool_]:
        """Rows whose loss stops growing, which takes another run with rows further on."""
        defects = outcome.measurement.defects
        low = defects[kinds.SATURATION] | defects[kinds.INACCURATE_LOSS]
        self._growth = None
        if not low.any():
            return low
        self._spend()
        try:
            self._growth = growth_of(self._runner, outcome)
        except UnavailableError:
            return np.zeros_like(low)
        return low & self._growth.stopped

    def _disagreeing(self, outcome: Outcome) -> NDArray[np.bool_]:
        mode = self._runner.cell.mode
        measured = {mode: outcome.measurement}
        for other, runner in self._others.items():
            try:
                measured[other] = outcome_of(runner, outcome.prepared).measurement
            except UnavailableError:
                continue  # as in a run: it is compared with those that answer
        return disagreements(measured)[mode]

    def _refusal(self, prepared: Prepared) -> str | None:
        """What the cell says when it refuses a batch as it refused the finding's."""
        self._spend()
        try:
            self._runner.run(prepared.logits, prepared.fed)
        except UnavailableError as error:
            said = str(error)
            return said if _raised(said) == _raised(self._finding.message) else None
        return None

    def _first_beside_refusals(self, rows: Sequence[Row], size: int) -> Row | None:
        """The first row that shows it where some row has the whole batch refused.

        Of a refusal that is the row at which batches of the first rows begin to be refused.
        """
        if self._finding.kind != kinds.REFUSAL:
            return next((row for row in rows[:_ALONE] if self.record(row) is not None), None)
        passing, refused = 0, len(rows)
        while refused - passing > 1:
            middle = (passing + refused) // 2
            if self._refusal(self._batch(rows[:middle], size)) is None:
                passing = middle
            else:
                refused = middle
        row = rows[refused - 1]
        return row if self.record(row) is not None else None


def _raised(message: str) -> str:
    """The name of the exception that a refusal's message begins with."""
    return message.partition(":")[0]
