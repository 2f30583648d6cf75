"""Search: a share of the budget goes to mutations of the recipes that taught something.

A recipe teaches something if one of its cells shows a kind of finding for the first time in the
task, or errs by a larger power of two than before; below the defect bound, by a larger fourth of
one, so that the search climbs before it finds. Of each cell only the recipe with its largest
error is kept, and the first one of each kind. Each task has a corpus of its own, so its mutants
are a function of the plan and the task's number, whoever does it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.results.kinds import DEFECT, INACCURACY
from lossfuzz.plan import RECIPES_PER_TASK
from lossfuzz.strategies.mutations import mutated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lossfuzz.harness.measuring.outcome import Outcome
    from lossfuzz.harness.results.run import CellResult
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe

_LARGEST_LEVEL = 1023.0


@dataclass(slots=True)
class _Entry:
    """A recipe that taught something, and how often it was mutated.

    Attributes:
        recipe: it.
        margin: of the row that taught it.
        children: mutants that were made of it.
    """

    recipe: Recipe
    margin: float
    children: int = 0


class Corpus:
    """What one task has learnt, and the mutants that follow from it."""

    def __init__(self, plan: Plan, task: int) -> None:
        self._plan, self._task = plan, task
        self._turn = 0
        self._kept: dict[tuple[str, ...], _Entry] = {}
        self._levels: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._entries())

    def learn(self, recipe: Recipe, result: CellResult, outcome: Outcome) -> None:
        """Keep a recipe if a cell's outcome on its batch is news."""
        name = result.cell.name
        measured = outcome.measurement
        news: dict[tuple[str, ...], int] = {}
        for tier, flags in ((DEFECT, measured.defects), (INACCURACY, measured.inaccuracies)):
            for kind, flagged in flags.items():
                if (name, kind, tier) not in self._kept and flagged.any():
                    news[name, kind, tier] = int(flagged.argmax())
        for measure in ("loss_mixed", "gradient_mixed"):
            errors = measured.row_errors(measure)
            row = int(errors.argmax())
            level = _level(float(errors[row]), measured.bound)
            if level > self._levels.get((name, measure), -math.inf):
                self._levels[name, measure] = level
                news[name, measure] = row
        margins = outcome.prepared.conditions.margin
        entries: dict[int, _Entry] = {}
        for why, row in news.items():
            if row not in entries:
                entries[row] = _Entry(recipe=recipe, margin=float(margins[row]))
            self._kept[why] = entries[row]

    def _entries(self) -> list[_Entry]:
        return list({id(entry): entry for entry in self._kept.values()}.values())

    def mutant(self) -> Recipe | None:
        """The next mutated recipe; None while nothing was learnt."""
        turn = self._turn
        self._turn += 1
        entries = self._entries()
        if not entries:
            return None
        generator = np.random.default_rng([self._plan.seed, self._task, turn])
        fewest = min(one.children for one in entries)
        weights = np.array([2.0 ** (fewest - one.children) for one in entries])
        entry = entries[int(generator.choice(len(weights), p=weights / weights.sum()))]
        entry.children += 1
        return mutated(
            entry.recipe,
            generator,
            families=self._plan.families,
            shapes=self._plan.shapes,
            margin=entry.margin,
        )


def _level(error: float, bound: float) -> float:
    """The power of two of an error; below the bound in fourths."""
    if error == 0:
        return -math.inf
    power = min(math.log2(error), _LARGEST_LEVEL)
    return math.floor(power) if error > bound else math.floor(4 * power) / 4


class Searches:
    """The corpora of all tasks of a plan that is carried out in one process, batch by batch."""

    def __init__(self, plan: Plan, results: Iterable[CellResult]) -> None:
        self._plan = plan
        self._groups = plan.groups()
        by_cell = {
            (path.name, fmt.name, device): number
            for number, (paths, fmt, device) in enumerate(self._groups)
            for path in paths
        }
        self._members: list[list[CellResult]] = [[] for _ in self._groups]
        self._home: dict[str, int] = {}
        for result in results:
            cell = result.cell
            number = by_cell[cell.path.name, cell.format.name, cell.device]
            self._members[number].append(result)
            self._home[cell.name] = number
        self._corpora: list[Corpus] = []

    def start(self, number: int) -> None:
        """Begin new tasks where the recipe of that number, of each format, does."""
        if number % RECIPES_PER_TASK == 0:
            first = number // RECIPES_PER_TASK * len(self._groups)
            self._corpora = [Corpus(self._plan, first + k) for k in range(len(self._groups))]

    def learn(self, recipe: Recipe, result: CellResult, outcome: Outcome) -> None:
        """Tell the cell's corpus."""
        self._corpora[self._home[result.cell.name]].learn(recipe, result, outcome)

    def mutants(self, fmt: str, number: int) -> Iterator[tuple[Recipe, list[CellResult]]]:
        """What follows the recipe of that number in a format: mutants, each with its cells."""
        for _ in range(self._plan.mutants_after(number % RECIPES_PER_TASK)):
            for corpus, members, (_, group_format, _) in zip(
                self._corpora, self._members, self._groups, strict=True
            ):
                if group_format.dtype_name == fmt:
                    recipe = corpus.mutant()
                    if recipe is not None:
                        yield recipe, members
