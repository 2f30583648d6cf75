"""Run before you print: a finding is shown with a script that was run and shows it.

A row that was made small, or found, in a batch may need that batch. Then the simplest of these is
shown: the row alone, copies of it, a few different rows, all rows of its recipe's batch.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.audit import with_right_values
from lossfuzz.executed import Ran, executed
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.paths.own import leave_unquoted
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.results import kinds
from lossfuzz.harness.running.execution import Observed, UnavailableError
from lossfuzz.reports.loss_source import loss_source
from lossfuzz.reports.snippet_inputs import is_long
from lossfuzz.shrinking import shrunk
from lossfuzz.shrinking.company import CALLS, whole_batch, with_company
from lossfuzz.shrinking.probe import Probe, batch_rows
from lossfuzz.shrinking.rows import batch_of, row_fed, row_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import Runner

_UNLIMITED = 1 << 30
_COPIES = (2, 4, 8, 32)


def made_small(
    finding: Finding,
    runner: Runner,
    *,
    others: Mapping[str, Runner] = {},
    deadline: float = math.inf,
) -> Finding:
    """A finding on the simplest rows that show it, with the values that its own script gives.

    Args:
        finding: of a cell.
        runner: of that cell.
        others: mode to the runner of the same path in another mode.
        deadline: of `time.perf_counter`; from then on nothing simpler is looked for.

    Returns:
        The finding; `Finding.unconfirmed` where no script of it shows it.
    """
    small = shrunk(finding, runner, others=others, deadline=deadline)
    ends = finding.kind in (kinds.CRASH, kinds.TIMEOUT)
    if ends or not finding.logits or not _has_script(finding):
        return small
    confirming = _Confirming(finding, runner, others, deadline)
    for candidate in confirming.candidates(small):
        found = confirming.confirmed(candidate)
        if found is not None:
            return found
    return replace(finding, unconfirmed=True)


def prepared_as_shown(finding: Finding, cell: Cell) -> Prepared | None:
    """The batch that a finding's script builds; None if its recipe does not give it."""
    loss, fmt = cell.path.loss, cell.format
    if finding.batch is not None:
        pairs = zip(finding.batch.logits, finding.batch.targets, strict=True)
        rows = [row_fed(logits, fed, loss) for logits, fed in pairs]
        return batch_of(rows, loss, fmt, finding.recipe, finding.batch.shape)
    if finding.batch_rows > 1 and not finding.repeated:
        return whole_batch(finding, cell)
    return batch_of([row_of(finding)] * finding.batch_rows, loss, fmt, finding.recipe)


class _Confirming:
    """The state of confirming one finding."""

    def __init__(
        self, finding: Finding, runner: Runner, others: Mapping[str, Runner], deadline: float
    ) -> None:
        self._finding, self._runner, self._others = finding, runner, others
        self._deadline = deadline

    def candidates(self, small: Finding) -> Iterator[Finding]:
        """What may be shown, the simplest first."""
        finding, loss = self._finding, self._runner.cell.path.loss
        rows = [small, *([finding] if small.logits != finding.logits else [])]
        if loss.reduction is not None:
            yield from (one for one in rows if one.repeated or one.batch_rows == 1)
        else:
            yield from (one for one in rows if not (is_long(one) and one is not finding))
        if self._runner.cell.path.trained:
            return
        if loss.reduction is None:
            yield from self._copies(rows)
        if time.perf_counter() < self._deadline:
            calls = CALLS[self._runner.cell.mode]
            probe = Probe(finding, self._runner, self._others, calls, self._deadline)
            company = with_company(finding, self._runner, probe)
            if company is not None and not is_long(company):
                yield company
        whole = whole_batch(finding, self._runner.cell)
        if whole is not None:
            yield replace(finding, batch_rows=len(whole.rows), repeated=False)

    def _copies(self, rows: list[Finding]) -> Iterator[Finding]:
        """Batches of copies, where the batch that shrinking tries rows in shows it."""
        for one in rows:
            most = batch_rows(len(one.logits))
            last = replace(one, batch_rows=most, repeated=True)
            if not is_long(one) and self._shows(last):
                for count in (*(count for count in _COPIES if count < most), most):
                    yield replace(one, batch_rows=count, repeated=True, row=0)

    def _shows(self, candidate: Finding) -> bool:
        prepared = prepared_as_shown(candidate, self._runner.cell)
        if prepared is None:
            return False
        showing = self._probe(candidate, _UNLIMITED).showing(prepared)
        return showing is not None and bool(showing.any())

    def _probe(self, candidate: Finding, calls: int) -> Probe:
        return Probe(candidate, self._runner, self._others, calls)

    def confirmed(self, candidate: Finding) -> Finding | None:
        """The candidate with what its script gave; None if that does not show it."""
        prepared = prepared_as_shown(candidate, self._runner.cell)
        if prepared is None:
            return None
        if candidate.kind == kinds.REFUSAL:
            return self._refused(candidate)
        try:
            ran = self._run(candidate, prepared)
            if candidate.kind == kinds.UPSTREAM_IGNORED:
                return _as_observed(candidate, ran)
            if ran.logits.tobytes() != prepared.logits.tobytes():
                return None
            outcome = outcome_of(self._runner, prepared, ran.observed)
        except UnavailableError:
            return None
        return self._measured(candidate, outcome)

    def _measured(self, candidate: Finding, outcome: Outcome) -> Finding | None:
        probe = self._probe(candidate, _UNLIMITED)
        showing = probe.flags(outcome)
        row = candidate.place
        if candidate.repeated and showing.any() and not showing[row % len(showing)]:
            row = int(np.flatnonzero(showing)[0])
        if row >= len(showing) or not showing[row]:
            return None
        found = outcome.finding(candidate.kind, candidate.tier, row)
        shown = replace(
            found,
            batch_rows=candidate.batch_rows,
            repeated=candidate.repeated,
            batch=candidate.batch,
            recipe=candidate.recipe,
            row=row if candidate.repeated and candidate.batch_rows > 1 else candidate.row,
        )
        return with_right_values(probe.with_growth(shown, row))

    def _run(self, candidate: Finding, prepared: Prepared) -> Ran:
        """Run a script; a source that gives other values than the loss itself is left out.

        Raises:
            UnavailableError: it raised.
        """
        if self._runner.cell.subject:  # another TensorFlow: the same call, made there
            return Ran(self._runner.run(prepared.logits, prepared.fed), prepared.logits)
        path = path_named(candidate.path)
        if not path.own or path.function is None or not loss_source(path).quoted:
            return executed(candidate, bound=path.own)
        itself = executed(candidate, bound=True)
        try:
            if _same(executed(candidate).observed, itself.observed):
                return itself
        except UnavailableError:
            pass
        leave_unquoted(path)
        return itself

    def _refused(self, candidate: Finding) -> Finding | None:
        if self._runner.cell.subject:
            return candidate
        path = path_named(candidate.path)
        try:
            executed(candidate)
        except UnavailableError as error:
            if _raised(str(error)) == _raised(candidate.message) or path.own:
                return candidate
        return None


def _as_observed(candidate: Finding, ran: Ran) -> Finding | None:
    """The finding of an upstream gradient that is ignored, if its script gives what it tells."""
    gradient = tuple(ran.observed.gradient[candidate.place].astype(np.float64).tolist())
    return with_right_values(candidate) if gradient == candidate.observed_gradient else None


def _has_script(finding: Finding) -> bool:
    """Whether its path is known by name, as it is not where it was made for a single run."""
    try:
        path_named(finding.path)
    except ValueError:
        return False
    return True


def _same(one: Observed, other: Observed) -> bool:
    return bool(
        one.loss.tobytes() == other.loss.tobytes()
        and one.gradient.tobytes() == other.gradient.tobytes()
    )


def _raised(message: str) -> str:
    """The name of the exception that a refusal's message begins with."""
    return message.partition(":")[0]
