"""What differs between two runs, cell by cell, as values and as tables of text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.results.kinds import INACCURACY
from lossfuzz.reports.tables import number, share
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Iterable

WORSE = "worse"
BETTER = "better"
CHANGED = "changed"
"""Differs on the same rows, by too little to be called worse or better."""
UNCHANGED = "unchanged"
"""Alike, or as far apart as other rows of the same path would be."""
NOISE = "within noise"
"""A kind that came or went on other rows, too rarely to tell."""
NOW_UNAVAILABLE = "unavailable now"
NOW_AVAILABLE = "available now"
ONLY_BEFORE = "only in A"
ONLY_AFTER = "only in B"
UNMEASURED = "not measured"

NEW = "new"
VANISHED = "vanished"

COLUMNS = ("verdict", "path", "format", "modes", "device", "measure", "A", "B", "p")
"""Column headings; errors are median / 90 % / 99 %, kinds are shares of the judged rows."""

_SHOWN = (WORSE, NOW_UNAVAILABLE, NOW_AVAILABLE, BETTER, CHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One measure of a cell that differs.

    Attributes:
        measure: a kind of finding, or ``loss ULP``, ``gradient ULP``, ``rounding ULP``.
        tier: of the kind; empty for errors.
        before: the share of judged rows, or the errors' quantiles.
        after: the same of the other run.
        direction: `WORSE`, `BETTER`, `CHANGED` or `NOISE`.
        news: `NEW` or `VANISHED` for a kind that only one of the runs showed; else empty.
        p: how likely other rows alone make such a difference; None on the same rows.
    """

    measure: str
    tier: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    direction: str
    news: str = ""
    p: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The change as JSON's types."""
        return {
            **asdict(self),
            "before": [json_number(value) for value in self.before],
            "after": [json_number(value) for value in self.after],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CellComparison:
    """One cell in two runs.

    Attributes:
        path: name of the loss path.
        format: dtype name of the logits.
        mode: of the cell.
        device: TensorFlow's name.
        status: the cell in a word, one of this module's.
        same_rows: whether both runs measured it on the same rows.
        changes: what differs.
        routes: names of the two routes; None where there is none.
        reasons: why it was unavailable in either run; None where it was not.
    """

    path: str
    format: str
    mode: str
    device: str
    status: str
    same_rows: bool = False
    changes: tuple[Change, ...] = ()
    routes: tuple[str | None, str | None] = (None, None)
    reasons: tuple[str | None, str | None] = (None, None)

    @property
    def other_route(self) -> bool:
        """Whether the path takes another route now."""
        return None not in self.routes and self.routes[0] != self.routes[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs.

    Attributes:
        cells: of both runs, in the first one's order.
        level: of significance.
        seeds: of the two runs.
        samples: how many independent samples the smallest compared cell counts as; 0 if no cells
            were compared on different rows.
        smallest_new_share: from which share of the rows on a new kind is told from noise there.
    """

    cells: tuple[CellComparison, ...]
    level: float
    seeds: tuple[int, int]
    samples: int
    smallest_new_share: float

    @property
    def regression(self) -> bool:
        """Whether a cell got worse, or no longer runs."""
        return any(cell.status in (WORSE, NOW_UNAVAILABLE) for cell in self.cells)

    @property
    def identical(self) -> bool:
        """Whether both runs hold the same cells with the same figures on the same rows."""
        return all(
            (cell.status == UNMEASURED and cell.reasons[0] == cell.reasons[1])
            or (cell.status == UNCHANGED and cell.same_rows and not cell.other_route)
            for cell in self.cells
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON's types."""
        return {
            "schema": 1,
            "level": self.level,
            "seeds": list(self.seeds),
            "regression": self.regression,
            "identical": self.identical,
            "verdict": verdict(self),
            "samples": self.samples,
            "smallest_new_share": self.smallest_new_share,
            "cells": [
                {
                    **asdict(cell),
                    "changes": [change.to_json() for change in cell.changes],
                    "routes": list(cell.routes),
                    "reasons": list(cell.reasons),
                }
                for cell in self.cells
            ],
        }


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The lines of the table, as `COLUMNS`, worse first; modes that agree in all share a line."""
    modes: dict[tuple[str, ...], list[str]] = {}
    for status in _SHOWN:
        for cell in comparison.cells:
            for texts in _texts(cell) if cell.status == status else ():
                key = (texts[0], cell.path, cell.format, cell.device, *texts[1:])
                modes.setdefault(key, []).append(cell.mode)
    ordered = sorted(modes.items(), key=lambda item: _SHOWN.index(item[0][0]))
    return [(*key[:3], " ".join(here), *key[3:]) for key, here in ordered]


def _texts(cell: CellComparison) -> Iterable[tuple[str, ...]]:
    if cell.status in (NOW_UNAVAILABLE, NOW_AVAILABLE):
        texts = ["runs" if reason is None else reason for reason in cell.reasons]
        yield cell.status, "", *texts, ""
    told = [change for change in cell.changes if change.direction != NOISE]
    for change in told:
        name = f"{change.news} {change.measure}".strip()
        tier = f" ({change.tier})" if change.tier == INACCURACY else ""
        show = share if change.tier else number
        values = ("/".join(map(show, side)) for side in (change.before, change.after))
        yield change.direction, name + tier, *values, _chance(change.p)
    if cell.status == CHANGED and not told:
        yield CHANGED, "extremes only", "", "", _chance(None)


def change_lines(cell: CellComparison) -> list[str]:
    """What changed in a cell, a line each."""
    return [
        f"{direction}: {measure}" + (f", {before} → {after}" if before or after else "")
        for direction, measure, before, after, _ in _texts(cell)
    ]


def _chance(p: float | None) -> str:
    if p is None:
        return "same rows"
    return number(p) if p >= 1e-99 else "0"


def route_lines(comparison: Comparison) -> list[str]:
    """The paths that take another route than before, a line each."""
    modes: dict[tuple[str, ...], list[str]] = {}
    for cell in comparison.cells:
        if cell.other_route:
            key = (cell.path, cell.format, cell.device, *map(str, cell.routes))
            modes.setdefault(key, []).append(cell.mode)
    return [
        f"{path} {fmt} {' '.join(here)} {device}: {before} → {after}"
        for (path, fmt, device, before, after), here in modes.items()
    ]


def verdict(comparison: Comparison) -> str:
    """The comparison in one sentence."""
    count = Counter(cell.status for cell in comparison.cells)
    if comparison.identical:
        cells = amount(count[UNCHANGED], "cell")
        return f"identical: {cells} gave the same figures on the same rows."
    changes = [
        change for cell in comparison.cells for change in cell.changes if change.direction != NOISE
    ]
    news = Counter(change.news for change in changes)
    text = f"{amount(count[WORSE], 'cell')} got worse, {count[BETTER]} better, "
    text += f"{count[CHANGED]} changed a little, " if count[CHANGED] else ""
    text += f"{count[UNCHANGED]} unchanged; "
    text += f"{amount(news[NEW], 'new kind')} of finding, {news[VANISHED]} vanished"
    for status in (NOW_UNAVAILABLE, NOW_AVAILABLE, ONLY_BEFORE, ONLY_AFTER, UNMEASURED):
        text += f"; {count[status]} {status}" if count[status] else ""
    routes = sum(cell.other_route for cell in comparison.cells)
    return text + (f"; {routes} took another route" if routes else "") + "."


def notes(comparison: Comparison) -> list[str]:
    """On what grounds the verdict stands, a line each."""
    compared = [
        one for one in comparison.cells if one.status in (WORSE, BETTER, CHANGED, UNCHANGED)
    ]
    same = sum(cell.same_rows for cell in compared)
    lines = []
    if same and not comparison.identical:
        lines.append(
            f"{amount(same, 'cell')} {verb(same, 'was', 'were')} compared on the same rows, where "
            "every difference is real."
        )
    other = len(compared) - same
    if other:
        least = comparison.smallest_new_share
        told = f"from {share(least)} of the rows on" if least <= 1 else "in no case"
        lines.append(
            f"{amount(other, 'cell')} {verb(other, 'was', 'were')} compared on different rows "
            f"(seeds {comparison.seeds[0]} and {comparison.seeds[1]}), whose rows count as "
            f"{amount(comparison.samples, 'independent one')} or more: a kind that was not there "
            f"before is told from noise {told}. The same seed and shapes tell every difference."
        )
    noise = sum(one.direction == NOISE for cell in comparison.cells for one in cell.changes)
    if noise:
        lines.append(
            f"{amount(noise, 'kind')} of finding came or went too rarely to be told from noise."
        )
    return lines
