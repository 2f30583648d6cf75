"""What a page's plots draw: a record for each cell, and the distributions that cells share."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import ZERO_GRADIENT
from lossfuzz.harness.results.histogram import (
    INFINITE_BIN,
    INFINITE_OCTAVE,
    NO_OCTAVE,
    Histogram,
    Octaves,
    upper_edge,
)
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.harness.results.stability import EDGES, INFINITE_LEVEL, LOWEST_LEVEL
from lossfuzz.reports.cliffs import NONE, begins_text
from lossfuzz.reports.page import Pool, figure
from lossfuzz.reports.severity import severity_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.results.run import CellResult, RunResult
    from lossfuzz.harness.results.summary import Summary

_SMALLEST_SHOWN = 2.0**-10
_POINTS_PER_OCTAVE = 3
_FINE_OCTAVES = 12
_SHARES = (0.5, 0.99, 0.9999)


def plot_data(result: RunResult) -> dict[str, Any]:
    """The data of a run's plots, as JSON's types; cells point into pools of what they share."""
    pools = {name: Pool() for name in ("curves", "octaves", "families", "maps")}
    return {
        "cells": [_cell(one, pools) for one in result.cells],
        **{name: pool.values for name, pool in pools.items()},
        "kinds": KINDS,
        "edges": [edge if math.isfinite(edge) else figure(edge) for edge in EDGES],
        "levels": {"lowest": LOWEST_LEVEL, "infinite": INFINITE_LEVEL},
        "octaveEnds": {"none": NO_OCTAVE, "infinite": INFINITE_OCTAVE},
    }


def _cell(result: CellResult, pools: dict[str, Pool]) -> dict[str, Any]:
    cell, summary = result.cell, result.summary
    record = {
        "loss": cell.path.loss.name,
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
        "route": result.route.name if result.route else "unknown",
        "severity": severity_of(result).name,
        "meaning": severity_of(result).label,
    }
    if result.unavailable is not None:
        return {**record, "unavailable": result.unavailable}
    told = functools.partial(_begins, result)
    measures = {"loss": summary.loss_ulp, "gradient": summary.gradient_ulp}
    return {
        **record,
        "designed": summary.designed,
        "rows": summary.rows,
        "judged": summary.judged,
        "defects": {kind: count for kind, count in summary.defects.items() if count},
        "inaccuracies": {kind: count for kind, count in summary.inaccuracies.items() if count},
        "quantiles": {name: quantiles(summary, name) for name in measures},
        "mixed": [figure(summary.largest.get(f"{name}_mixed", math.nan)) for name in measures],
        "vanishing": told(kinds.GRADIENT_COLLAPSE),
        "zero": told(ZERO_GRADIENT),
        "plateau": told(kinds.SATURATION),
        "bias": figure(summary.bias),
        "curves": [pools["curves"].place(curve(one)) for one in measures.values()],
        "octaves": [
            pools["octaves"].place(Octaves.of(one).to_json()) for one in measures.values()
        ],
        "families": pools["families"].place(_families(summary, pools["octaves"])),
        "map": pools["maps"].place(summary.stability.to_json()),
    }


def _begins(result: CellResult, kind: str) -> str:
    """Where a kind begins, in the digits of `lossfuzz cliffs`; empty if it was not seen to."""
    text = begins_text(result.cliffs, kind, result.cell.format)
    return "" if text == NONE else text


def quantiles(summary: Summary, measure: str) -> list[float | str]:
    """Median, 99 %, 99.99 % and the largest ULP error."""
    histogram = getattr(summary, f"{measure}_ulp")
    largest = summary.largest.get(f"{measure}_ulp", math.nan)
    return [
        *(figure(min(histogram.quantile(share), largest)) for share in _SHARES),
        figure(largest),
    ]


def _families(summary: Summary, octaves: Pool) -> dict[str, Any]:
    return {
        name: {
            "rows": part.rows,
            "judged": part.judged,
            "defects": {kind: count for kind, count in part.defects.items() if count},
            "mixed": [figure(part.loss_mixed), figure(part.gradient_mixed)],
            "octaves": [
                octaves.place(one.to_json()) for one in (part.loss_ulp, part.gradient_ulp)
            ],
        }
        for name, part in sorted(summary.families.items())
    }


def curve(histogram: Histogram) -> list[list[float]]:
    """Points (error, share of errors above it), finite errors only, thinned to what is seen."""
    total = histogram.total
    if total == 0:
        return []
    above = 1 - np.cumsum(histogram.counts) / total
    errors, positions = _edges()
    occupied = np.flatnonzero(histogram.counts[:INFINITE_BIN])
    position = positions[occupied]
    shown = occupied[np.diff(position, append=np.inf) != 0]  # the last of those at one place
    return [[float(f"{errors[at]:.3g}"), float(f"{above[at]:.3g}")] for at in shown]


@functools.cache
def _edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every finite bin its upper edge as it is shown, and its place on the picture's axis."""
    errors = np.array([max(upper_edge(at), _SMALLEST_SHOWN) for at in range(INFINITE_BIN)])
    octaves = np.log2(errors)
    steps = np.where(octaves < _FINE_OCTAVES, _POINTS_PER_OCTAVE, 1 / 2)
    return errors, np.floor(octaves * steps)
