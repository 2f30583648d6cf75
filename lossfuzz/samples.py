"""As how many independent samples a run's rows count: those of a batch resemble each other."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.records.fields import shapes_of
from lossfuzz.strategies.recipes import planned_batches

if TYPE_CHECKING:
    from lossfuzz.harness.results.summary import Summary

    Pair = tuple[float, float]


CORRELATION = 0.6
"""Of the rows of one batch, within its family; a cautious figure."""


def joined_plans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The plans that a run is joined of; itself where it is not."""
    joined: list[dict[str, Any]] = plan.get("joined", [plan])
    return joined


def independent_samples(plan: dict[str, Any], summary: Summary) -> Pair:
    """How many independent samples a cell's judged rows, and their components, count as."""
    one = joined_plans(plan)[0]
    reduced = summary.loss_ulp.total < summary.judged
    correlation = 1.0 if reduced else CORRELATION
    counts = _effective(tuple(one["families"]), shapes_of(one), summary.rows, correlation)
    judged = summary.judged / summary.rows if summary.rows else 0.0
    return counts[0] * judged, counts[1] * judged


@functools.cache
def _effective(
    families: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], rows: int, correlation: float
) -> Pair:
    """The numbers for the batches that a plan makes, of rows and of their components."""
    sizes = [
        (math.prod(shape[:-1]), math.prod(shape))
        for _, shape in planned_batches(families, shapes, rows)
    ]
    weights = np.array(sizes or [(1, 1)], np.float64)
    inflation = correlation + (1 - correlation) / weights[:, :1]
    found = weights.sum(0) ** 2 / (weights**2 * inflation).sum(0)
    return float(found[0]), float(found[1])
