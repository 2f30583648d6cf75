"""What a run leaves behind: one record per cell, and what was run on what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.paths.cells import Cell, cell_of
from lossfuzz.harness.paths.route import Route
from lossfuzz.harness.records.fields import (
    count,
    counts,
    flag,
    inner,
    items,
    optional_text,
    record_of,
    text,
    texts,
    texts_by_name,
)
from lossfuzz.harness.records.seal import SCHEMA, sealed
from lossfuzz.harness.results.causes import Cause
from lossfuzz.harness.results.choices import check_plan, checked_environment
from lossfuzz.harness.results.cliffs import Cliff
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT, REFUSAL
from lossfuzz.harness.results.selection import route_changes_of
from lossfuzz.harness.results.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.measuring.prepared import Prepared


LEAST_JUDGED = 0.05
"""The share of a cell's rows that must have an exact value; with less it is not judged."""


NOT_REACHED = "not reached: the budget in seconds was spent before"
"""Why a cell was not tried at all."""


@dataclass(slots=True)
class CellResult:
    """One cell's route, statistics and worst findings.

    Attributes:
        cell: what was measured.
        route: how the loss was reached; None until it is known.
        unavailable: why the cell could not run; None if it could.
        summary: its statistics.
        findings: kind and tier to the worst finding.
        searched: rows of mutated recipes, which add findings but count in no statistics.
        cliffs: the exact margins at which it breaks; empty unless they were looked for.
        policy: what it does with logits that have no exact value, see `policy`; empty unless it
            was asked.
    """

    cell: Cell
    route: Route | None = None
    unavailable: str | None = None
    summary: Summary = field(default_factory=Summary)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)
    searched: int = 0
    cliffs: tuple[Cliff, ...] = ()
    policy: dict[str, str] = field(default_factory=dict)

    @property
    def is_judged(self) -> bool:
        """Whether so many of its rows have an exact value that it can be called sound."""
        summary = self.summary
        return summary.judged > 0 and summary.judged >= LEAST_JUDGED * summary.rows

    @property
    def was_not_tried(self) -> bool:
        """Whether the budget was spent before the cell had its turn."""
        return self.unavailable == NOT_REACHED

    @property
    def documented(self) -> LossSpec:
        """The formula that the path promises on its route: no clip where it never clips."""
        path = self.cell.path
        on_logits = self.route is not None and self.route.on_logits
        return path.loss if on_logits else path.documented

    def keep_worst(self, outcome: Outcome) -> None:
        """Keep an outcome's worst rows where they are the worst of their kind and tier so far."""
        classes = outcome.prepared.rows.shape[1]
        for kind, tier, row, mixed in outcome.worst_rows():
            kept = self.findings.get((kind, tier))
            designed = outcome.rounding is not None and bool(outcome.rounding.by_design[row])
            if kept is not None and (not designed, mixed, -classes) < (
                not kept.by_design,
                kept.mixed_error,
                -len(kept.logits),
            ):
                continue  # records are dear, and most rows are not worse
            finding = outcome.finding(kind, tier, row)
            if kept is None or finding.severity > kept.severity:
                self.findings[kind, tier] = finding

    def refuse(
        self, prepared: Prepared, told: Callable[[], Finding], *, counted: bool = True
    ) -> None:
        """Count a batch that the path refused; the first one is kept, as it is then told."""
        if counted:
            self.summary.add_refusal(len(prepared.row_labels), family=prepared.recipe["family"])
        else:
            self.searched += len(prepared.row_labels)
        if (REFUSAL, DEFECT) not in self.findings:
            self.findings[REFUSAL, DEFECT] = told()

    def merge(self, other: CellResult) -> None:
        """Add what another part of the campaign found of the same cell.

        Statistics merge in any order. Of equally bad findings the one that was there first stays,
        so parts are merged in the order of their tasks.
        """
        self.summary.merge(other.summary)
        self.route = self.route or other.route
        self.unavailable = self.unavailable or other.unavailable
        self.searched += other.searched
        self.cliffs = self.cliffs or other.cliffs
        self.policy = self.policy or other.policy
        for key, finding in other.findings.items():
            kept = self.findings.get(key)
            if kept is None or finding.severity > kept.severity:
                self.findings[key] = finding

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CellResult:
        """The result that `to_json` wrote with its findings.

        Raises:
            ValueError: a field is missing or of another kind, or names what is not known here.
        """
        route = optional_text(record, "route")
        cell = cell_of(record)
        found = [
            Finding.from_json(record_of(one, "findings")) for one in items(record, "findings")
        ]
        cliffs = items(record, "cliffs", ())
        result = cls(
            cell,
            route=Route(name=route, operations=texts(record, "operations")) if route else None,
            unavailable=optional_text(record, "unavailable"),
            summary=Summary.from_json(inner(record, "summary")),
            findings={(one.kind, one.tier): one for one in found},
            searched=count(record, "searched", 0),
            cliffs=tuple(Cliff.from_json(record_of(one, "cliffs")) for one in cliffs),
            policy=texts_by_name(record, "policy", {}),
        )
        for one in found:
            _check_cell(one, {cell.name: result})
        return result

    def to_json(self, *, with_findings: bool = False) -> dict[str, Any]:
        """The record as JSON's types.

        Args:
            with_findings: whether to add the worst findings, their rows included.
        """
        found = [finding.to_json() for finding in self.findings.values()]
        return {
            **({"findings": found} if with_findings else {}),
            "path": self.cell.path.name,
            "format": self.cell.format.dtype_name,
            "mode": self.cell.mode,
            "device": self.cell.device,
            "route": self.route.name if self.route else None,
            "operations": list(self.route.operations) if self.route else [],
            "unavailable": self.unavailable,
            "summary": self.summary.to_json(),
            "searched": self.searched,
            "cliffs": [cliff.to_json() for cliff in self.cliffs],
            **({"policy": self.policy} if self.policy else {}),
        }


@dataclass(slots=True, kw_only=True, repr=False)
class RunResult:
    """Everything that a run found.

    Attributes:
        plan: the choices it ran with, as JSON's types.
        environment: versions and devices.
        cells: in the plan's order.
        worst: the worst finding of each loss, kind and tier over all cells, made small where
            possible.
        causes: what goes wrong, each with one row; see `causes`.
        interrupted: whether the user stopped it before its budget was spent.
        reference_rows: kind of reference to rows that it answered for.
        seconds: phase to time; the only part that differs between two runs of one plan.
        progress: how much is done, in a sentence; empty once all is.
        notes: what a reader must know beside the verdict, a sentence each: what was found out of
            a user's own loss, what was not reached or not judged, and which lost tails were seen.
    """

    plan: dict[str, Any]
    environment: dict[str, Any]
    cells: list[CellResult]
    worst: list[Finding]
    interrupted: bool
    reference_rows: dict[str, int]
    seconds: dict[str, float]
    causes: list[Cause] = field(default_factory=list)
    progress: str = ""
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows = sum(one.summary.rows for one in self.cells)
        defective = len(self.defective_cells)
        told = f"{len(self.cells)} cells, {rows:,} rows, {defective} cells with defects"
        return f"<RunResult: {'; '.join([told, *self.notes])}>"

    @property
    def findings(self) -> list[Finding]:
        """The worst finding of every cell, kind and tier, in the cells' order."""
        return [finding for result in self.cells for finding in result.findings.values()]

    @property
    def defective_cells(self) -> list[CellResult]:
        """Cells that showed a defect."""
        return [
            result for result in self.cells if any(tier == DEFECT for _, tier in result.findings)
        ]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunResult:
        """The results that `to_json` wrote: without times, and only some findings have rows.

        Raises:
            ValueError: a field is missing or of another kind, or it names a path, format, mode or
                kind that is not known here.
        """
        told = inner(record, "plan")
        for plan in (told, *items(told, "joined", ())):
            check_plan(record_of(plan, "joined"))
        cells = [
            CellResult.from_json({**record_of(one, "cells"), "findings": []})
            for one in items(record, "cells")
        ]
        by_name = {one.cell.name: one for one in cells}
        if len(by_name) < len(cells):
            raise ValueError("a cell stands there twice")
        for one in _findings(record, "findings"):
            _check_cell(one, by_name)
            by_name[one.cell_name].findings[one.kind, one.tier] = one
        worst = _findings(record, "worst")
        causes = [Cause.from_json(record_of(one, "causes")) for one in items(record, "causes", ())]
        for one in (*worst, *(cause.finding for cause in causes)):
            _check_cell(one, by_name)
        return cls(
            plan=told,
            environment=checked_environment(inner(record, "environment")),
            cells=cells,
            worst=worst,
            causes=causes,
            notes=texts(record, "notes", ()),
            interrupted=flag(record, "interrupted"),
            reference_rows=counts(record, "reference_rows"),
            seconds={},
            progress=text(record, "progress", ""),
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the times, so that one plan gives one file; sealed, see `seal`."""
        record = {
            "schema": SCHEMA,
            "plan": self.plan,
            "environment": self.environment,
            "interrupted": self.interrupted,
            **({"progress": self.progress} if self.progress else {}),
            "reference_rows": self.reference_rows,
            "route_changes": [asdict(change) for change in route_changes_of(self.cells)],
            "cells": [result.to_json() for result in self.cells],
            "worst": [finding.to_json() for finding in self.worst],
            "causes": [cause.to_json() for cause in self.causes],
            **({"notes": list(self.notes)} if self.notes else {}),
            "findings": [finding.to_json(with_arrays=False) for finding in self.findings],
        }
        return sealed(record)


def _check_cell(finding: Finding, cells: dict[str, CellResult]) -> None:
    """See that a finding is of one of some cells, and of that cell's loss.

    Raises:
        ValueError: it is not.
    """
    name = finding.cell_name
    if name not in cells:
        raise ValueError(f"a finding is of {name[:80]!r}, which is no cell there")
    if finding.loss != cells[name].cell.path.loss.name:
        raise ValueError(f"a finding of {name[:80]!r} names another loss than its path computes")


def _findings(record: dict[str, Any], name: str) -> list[Finding]:
    return [Finding.from_json(record_of(one, name)) for one in items(record, name)]
