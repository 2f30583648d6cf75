"""A run's results as typed tables: pure, and nothing is lost that the store holds."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.results.histogram import (
    INFINITE_OCTAVE,
    NO_OCTAVE,
    ZERO_BIN,
    Histogram,
    Octaves,
    upper_edge,
)
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.harness.results.stability import EDGES
from lossfuzz.reports.parquet_findings import CAUSES, FINDINGS, findings_and_causes
from lossfuzz.reports.severity import severity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lossfuzz.harness.results.cliffs import Edge
    from lossfuzz.harness.results.run import CellResult, RunResult
    from lossfuzz.harness.results.summary import Summary

TEXT, WHOLE, REAL, FLAG = "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"
TEXTS, REALS = "VARCHAR[]", "DOUBLE[]"

MEASURES = ("loss_ulp", "gradient_ulp", "rounding_ulp")
QUANTILES = {"p50": 0.5, "p99": 0.99, "p9999": 0.9999}
LARGEST = (
    "loss_ulp",
    "loss_mixed",
    "loss_scaled",
    "gradient_ulp",
    "gradient_mixed",
    "gradient_scaled",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that becomes one file.

    Attributes:
        name: of the file.
        types: column to its SQL type, in order.
        rows: a value per column; None where there is none.
    """

    name: str
    types: dict[str, str]
    rows: list[dict[str, Any]]


def tables_of(result: RunResult) -> list[Table]:
    """All tables of a run; a cell's name joins them."""
    findings, causes = findings_and_causes(result)
    return [
        Table(name="run", types=_RUN, rows=[_run(result)]),
        Table(name="cells", types=_CELLS, rows=[_cell(one) for one in result.cells]),
        _collected("histograms", _HISTOGRAMS, result.cells, _histograms),
        _collected("families", _FAMILIES, result.cells, _families),
        _collected("family_histograms", _FAMILY_HISTOGRAMS, result.cells, _family_histograms),
        _collected("stability", _STABILITY, result.cells, _stability),
        _collected("cliffs", _CLIFFS, result.cells, _cliffs),
        Table(name="findings", types=FINDINGS, rows=findings),
        Table(name="causes", types=CAUSES, rows=causes),
    ]


def _collected(
    name: str,
    types: dict[str, str],
    cells: Iterable[CellResult],
    rows: Callable[[CellResult], Iterator[dict[str, Any]]],
) -> Table:
    return Table(
        name=name,
        types=types,
        rows=[{"cell": one.cell.name, **row} for one in cells for row in rows(one)],
    )


def column_of(group: str, kind: str) -> str:
    """The column that counts a kind: ``defect_gradient_collapse`` and the like."""
    return f"{group}_{kind.replace(' ', '_').replace('-', '_')}"


_COUNTS = {"defect": "defects", "inaccuracy": "inaccuracies", "by_design": "by_design"}

_RUN = {
    "plan": TEXT,
    "environment": TEXT,
    "reference_rows": TEXT,
    "seconds": TEXT,
    "interrupted": FLAG,
    "progress": TEXT,
}

_CELLS = {
    **dict.fromkeys(("cell", "loss", "path", "format", "mode", "device", "subject"), TEXT),
    "route": TEXT,
    "operations": TEXTS,
    "unavailable": TEXT,
    "severity": TEXT,
    **dict.fromkeys(("rows", "judged", "searched", "defect_rows"), WHOLE),
    **{f"{one}_{name}": REAL for one in MEASURES for name in QUANTILES},
    **{f"largest_{name}": REAL for name in LARGEST},
    **dict.fromkeys(("bias", "vanishing_margin", "zero_margin", "plateau"), REAL),
    **{column_of(group, kind): WHOLE for group in _COUNTS for kind in KINDS},
}


def _run(result: RunResult) -> dict[str, Any]:
    return {
        "plan": json.dumps(result.plan, sort_keys=True),
        "environment": json.dumps(result.environment, sort_keys=True),
        "reference_rows": json.dumps(result.reference_rows, sort_keys=True),
        "seconds": json.dumps(result.seconds, sort_keys=True),
        "interrupted": result.interrupted,
        "progress": result.progress,
    }


def _cell(result: CellResult) -> dict[str, Any]:
    cell, summary = result.cell, result.summary
    return {
        "cell": cell.name,
        "loss": cell.path.loss.name,
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
        "subject": cell.subject,
        "route": result.route.name if result.route else None,
        "operations": list(result.route.operations) if result.route else [],
        "unavailable": result.unavailable,
        "severity": severity_of(result).name,
        "rows": summary.rows,
        "judged": summary.judged,
        "searched": result.searched,
        "defect_rows": summary.defect_rows,
        **_quantiles(summary),
        **{f"largest_{name}": summary.largest.get(name) for name in LARGEST},
        "bias": summary.bias,
        "vanishing_margin": summary.vanishing_margin,
        "zero_margin": summary.zero_margin,
        "plateau": summary.plateau,
        **_counts(summary, _COUNTS),
    }


def _quantiles(summary: Summary) -> dict[str, float | None]:
    """Of every measure, no quantile above its largest value; None where nothing was counted."""
    found: dict[str, float | None] = {}
    for measure in MEASURES:
        histogram = getattr(summary, measure)
        largest = summary.largest.get(measure, math.inf)
        for name, share in QUANTILES.items():
            value = histogram.quantile(share)
            found[f"{measure}_{name}"] = None if math.isnan(value) else min(value, largest)
    return found


def _counts(figures: Any, groups: dict[str, str]) -> dict[str, int]:
    return {
        column_of(group, kind): getattr(figures, attribute).get(kind, 0)
        for group, attribute in groups.items()
        for kind in KINDS
    }


_HISTOGRAMS = {
    "cell": TEXT,
    "measure": TEXT,
    "bin": WHOLE,
    "lower": REAL,
    "upper": REAL,
    "count": WHOLE,
}


def _histograms(result: CellResult) -> Iterator[dict[str, Any]]:
    """The occupied bins: errors in ``[lower, upper)``; the first counts those that are none."""
    for measure in MEASURES:
        histogram: Histogram = getattr(result.summary, measure)
        for at in np.flatnonzero(histogram.counts).tolist():
            yield {
                "measure": measure,
                "bin": at,
                "lower": upper_edge(at - 1) if at > ZERO_BIN else 0.0,
                "upper": upper_edge(at),
                "count": int(histogram.counts[at]),
            }


_FAMILIES = {
    **dict.fromkeys(("cell", "family"), TEXT),
    **dict.fromkeys(("rows", "judged"), WHOLE),
    **dict.fromkeys(("loss_mixed", "gradient_mixed"), REAL),
    **{column_of("defect", kind): WHOLE for kind in KINDS},
}


def _families(result: CellResult) -> Iterator[dict[str, Any]]:
    for name, part in result.summary.families.items():
        yield {
            "family": name,
            "rows": part.rows,
            "judged": part.judged,
            "loss_mixed": part.loss_mixed,
            "gradient_mixed": part.gradient_mixed,
            **_counts(part, {"defect": "defects"}),
        }


_FAMILY_HISTOGRAMS = {
    **dict.fromkeys(("cell", "family", "measure"), TEXT),
    "octave": WHOLE,
    **dict.fromkeys(("lower", "upper"), REAL),
    "count": WHOLE,
}


def _family_histograms(result: CellResult) -> Iterator[dict[str, Any]]:
    for name, part in result.summary.families.items():
        for measure in ("loss_ulp", "gradient_ulp"):
            counted: Octaves = getattr(part, measure)
            for octave, count in sorted(counted.counts.items()):
                lower, upper = _octave(octave)
                yield {
                    "family": name,
                    "measure": measure,
                    "octave": octave,
                    "lower": lower,
                    "upper": upper,
                    "count": count,
                }


def _octave(octave: int) -> tuple[float, float]:
    if octave == NO_OCTAVE:
        return 0.0, 2.0 ** (octave + 1)
    return 2.0**octave, math.inf if octave == INFINITE_OCTAVE else 2.0 ** (octave + 1)


_STABILITY = {
    "cell": TEXT,
    "classes": WHOLE,
    **dict.fromkeys(("margin_from", "margin_to"), REAL),
    **dict.fromkeys(("rows", "loss_level", "gradient_level", "defective"), WHOLE),
}


def _stability(result: CellResult) -> Iterator[dict[str, Any]]:
    for (classes, at), place in sorted(result.summary.stability.places.items()):
        yield {
            "classes": classes,
            "margin_from": EDGES[at],
            "margin_to": EDGES[at + 1],
            "rows": place.rows,
            "loss_level": place.loss,
            "gradient_level": place.gradient,
            "defective": place.defective,
        }


_EDGE = (
    "margin",
    "loss",
    "exact_loss",
    "label_gradient",
    "exact_label_gradient",
    "largest_gradient",
    "exact_largest_gradient",
)
_CLIFFS = {
    **dict.fromkeys(("cell", "kind", "tier", "side"), TEXT),
    "classes": WHOLE,
    "confirmed": FLAG,
    **{f"{side}_{name}": REAL for side in ("at", "below") for name in _EDGE},
}


def _cliffs(result: CellResult) -> Iterator[dict[str, Any]]:
    for cliff in result.cliffs:
        yield {
            "kind": cliff.kind,
            "tier": cliff.tier,
            "side": cliff.side,
            "classes": cliff.classes,
            "confirmed": cliff.confirmed,
            **_edge("at", cliff.at),
            **_edge("below", cliff.below),
        }


def _edge(side: str, edge: Edge | None) -> dict[str, float | None]:
    return {f"{side}_{name}": getattr(edge, name, None) for name in _EDGE}
