"""Findings grouped by cause: what goes wrong on a path, by which route, in which region."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.records.fields import count, flag, inner, one_of, optional_text, text, texts
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY, KINDS
from lossfuzz.harness.results.regions import region_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lossfuzz.harness.results.run import CellResult

MOST_SHRUNK = 200
"""Findings that a run shrinks at most, besides the worst of each loss and kind: those and then a
defect of each cause, then an inaccuracy of each, whole models after the others of their tier.

One in eager mode counts as 1, which takes a tenth of a second; see `_COSTS`.
"""

_COSTS = {"eager": 1, "graph": 2, "xla": 4}
"""What a finding of a mode counts as: every class count is traced or compiled anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that goes wrong, with one row that shows it.

    Attributes:
        loss: name of the loss.
        path: name of the loss path.
        kind: of the findings.
        tier: of the findings.
        route: by which the loss was reached; None where it is not known.
        region: of the row, see `regions`.
        by_design: whether the results are those of the formula that the path documents.
        cells: names of the cells that show it, in the plan's order.
        formats: of those cells.
        modes: of those cells.
        devices: of those cells.
        rows: rows of these cells that show this kind in this tier, in any region.
        shrunk: whether the row was made as simple as possible; else it is as it was found.
        finding: of one of the cells.
    """

    loss: str
    path: str
    kind: str
    tier: str
    route: str | None
    region: str
    by_design: bool
    cells: tuple[str, ...]
    formats: tuple[str, ...]
    modes: tuple[str, ...]
    devices: tuple[str, ...]
    rows: int
    shrunk: bool
    finding: Finding

    def to_json(self) -> dict[str, Any]:
        """The cause as JSON's types; a row that was not shrunk is told by recipe and number."""
        return {**asdict(self), "finding": self.finding.to_json(with_arrays=self.shrunk)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Cause:
        """The cause that `to_json` wrote; its finding has no row where that was not shrunk.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        return cls(
            loss=text(record, "loss"),
            path=text(record, "path"),
            kind=one_of(record, "kind", KINDS),
            tier=one_of(record, "tier", (DEFECT, INACCURACY)),
            route=optional_text(record, "route"),
            region=text(record, "region"),
            by_design=flag(record, "by_design"),
            cells=texts(record, "cells"),
            formats=texts(record, "formats"),
            modes=texts(record, "modes"),
            devices=texts(record, "devices"),
            rows=count(record, "rows"),
            shrunk=flag(record, "shrunk"),
            finding=Finding.from_json(inner(record, "finding")),
        )

    def joined(self, other: Cause) -> Cause:
        """The same cause in the cells of both, with the row that is easier to read."""
        easier = min(self, other, key=_ease)
        return replace(
            easier,
            cells=_all(self.cells, other.cells),
            formats=_all(self.formats, other.formats),
            modes=_all(self.modes, other.modes),
            devices=_all(self.devices, other.devices),
            rows=self.rows + other.rows,
        )


def finding_key(finding: Finding) -> str:
    """What a shrunk finding is kept under: the one that it was made of, in few words."""
    return (
        f"{finding.cell_name} {finding.kind} {finding.tier} row {finding.row} of "
        f"{sorted(finding.recipe.items())}"
    )


def findings_to_shrink(cells: Iterable[CellResult], worst: Iterable[Finding]) -> list[Finding]:
    """Which findings are shrunk: all that are shown by themselves, others up to `MOST_SHRUNK`.

    Args:
        cells: of a run.
        worst: findings that are shown by themselves, and so come first.
    """
    first = {finding_key(finding): finding for finding in worst}
    groups = sorted(_groups(cells).values(), key=_turn)
    spent = sum(_COSTS[finding.mode] for finding in first.values())
    for members in groups:
        chosen = _chosen(members, first)
        if finding_key(chosen) not in first and spent + _COSTS[chosen.mode] <= MOST_SHRUNK:
            spent += _COSTS[chosen.mode]
            first[finding_key(chosen)] = chosen
    return list(first.values())


def causes_of(cells: Iterable[CellResult], small: Mapping[str, Finding]) -> list[Cause]:
    """The causes of all findings, defects first, those in most cells first.

    Findings are grouped by path, kind, tier, route and the region of their rows; groups whose
    shrunk rows lie in the same region have the same cause.

    Args:
        cells: of a run, in the plan's order.
        small: `finding_key` to what a finding was shrunk to.
    """
    return joined_causes(_cause(members, small) for members in _groups(cells).values())


def joined_causes(causes: Iterable[Cause]) -> list[Cause]:
    """The causes of several runs, or of several groups, each once."""
    found: dict[tuple[Any, ...], Cause] = {}
    for cause in causes:
        key = (cause.path, cause.kind, cause.tier, cause.route, cause.by_design, cause.region)
        found[key] = found[key].joined(cause) if key in found else cause
    return sorted(
        found.values(),
        key=lambda one: (
            one.tier != DEFECT,
            one.by_design,
            -len(one.cells),
            one.loss,
            one.path,
            one.kind,
            one.route or "",
            one.region,
        ),
    )


_Member = tuple["CellResult", Finding]


def _groups(cells: Iterable[CellResult]) -> dict[tuple[Any, ...], list[_Member]]:
    groups: dict[tuple[Any, ...], list[_Member]] = {}
    for result in cells:
        route = result.route.name if result.route else None
        for kind, tier in sorted(result.findings):
            finding = result.findings[kind, tier]
            region = _region(result, finding)
            key = (finding.path, kind, tier, route, finding.by_design, region)
            groups.setdefault(key, []).append((result, finding))
    return groups


def _turn(members: list[_Member]) -> tuple[bool, bool]:
    """When a group is shrunk: defects first, of each tier the models last."""
    result, finding = members[0]
    return finding.tier != DEFECT, result.cell.path.trained


def _region(result: CellResult, finding: Finding) -> str:
    loss, fmt = result.cell.path.loss, format_named(finding.format)
    return region_of(finding.logits, finding.label, finding.target, loss, fmt)


def _chosen(members: list[_Member], shown: Iterable[str]) -> Finding:
    """The finding that stands for a group: one that is shown anyway, else the worst one.

    Of those that are not shown, in the mode that is the quickest to try rows in.
    """
    findings = [finding for _, finding in members]
    known = [finding for finding in findings if finding_key(finding) in shown]
    quickest = min(MODES.index(finding.mode) for finding in findings)
    quick = [finding for finding in findings if MODES.index(finding.mode) == quickest]
    return max(known or quick, key=lambda finding: finding.severity)


def _cause(members: list[_Member], small: Mapping[str, Finding]) -> Cause:
    """Of one group: its shrunk row, or the row that would have been shrunk."""
    chosen = _chosen(members, small)
    finding = small.get(finding_key(chosen), chosen)
    result = next(one for one, found in members if found is chosen)
    cells = [one.cell for one, _ in members]
    return Cause(
        loss=finding.loss,
        path=finding.path,
        kind=finding.kind,
        tier=finding.tier,
        route=result.route.name if result.route else None,
        region=_region(result, finding),
        by_design=finding.by_design,
        cells=tuple(cell.name for cell in cells),
        formats=_all(cell.format.dtype_name for cell in cells),
        modes=_all(cell.mode for cell in cells),
        devices=_all(cell.device for cell in cells),
        rows=sum(_rows(one, finding) for one, _ in members),
        shrunk=finding_key(chosen) in small,
        finding=finding,
    )


def _rows(result: CellResult, finding: Finding) -> int:
    summary = result.summary
    counts = summary.defects if finding.tier == DEFECT else summary.inaccuracies
    return counts.get(finding.kind, 0)


def _all(*names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order that they come in."""
    return tuple(dict.fromkeys(name for some in names for name in some))


def _ease(cause: Cause) -> tuple[bool, int, int, float]:
    """Order of rows of one cause: the one that is read more easily first."""
    finite = [value for value in cause.finding.logits if math.isfinite(value)]
    size = math.fsum(abs(value) / len(finite) for value in finite)
    return (not cause.shrunk, len(cause.finding.logits), cause.finding.batch_rows, size)
