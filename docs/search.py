"""Finding an entry's defect by running lossfuzz, and measuring where else it shows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.audit import audit_findings
from lossfuzz.harness.losses.targets import Targets
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare, prepare_targets
from lossfuzz.harness.paths.table import PATHS
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.plan import Plan
from lossfuzz.running import run
from lossfuzz.shrinking import shrunk
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from entry import Entry

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult

_TURNS = 2
"""Batches of every family, for every cell, at the least."""

_DEVICE = "CPU:0"

_TRIED_ROWS = 8
_FAIR = 1 / 8

WIDE = 8
"""Rows of more classes are not written out class by class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What running found for an entry.

    Attributes:
        entry: that was searched for.
        finding: its worst row, made small.
        cells: of the entry's path and of those beside it, in that order.
        plan: the run's choices, as JSON's types.
        versions: of the packages.
    """

    entry: Entry
    finding: Finding
    cells: dict[str, list[CellResult]]
    plan: dict[str, object]
    versions: dict[str, str]


def found(entry: Entry) -> Found:
    """Run an entry's paths in every format and mode on its families, and take its row.

    Raises:
        LookupError: the defect no longer shows, so the entry is outdated.
    """
    names = (entry.path, *entry.beside)
    plan = Plan(
        paths=tuple(path for name in names for path in PATHS if path.name == name),
        families=entry.families,
        shapes=(entry.shape,),
        devices=(_DEVICE,),
        rows=max(entry.rows, _TURNS * len(entry.families) * _rows(entry.shape)),
    )
    result = run(plan)
    cells: dict[str, list[CellResult]] = {name: [] for name in names}
    for cell in result.cells:
        cells[cell.cell.path.name].append(cell)
    shown = [
        cell
        for cell in cells[entry.path]
        if (cell.cell.format.dtype_name, cell.cell.mode) == (entry.format, entry.mode)
        and (entry.kind, DEFECT) in cell.findings
    ]
    if not shown:
        raise LookupError(
            f"expected {entry.kind} from {entry.path} in {entry.format} {entry.mode}, found "
            "none: it has been mended, or the families no longer reach it"
        )
    finding = _made_small(shown[0].findings[entry.kind, DEFECT], shown[0])
    audit_findings([finding])
    return Found(
        entry=entry,
        finding=finding,
        cells=cells,
        plan=result.plan,
        versions=result.environment["versions"],
    )


def _made_small(finding: Finding, result: CellResult) -> Finding:
    """As lossfuzz makes it small; of a reduced loss, by copies of any of its rows, worst first.

    A row that does not even keep to the documented formula is preferred. Rows whose own loss
    comes near the format's end would show that instead.
    """
    if result.cell.path.loss.reduction is None:
        small = shrunk(finding, CellRunner(result.cell, result.documented))
        return _levelled(small, result) if len(small.logits) > WIDE else small
    batch = expand(Recipe.from_json(finding.recipe))
    prepared = prepare(batch.logits, batch.labels, finding.recipe, result.cell.path.loss)
    losses = prepared.row_reference.loss
    order = np.argsort(-losses)
    fair = order[losses[order] <= result.cell.format.largest_finite * _FAIR]
    shown: list[Finding] = []
    for row in fair[:_TRIED_ROWS]:
        one = replace(
            finding,
            logits=tuple(prepared.rows[row].astype(np.float64).tolist()),
            target=tuple(prepared.targets.weights[row].tolist()) if finding.target else (),
            label=int(prepared.row_labels[row]),
        )
        small = shrunk(one, CellRunner(result.cell, result.documented))
        if small.repeated:
            shown.append(small)
        if small.repeated and not small.by_design:
            return small
    if not shown:
        raise LookupError(f"expected a row of {finding.cell_name} whose copies show the same")
    return shown[0]


def _levelled(finding: Finding, result: CellResult) -> Finding:
    """A wide row of one number, with targets of 0, if it shows the same; else the finding itself.

    What only many classes show cannot lose them, but can be written in one line.
    """
    loss = result.cell.path.loss
    shape = (1, len(finding.logits))
    rows = result.cell.format.cast(np.full(shape, finding.exact_loss))
    targets = Targets(
        kind=loss.target,
        weights=np.zeros(shape),
        labels=np.zeros(1, np.int64),
        masked=np.zeros(shape, np.bool_),
    )
    outcome = outcome_of(
        CellRunner(result.cell, result.documented),
        prepare_targets(rows, targets, finding.recipe, loss),
    )
    flags = outcome.measurement.defects.get(finding.kind, np.zeros(1, np.bool_))
    return outcome.finding(finding.kind, DEFECT, 0) if flags[0] else finding


def _rows(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])
