"""Two runs against each other as one self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.reports import comparison as tables
from lossfuzz.reports.html_data import curve, quantiles
from lossfuzz.reports.page import Pool, page

if TYPE_CHECKING:
    from lossfuzz.harness.results.run import CellResult, RunResult
    from lossfuzz.reports.comparison import CellComparison, Comparison

_DRAWN = (tables.WORSE, tables.BETTER, tables.CHANGED)
_MEASURES = ("loss", "gradient")


def render(
    found: Comparison, before: RunResult, after: RunResult, *, names: tuple[str, str]
) -> str:
    """The page: what changed, and both distributions of the cells that did, over each other.

    Args:
        found: the comparison of the two runs.
        before: the first one.
        after: the second one.
        names: of the two, such as the folders they were read from.
    """
    sides = [{one.cell.name: one for one in run.cells} for run in (before, after)]
    pool = Pool()
    cells = [
        _cell(cell, [side[_name(cell)] for side in sides], pool)
        for status in _DRAWN
        for cell in found.cells
        if cell.status == status
    ]
    return page(
        "comparison.html.jinja",
        data={"cells": cells, "curves": pool.values},
        scripts=("comparison.js",),
        title="lossfuzz comparison",
        verdict=tables.verdict(found),
        regression=found.regression,
        names=names,
        interrupted=[name for name, run in _named(names, before, after) if run.interrupted],
        notes=tables.notes(found),
        columns=tables.COLUMNS,
        rows=tables.rows(found),
        routes=tables.route_lines(found),
        drawn=len(cells),
        environments=[
            {**run.environment.get("versions", {}), "seed": run.plan["seed"]}
            for run in (before, after)
        ],
    )


def _named(
    names: tuple[str, str], before: RunResult, after: RunResult
) -> list[tuple[str, RunResult]]:
    return list(zip(names, (before, after), strict=True))


def _name(cell: CellComparison) -> str:
    return f"{cell.path} {cell.format} {cell.mode} {cell.device}"


def _cell(cell: CellComparison, sides: list[CellResult], pool: Pool) -> dict[str, Any]:
    return {
        "loss": sides[0].cell.path.loss.name,
        "path": cell.path,
        "format": cell.format,
        "mode": cell.mode,
        "device": cell.device,
        "status": cell.status,
        "changes": tables.change_lines(cell),
        "sides": [
            {
                "curves": [
                    pool.place(curve(getattr(side.summary, f"{name}_ulp"))) for name in _MEASURES
                ],
                "quantiles": [quantiles(side.summary, name) for name in _MEASURES],
            }
            for side in sides
        ],
    }
