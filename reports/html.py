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
from lossfuzz.reports import routes as route_table
from lossfuzz.reports import tables, versions
from lossfuzz.reports.advice import by_loss, paragraphs
from lossfuzz.reports.snippet import snippet
from lossfuzz.reports.terminal import time_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results import CellResult, RunResult

_SMALLEST_SHOWN = 2.0**-10
_POINTS_PER_OCTAVE = 3
_FINE_OCTAVES = 12


def render(result: RunResult) -> str:
    """The page, with plots drawn from the summaries in the reader's browser."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossfuzz.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    subjects = versions.subjects_of(result.cells)
    curves, distributions = _curves([one for one in result.cells if one.unavailable is None])
    return environment.get_template("report.html.jinja").render(
        verdict=tables.verdict(result),
        advice=paragraphs(result.cells),
        route_changes=route_table.route_changes(result.cells),
        version_columns=versions.headings(subjects, result.environment)
        if len(subjects) > 1
        else [],
        version_rows=versions.version_rows(result.cells),
        route_columns=route_table.COLUMNS,
        route_rows=route_table.route_rows(result.cells),
        notes=[*tables.saturation_note(result.cells), tables.inaccuracy_note(result)],
        interrupted=result.interrupted,
        columns=tables.COLUMNS,
        losses={loss: tables.cell_rows(cells) for loss, cells in by_loss(result.cells).items()},
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
        distributions=distributions,
        curves=curves,
        scripts=[Markup(_asset(name)) for name in ("d3.min.js", "plot.umd.min.js")],  # noqa: S704
    )


def _asset(name: str) -> str:
    return resources.files("lossfuzz.reports.assets").joinpath(name).read_text("utf-8")


def _matrix(result: RunResult) -> dict[str, Any]:
    """Verdicts by path, and by format, mode and device."""
    order = list(by_loss(result.cells))
    columns = list(dict.fromkeys(_column(one) for one in result.cells))
    verdicts: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for one in result.cells:
        shown = [kind for kind, count in one.summary.defects.items() if count]
        title = f"{one.cell.name}: {one.unavailable or ', '.join(shown) or 'no defect'}"
        key = (one.cell.path.loss.name, one.cell.path.name)
        verdicts.setdefault(key, {})[_column(one)] = tables.verdict_of(one), title
    grouped = sorted(verdicts.items(), key=lambda item: order.index(item[0][0]))
    heads = [loss for (loss, _), _ in grouped]
    return {
        "columns": columns,
        "rows": [
            (
                loss if number == heads.index(loss) else None,
                path,
                [cells.get(column, ("unavailable", "not run")) for column in columns],
            )
            for number, ((loss, path), cells) in enumerate(grouped)
        ],
    }


def _column(result: CellResult) -> str:
    cell = result.cell
    return f"{cell.format.dtype_name} {cell.mode} {cell.device}"


def _curves(
    results: Sequence[CellResult],
) -> tuple[list[dict[str, Any]], list[list[list[float]]]]:
    """A curve for each cell, and the distributions that they point to: many modes share one."""
    places: dict[str, int] = {}
    distributions: list[list[list[float]]] = []

    def place(histogram: Histogram) -> int:
        points = _distribution(histogram)
        key = repr(points)
        if key not in places:
            places[key] = len(distributions)
            distributions.append(points)
        return places[key]

    curves = [
        {
            "loss": result.cell.path.loss.name,
            "path": result.cell.path.name,
            "format": result.cell.format.dtype_name,
            "mode": result.cell.mode,
            "device": result.cell.device,
            "route": result.route.name if result.route else "unknown",
            "errors": {
                "loss": place(result.summary.loss_ulp),
                "gradient": place(result.summary.gradient_ulp),
            },
        }
        for result in results
    ]
    return curves, distributions


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
        octave = math.log2(error)
        position = math.floor(octave * (_POINTS_PER_OCTAVE if octave < _FINE_OCTAVES else 1 / 2))
        point = [float(f"{error:.3g}"), float(f"{above[index]:.3g}")]
        if position == last:
            points[-1] = point
        else:
            points.append(point)
        last = position
    return points
