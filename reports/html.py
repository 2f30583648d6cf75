"""The results as one self-contained page: no address is fetched."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossfuzz.reports import memory as memory_table
from lossfuzz.reports import routes as route_table
from lossfuzz.reports import tables, versions
from lossfuzz.reports.advice import by_loss, paragraphs, recommended
from lossfuzz.reports.headline import headline
from lossfuzz.reports.html_data import plot_data
from lossfuzz.reports.html_findings import cause_data, worst_texts
from lossfuzz.reports.html_matrix import matrix_of
from lossfuzz.reports.page import figure, page
from lossfuzz.reports.severity import counted
from lossfuzz.reports.terminal import time_note
from lossfuzz.reports.words import amount, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results.run import RunResult
    from lossfuzz.reports.memory import CellCost

_SCRIPTS = ("distributions.js", "closely.js", "causes.js", "report.js")
_LISTED = 20


def render(result: RunResult, *, memory: Sequence[CellCost] = ()) -> str:
    """The page, with plots drawn from the summaries in the reader's browser.

    Args:
        result: of a run or campaign, finished or not.
        memory: what the paths cost, if that was measured too.
    """
    subjects = versions.subjects_of(result.cells)
    several = len(subjects) > 1
    return page(
        "report.html.jinja",
        data={
            **plot_data(result),
            "causes": cause_data(result.causes),
            "costs": [_cost(one) for one in memory],
        },
        scripts=_SCRIPTS,
        title="lossfuzz report",
        verdict=tables.verdict(result),
        headline=headline(result),
        notes=[*tables.saturation_note(result.cells), tables.inaccuracy_note(result)],
        interrupted=result.interrupted,
        progress=result.progress,
        severities=counted(result.cells),
        matrix=matrix_of(result),
        advice=_advice(result),
        route_changes=route_table.route_changes(result.cells),
        route_columns=route_table.COLUMNS,
        route_rows=route_table.route_rows(result.cells),
        version_columns=versions.headings(subjects, result.environment) if several else [],
        version_rows=versions.version_rows(result.cells) if several else [],
        causes=len(result.causes),
        findings=worst_texts(result.worst),
        columns=tables.COLUMNS,
        losses={loss: tables.cell_rows(cells) for loss, cells in by_loss(result.cells).items()},
        memory_columns=memory_table.COLUMNS,
        memory_rows=memory_table.cost_rows(memory),
        memory_answers=memory_table.answers(memory),
        environment=_environment(result),
        plan=_plan(result.plan),
        time=time_note(result),
    )


def _advice(result: RunResult) -> list[dict[str, Any]]:
    """By loss: the first path to use, how many more there are, and the whole paragraph."""
    told = paragraphs(result.cells)
    return [
        {"loss": loss, "use": recommended(cells), "paragraph": told[loss]}
        for loss, cells in by_loss(result.cells).items()
    ]


def _environment(result: RunResult) -> dict[str, Any]:
    told = dict(result.environment.get("versions", {}))
    devices = result.environment.get("devices", [])
    return {**told, **({"devices": ", ".join(map(str, devices))} if devices else {})}


def _plan(plan: dict[str, Any]) -> dict[str, Any]:
    """The choices that were made: lists as texts, but of the paths, which the page holds."""
    return {
        name: _told(name, value) if isinstance(value, list) else value
        for name, value in plan.items()
        if value is not None
    }


def _told(name: str, values: Sequence[Any]) -> str:
    if name == "paths" and len(values) > _LISTED:
        return f"{len(values)}, those of the tables above"
    if any(isinstance(value, dict) for value in values):
        return amount(len(values), "run")
    return listing([str(value) for value in values])


def _cost(cost: CellCost) -> dict[str, Any]:
    cell, found = cost.cell, cost.footprint
    return {
        "loss": cell.path.loss.name,
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
        "route": cost.route,
        "step": figure(found.step if found else math.nan),
        "forward": figure(found.forward if found else math.nan),
        "time": figure(cost.relative_time),
    }
