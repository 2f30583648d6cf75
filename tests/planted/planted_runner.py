"""Entries of the collection on lossfuzz's own machinery: batches, cells, measurements."""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.measuring.outcome import Outcome, outcome_of
from lossfuzz.harness.measuring.prepared import Prepared, prepare
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.mathematics import spec_of
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planted_entry import Planted, Sound

    from lossfuzz.harness.losses.spec import LossSpec

SHAPES = ((256, 3), (256, 10), (8, 32, 10), (4096, 2), (64, 257), (4, 32000), (2, 70000))
"""Few classes, as most bugs need; time; many rows; vocabularies, where sums and ids are lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caught:
    """The first defect that an entry shows in a cell.

    Attributes:
        kinds: of finding, in the batch that showed it.
        family: of that batch.
        shape: of that batch.
        rows: rows that were run, that batch's included.
        seconds: from the first call of the loss.
        outcome: of that batch.
    """

    kinds: frozenset[str]
    family: str
    shape: tuple[int, ...]
    rows: int
    seconds: float
    outcome: Outcome


def loss_of(entry: Planted | Sound) -> LossSpec:
    """What an entry is meant to compute."""
    return spec_of(entry.against, entry.reduction)


def path_of(entry: Planted | Sound) -> LossPath:
    """An entry as a loss path."""
    loss = loss_of(entry)
    return LossPath(
        name=f"planted/{entry.name}",
        loss=loss,
        api="tensorflow",
        call=lambda logits, targets, _: entry.loss(logits, targets),
        source="",
        documented=loss,
    )


@functools.cache
def batches(
    loss: LossSpec, format_name: str, shape: tuple[int, ...], rounds: int, seed: int
) -> tuple[Prepared, ...]:
    """Every family so many times, with exact values; the same for all entries of a loss."""
    recipes = planned_recipes(
        families=tuple(FAMILIES),
        fmt=format_named(format_name),
        shapes=(shape,),
        rows=rounds * len(FAMILIES) * math.prod(shape[:-1]),
        seed=seed,
    )
    return tuple(
        prepare(batch.logits, batch.labels, batch.recipe.to_json(), loss)
        for batch in map(expand, recipes)
    )


def outcomes(
    entry: Planted | Sound,
    format_name: str,
    mode: str,
    *,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
    rounds: int = 2,
    seed: int = 11,
) -> Iterator[Outcome]:
    """An entry in a cell, batch after batch."""
    loss = loss_of(entry)
    cell = Cell(path=path_of(entry), format=format_named(format_name), mode=mode, device="CPU:0")
    runner = CellRunner(cell)
    most = getattr(entry, "most_classes", None) if format_name == "float16" else None
    for shape in shapes:
        if most and shape[-1] > most:
            continue
        for prepared in batches(loss, format_name, shape, rounds, seed):
            yield outcome_of(runner, prepared)


def defects_of(outcome: Outcome) -> frozenset[str]:
    """The kinds of defect that a batch shows."""
    return frozenset(kind for kind, rows in outcome.measurement.defects.items() if rows.any())


def first_defect(entry: Planted, format_name: str, mode: str, **options: object) -> Caught | None:
    """The first batch on which an entry shows a defect of the expected kinds."""
    expected = frozenset(entry.kinds)
    rows, start = 0, time.perf_counter()
    for outcome in outcomes(entry, format_name, mode, **options):
        rows += int(np.prod(outcome.prepared.logits.shape[:-1]))
        found = defects_of(outcome)
        if found & expected or (found and not expected):
            return Caught(
                kinds=found,
                family=outcome.prepared.recipe["family"],
                shape=outcome.prepared.logits.shape,
                rows=rows,
                seconds=time.perf_counter() - start,
                outcome=outcome,
            )
    return None
