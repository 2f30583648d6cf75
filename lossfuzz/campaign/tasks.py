"""A plan cut into tasks: each a pure function of the plan and its own number.

A task takes a few paths of one loss in one format on one device, in all modes of the plan, over
some consecutive recipes. All modes of a path are in one task, since they are compared; paths of a
loss share its reference. Tasks of the same cells share a group, so that a worker that has compiled
them can be given the next of their tasks.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import path_named
from lossfuzz.plan import RECIPES_PER_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A part of a plan.

    Attributes:
        number: from 0; the order in which results are merged.
        group: of the tasks with the same cells.
        paths: of one loss.
        format: of the logits.
        device: TensorFlow's name.
        first: number of the first recipe of the format.
    """

    number: int
    group: int
    paths: tuple[LossPath, ...]
    format: FloatFormat
    device: str
    first: int

    def cells(self, plan: Plan) -> list[Cell]:
        """The task's cells, in the plan's order."""
        return [
            Cell(path=path, format=self.format, mode=mode, device=self.device)
            for path in self.paths
            for mode in plan.modes
        ]

    def recipes(self, plan: Plan) -> list[Recipe]:
        """The task's recipes."""
        stream = plan.recipes(self.format)
        return list(itertools.islice(stream, self.first, self.first + RECIPES_PER_TASK))

    def steps(self, plan: Plan) -> list[Recipe | None]:
        """The task's recipes in the order of their turns, None where a mutant has its turn."""
        found: list[Recipe | None] = []
        for number, recipe in enumerate(self.recipes(plan)):
            found += [recipe, *[None] * plan.mutants_after(number)]
        return found


def tasks_of(plan: Plan) -> Iterator[Task]:
    """All tasks: every group for the first recipes, then for the next; endless without rows."""
    groups = plan.groups()
    recipes = math.inf if plan.rows is None else recipes_per_format(plan)
    number = 0
    for turn in itertools.count():
        first = turn * RECIPES_PER_TASK
        if first >= recipes:
            return
        for group, (paths, fmt, device) in enumerate(groups):
            yield Task(
                number=number, group=group, paths=paths, format=fmt, device=device, first=first
            )
            number += 1


def task_numbered(plan: Plan, number: int) -> Task:
    """The task of a number."""
    groups = plan.groups()
    turn, group = divmod(number, len(groups))
    paths, fmt, device = groups[group]
    return Task(
        number=number,
        group=group,
        paths=paths,
        format=fmt,
        device=device,
        first=turn * RECIPES_PER_TASK,
    )


def count_of(plan: Plan) -> int | None:
    """How many tasks a plan has; None where time decides."""
    if plan.rows is None:
        return None
    return len(plan.groups()) * -(-recipes_per_format(plan) // RECIPES_PER_TASK)


def recipes_per_format(plan: Plan) -> int:
    """How many recipes the budget in rows makes for each format."""
    return sum(1 for _ in plan.recipes(plan.formats[0]))


def cell_to_json(cell: Cell) -> dict[str, str]:
    """A cell as JSON's types."""
    return {
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
    }


def cell_of(finding: Finding) -> Cell:
    """The cell that a finding is of."""
    return Cell(
        path=path_named(finding.path),
        format=format_named(finding.format),
        mode=finding.mode,
        device=finding.device,
    )
