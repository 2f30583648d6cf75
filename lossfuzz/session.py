"""One session of measuring in this process: rounds of batches, and what is done with findings.

`running.run` and `checking.check` are sessions that differ in the order of their batches, in when
they have enough, and in what they make of the findings.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.confirming import made_small
from lossfuzz.harness.results.kinds import MODE_DISAGREEMENT
from lossfuzz.harness.results.run import CellResult
from lossfuzz.measuring import Measuring
from lossfuzz.search import Searches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.running.execution import Runner
    from lossfuzz.plan import Plan
    from lossfuzz.rounds import Round
    from lossfuzz.strategies.recipes import Recipe


class Session:
    """The state of one session.

    Attributes:
        plan: what is measured.
        cells: its cells, with what was found of each.
        measuring: their runners, and where rows and time went.
        deadline: of `time.perf_counter`, of all that the session does.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cells = [CellResult(cell) for cell in plan.cells()]
        self.measuring = Measuring(shapes=plan.shapes)
        self.deadline = math.inf

    def start_budget(self, share: float, started: float) -> None:
        """Share the budget in seconds, if that is one.

        Args:
            share: of it that is for measuring.
            started: when it began, in the time of `time.perf_counter`.
        """
        if self.plan.seconds is not None:
            self.deadline = started + self.plan.seconds
            self.measuring.deadline = started + share * self.plan.seconds

    def measure(self, rounds: Iterable[Round]) -> None:
        """Run rounds until the budget is spent, or until there is enough."""
        searches = Searches(self.plan, self.cells)
        for one in rounds:
            if self.is_over():
                return
            cells = [cell for cell in self.cells if cell.cell.mode in one.modes]
            self.measuring.find_routes(cells)
            if self.is_hopeless():
                return
            if one.number is not None:
                searches.start(one.number)
            for recipe in one.recipes:
                if self.is_over():
                    return
                self.begin(recipe)
                if one.number is None:
                    self.measuring.measure_batch(recipe, cells)
                else:
                    self._measure_and_search(one.number, recipe, cells, searches)
                self.end()
            if self.has_enough():
                return

    def _measure_and_search(
        self, number: int, recipe: Recipe, cells: list[CellResult], searches: Searches
    ) -> None:
        self.measuring.measure_batch(recipe, cells, learn=searches.learn)
        for mutant, of_group in searches.mutants(recipe.format, number):
            self.measuring.measure_batch(mutant, of_group, learn=searches.learn, counted=False)
            if self.is_over():
                return

    def is_over(self) -> bool:
        """Whether the time for measuring is over."""
        return self.measuring.is_over()

    def is_hopeless(self) -> bool:
        """Whether nothing more can be measured, now that the routes of a round are known."""
        return False

    def has_enough(self) -> bool:
        """Whether what was found so far is all that is wanted."""
        return False

    def begin(self, recipe: Recipe) -> None:
        """Called before each batch of the plan."""

    def end(self) -> None:
        """Called after each batch of the plan."""

    def small(self, finding: Finding, deadline: float) -> Finding:
        """A finding made small, as it is shown."""
        result = next(one for one in self.cells if one.cell.name == finding.cell_name)
        others = self._other_modes(result) if finding.kind == MODE_DISAGREEMENT else {}
        return made_small(finding, self.measuring.runner(result), others=others, deadline=deadline)

    def _other_modes(self, result: CellResult) -> dict[str, Runner]:
        """Mode to runner of the same path and format, where it runs."""
        return {
            one.cell.mode: self.measuring.runner(one)
            for one in self.cells
            if one is not result
            and replace(one.cell, mode=result.cell.mode) == result.cell
            and one.unavailable is None
            and one.summary.rows
        }

    def ask_policies(self) -> None:
        """Record what every cell does with logits that have no exact value."""
        for one in self.cells:
            if one.summary.rows and self.plan.bounds is None and not self.measuring.is_over():
                self.measuring.ask_policy(one, self.plan.shapes[0])
