"""Running one finding again: whether this machine's TensorFlow still shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import AuditError, audit_findings
from lossfuzz.harness.backend import BackendError, device_named, start_tensorflow
from lossfuzz.harness.measuring.measure import disagreements
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.upstream import upstream_finding
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY, KINDS
from lossfuzz.harness.results.run import CellResult
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.harness.running.routes import route_of
from lossfuzz.harness.running.trial import trial_rows
from lossfuzz.replay_batches import Batch, CannotRunError, batches, cell_of
from lossfuzz.shrinking.probe import batch_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.paths.route import Route

STANDS = "stands"
CHANGED = "changed"
GONE = "gone"
IMPOSSIBLE = "cannot be run here"

_FLOAT64 = 2.0**-53

_ALIKE = (kinds.SATURATION, kinds.INACCURATE_LOSS)
"""One and the same for a row alone: it takes a second row to see that the loss stopped growing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of a finding.

    Attributes:
        verdict: one of `STANDS`, `CHANGED`, `GONE` and `IMPOSSIBLE`.
        told: the same in plain words.
        now: the record of what its row shows now; None where it gave no loss.
        copies: of the row, in whose batch that was seen.
        whole: whether it was seen in the batch that the row was found in, instead of copies.
    """

    verdict: str
    told: str
    now: Finding | None = None
    copies: int = 1
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """The record as JSON's types."""
        now = None if self.now is None else self.now.to_json()
        return {
            "verdict": self.verdict,
            "told": self.told,
            "now": now,
            "copies": self.copies,
            "whole": self.whole,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Replayed:
        """What `to_json` wrote."""
        now = record["now"]
        return cls(**{**record, "now": None if now is None else Finding.from_json(now)})


def replay(finding: Finding, *, device: str | None = None) -> Replayed:
    """Run a finding again in this process, and say whether it still stands.

    A row that no longer shows it alone is tried in a batch of its copies, and in the batch that
    it was found in, where that is known.

    Args:
        finding: of any kind; a crash that stands ends this process.
        device: instead of the finding's own.

    Raises:
        AuditError: the exact values in the record are not those that mpmath gives.
        BackendError: TensorFlow cannot be started.
    """
    tf = start_tensorflow()
    try:
        cell = cell_of(finding, device)
        _check_exact(finding)
        try:
            cell = replace(cell, device=device_named(tf, cell.device))
        except BackendError as error:
            raise CannotRunError(str(error)) from None
        return _Replay(finding, cell).run()
    except CannotRunError as error:
        return Replayed(verdict=IMPOSSIBLE, told=f"it cannot be run here: {error}")


class _Replay:
    """The state of one replay."""

    def __init__(self, finding: Finding, cell: Cell) -> None:
        self._finding, self._cell = finding, cell
        try:
            self._runner = self._runner_in(cell)
        except UnavailableError as error:
            raise CannotRunError(str(error)) from None

    def _runner_in(self, cell: Cell) -> CellRunner:
        return CellRunner(cell, CellResult(cell, route=self._route_of(cell)).documented)

    def _route_of(self, cell: Cell) -> Route:
        """By a tame batch; of an own loss by one of the shape that the finding was found on."""
        if not cell.path.own:
            return route_of(cell)
        classes = len(self._finding.logits)
        shape = tuple(self._finding.recipe.get("shape", (batch_rows(classes), classes)))
        logits, targets = trial_rows(cell.path.loss, cell.format, shape)
        return route_of(cell, logits, targets.fed(logits.shape, logits.dtype))

    def run(self) -> Replayed:
        """The first batch in which it stands; else what the first one showed instead."""
        if self._finding.kind == kinds.UPSTREAM_IGNORED:
            return self._upstream()
        found: list[Replayed] = []
        for batch in batches(self._finding, self._cell):
            result = replace(self._in(batch), copies=batch.copies, whole=batch.whole)
            if result.verdict == STANDS:
                return result
            found.append(result)
        return next((one for one in found if one.verdict == CHANGED), found[0])

    def _upstream(self) -> Replayed:
        """Whether the gradient still ignores what comes from above, on the same ordinary row."""
        try:
            shape = self._finding.batch_rows, len(self._finding.logits)
            now = upstream_finding(self._runner, shape)
        except UnavailableError as error:
            return self._refused(str(error))
        if now is None:
            return Replayed(
                verdict=GONE, told="it is gone: the gradient is linear in what is above"
            )
        return Replayed(verdict=STANDS, told="it still stands", now=now, copies=now.batch_rows)

    def _in(self, batch: Batch) -> Replayed:
        try:
            if batch.prepared is None:
                self._runner.run(batch.logits, batch.targets)
                return Replayed(verdict=GONE, told="it is gone: the path returns a loss")
            outcome = outcome_of(self._runner, batch.prepared)
        except UnavailableError as error:
            return self._refused(str(error))
        self._check_reduced(batch)
        shown = self._shown(outcome, batch)
        return self._compared(outcome, shown, batch)

    def _check_reduced(self, batch: Batch) -> None:
        """Compare the recorded loss of a batch of different rows, which mpmath was not asked for.

        Raises:
            AuditError: it is another one now.
        """
        if batch.prepared is None or not batch.whole or self._cell.path.loss.reduction is None:
            return
        then, reference = self._finding.exact_loss, batch.prepared.reference
        now = float(reference.loss[0])
        if abs(now - then) > 4 * max(reference.relative_bound, _FLOAT64) * abs(now):
            raise AuditError(
                "the exact loss in the record is not that of its batch: "
                f"{self._finding.cell_name} of {self._finding.recipe} has {then!r}, should be "
                f"{now!r}"
            )

    def _refused(self, message: str) -> Replayed:
        then = self._finding
        if then.kind == kinds.REFUSAL and _raised(message) == _raised(then.message):
            return Replayed(verdict=STANDS, told=f"it still stands: refused with {message}")
        return Replayed(
            verdict=CHANGED, told=f"it changed to a {kinds.REFUSAL}: refused with {message}"
        )

    def _shown(self, outcome: Outcome, batch: Batch) -> list[tuple[str, str]]:
        """Kinds and tiers that the row shows, in the order of `KINDS`, defects first."""
        measured = outcome.measurement
        flags = {DEFECT: dict(measured.defects), INACCURACY: measured.inaccuracies}
        if self._finding.kind == kinds.MODE_DISAGREEMENT:
            flags[DEFECT][kinds.MODE_DISAGREEMENT] = self._apart(outcome)
        return [
            (kind, tier)
            for tier, by_kind in flags.items()
            for kind in KINDS
            if kind in by_kind and by_kind[kind][batch.row]
        ]

    def _apart(self, outcome: Outcome) -> NDArray[np.bool_]:
        measured = {self._cell.mode: outcome.measurement}
        for mode in MODES:
            if mode != self._cell.mode:
                try:
                    runner = self._runner_in(replace(self._cell, mode=mode))
                    measured[mode] = outcome_of(runner, outcome.prepared).measurement
                except UnavailableError:
                    continue  # as in a run: it is compared with those that answer
        return disagreements(measured)[self._cell.mode]

    def _compared(
        self, outcome: Outcome, shown: Sequence[tuple[str, str]], batch: Batch
    ) -> Replayed:
        then = self._finding
        alike = _ALIKE if then.kind in _ALIKE else (then.kind,)
        same = [(kind, tier) for kind, tier in shown if tier == then.tier and kind in alike]
        if same:
            now = outcome.finding(*same[0], batch.row)
            return Replayed(verdict=STANDS, told=f"it still stands{_designed(now)}", now=now)
        if not shown or (then.tier == DEFECT and shown[0][1] == INACCURACY):
            rest = f"; what is left is an {INACCURACY}: {shown[0][0]}" if shown else ""
            kind, tier = shown[0] if shown else (then.kind, then.tier)
            now = outcome.finding(kind, tier, batch.row)
            return Replayed(verdict=GONE, told=f"it is gone{rest}", now=now)
        kind, tier = shown[0]
        now = outcome.finding(kind, tier, batch.row)
        told = f"it changed to {'a' if tier == DEFECT else 'an'} {tier}: {kind}, {KINDS[kind]}"
        return Replayed(verdict=CHANGED, told=told + _designed(now), now=now)


def _designed(now: Finding) -> str:
    return ", as the path documents" if now.by_design else ""


def _raised(message: str) -> str:
    """The name of the exception that a refusal's message begins with."""
    return message.partition(":")[0]


def _check_exact(finding: Finding) -> None:
    """Compute the exact values in a record anew, by mpmath.

    Raises:
        AuditError: they are others.
    """
    if math.isnan(finding.exact_loss) or not finding.logits:
        return
    if finding.kind in (kinds.CRASH, kinds.TIMEOUT) and finding.batch_rows > 1:
        return  # its record has the row's own values, not those of the batch
    audit_findings([finding])
