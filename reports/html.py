"""The results as one self-contained page: no address is fetched."""

from __future__ import annotations

import math
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from markupsafe import Markup

from lossfuzz.harness.findings import KINDS
from lossfuzz.harness.histogram import INFINITE_BIN, Histogram, upper_edge
from lossfuzz.reports import tables
from lossfuzz.reports.advice import advice, route_changes
from lossfuzz.reports.snippet import snippet
from lossfuzz.reports.terminal import time_note

if TYPE_CHECKING:
    from lossfuzz.harness.results import CellResult, RunResult

_SMALLEST_SHOWN = 2.0**-10
_POINTS_PER_OCTAVE = 4


def render(result: RunResult) -> str:
    """The page, with plots drawn from the summaries in the reader's browser."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossfuzz.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        verdict=tables.verdict(result),
        advice=advice(result.cells),
        route_changes=route_changes(result.cells),
        notes=[*tables.saturation_note(result.cells), tables.inaccuracy_note(result)],
        interrupted=result.interrupted,
        columns=tables.COLUMNS,
        rows=tables.cell_rows(result.cells),
        matrix=_matrix(result),
        findings=[
            {
                "title": tables.finding_title(finding),
                "tier": finding.tier,
                "meaning": KINDS[finding.kind],
                "figures": tables.finding_figures(finding),
                "code": snippet(finding),
            }
            for finding in result.worst
        ],
        versions=result.environment["versions"],
        plan={
            name: ", ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in result.plan.items()
            if value is not None
        },
        time=time_note(result),
        curves=[_curves(one) for one in result.cells if one.unavailable is None],
        scripts=[Markup(_asset(name)) for name in ("d3.min.js", "plot.umd.min.js")],  # noqa: S704
    )


def _asset(name: str) -> str:
    return resources.files("lossfuzz.reports.assets").joinpath(name).read_text("utf-8")


def _matrix(result: RunResult) -> dict[str, Any]:
    """Verdicts by path, and by format, mode and device."""
    columns = list(dict.fromkeys(_column(one) for one in result.cells))
    verdicts: dict[str, dict[str, tuple[str, str]]] = {}
    for one in result.cells:
        shown = [kind for kind, count in one.summary.defects.items() if count]
        title = f"{one.cell.name}: {one.unavailable or ', '.join(shown) or 'no defect'}"
        verdicts.setdefault(one.cell.path.name, {})[_column(one)] = tables.verdict_of(one), title
    return {
        "columns": columns,
        "rows": [
            (path, [cells.get(column, ("unavailable", "not run")) for column in columns])
            for path, cells in verdicts.items()
        ],
    }


def _column(result: CellResult) -> str:
    cell = result.cell
    return f"{cell.format.dtype_name} {cell.mode} {cell.device}"


def _curves(result: CellResult) -> dict[str, Any]:
    return {
        "path": result.cell.path.name,
        "format": result.cell.format.dtype_name,
        "mode": result.cell.mode,
        "device": result.cell.device,
        "route": result.route.name if result.route else "unknown",
        "loss": _distribution(result.summary.loss_ulp),
        "gradient": _distribution(result.summary.gradient_ulp),
    }


def _distribution(histogram: Histogram) -> list[list[float]]:
    """Points (error, share of errors above it), finite errors only, thinned to what is seen."""
    total = histogram.total
    if total == 0:
        return []
    above = 1 - np.cumsum(histogram.counts) / total
    points: list[list[float]] = []
    last = -math.inf
    for index in np.flatnonzero(histogram.counts[:INFINITE_BIN]).tolist():
        error = max(upper_edge(index), _SMALLEST_SHOWN)
        position = math.floor(math.log2(error) * _POINTS_PER_OCTAVE)
        point = [float(f"{error:.4g}"), float(f"{above[index]:.4g}")]
        if position == last:
            points[-1] = point
        else:
            points.append(point)
        last = position
    return points
