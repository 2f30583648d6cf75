"""What is done and what is left out, so that it does not depend on who did what first.

A cell that crashed or hung in a task is not run in the later tasks of its group. So the tasks of a
group are written in the order of their numbers, and one that was done with a cell that should have
been left out of it is done again without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.tasks import task_numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lossfuzz.campaign.messages import Place
    from lossfuzz.campaign.store import Store
    from lossfuzz.campaign.tasks import Task
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.plan import Plan

NEVER = -1
"""Of a cell that is not run in a task at all, not even for its route."""


class Ledger:
    """Finished tasks and cells that are left out, in front of a store."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._groups = max(1, len(plan.groups()))
        self._finished = store.finished()
        self._known = store.left_out()
        self._written = {(task, cell) for task, cells in self._known.items() for cell in cells}
        self._silent: dict[int, set[str]] = {}
        self._waiting: dict[int, tuple[Mapping[str, Any], dict[str, int]]] = {}
        self._next: dict[int, int] = {}

    @property
    def finished(self) -> frozenset[int]:
        """Numbers of the tasks that are written."""
        return frozenset(self._finished)

    @property
    def done(self) -> int:
        """How many tasks are done, written or waiting for an earlier one."""
        return len(self._finished) + len(self._waiting)

    def left_out(self, task: Task) -> dict[str, int]:
        """Names of a task's cells, to the step from which on they are not run."""
        found = {cell: at for cell, (at, _) in self._known.get(task.number, {}).items()}
        found.update(dict.fromkeys(self._silent.get(task.number, ()), NEVER))
        for number, cells in self._known.items():
            if number < task.number and number % self._groups == task.group:
                found.update(dict.fromkeys(cells, NEVER))
        return found

    def leave_out(self, place: Place, at: int, finding: Finding) -> None:
        """Leave a cell out of a task from a step on, and of the later ones, for a finding.

        What a later task of the group told of the cell is forgotten: it was run there only since
        the tasks are not done in their order.
        """
        for later, cells in self._known.items():
            if later > place.task and (later, place.cell) not in self._written:
                cells.pop(place.cell, None)
        known = self._known.setdefault(place.task, {})
        known[place.cell] = at, finding.to_json()
        self._written.discard((place.task, place.cell))
        if place.task in self._finished:
            self._write(place.task)

    def skip(self, task: Task, cells: set[str]) -> None:
        """Leave cells out of one task alone, without a finding."""
        self._silent.setdefault(task.number, set()).update(cells)

    def take(self, task: Task, result: Mapping[str, Any], left_out: dict[str, int]) -> list[Task]:
        """Write a result once those of earlier tasks of its group are there.

        Args:
            task: that was done.
            result: of it.
            left_out: as `left_out` said when it was begun.

        Returns:
            Tasks that are to be done again.
        """
        self._waiting[task.number] = result, left_out
        again = []
        while (number := self._open(task.group)) in self._waiting:
            if not self._settle(number):
                again.append(task_numbered(self._plan, number))
                break
        return again

    def close(self) -> None:
        """Write what is there, as no earlier task will come."""
        for number in sorted(self._waiting):
            self._settle(number)
        for number in self._known:
            self._write(number)

    def _open(self, group: int) -> int:
        """The first task of a group that is not written."""
        number = self._next.get(group, group)
        while number in self._finished:
            number += self._groups
        self._next[group] = number
        return number

    def _settle(self, number: int) -> bool:
        """Write a task that waits, if it was done with the right cells."""
        result, left_out = self._waiting.pop(number)
        if left_out != self.left_out(task_numbered(self._plan, number)):
            return False
        self._write(number)
        self._store.finish(number, dict(result))
        self._finished.add(number)
        return True

    def _write(self, number: int) -> None:
        for cell, (at, finding) in self._known.get(number, {}).items():
            if (number, cell) not in self._written:
                self._store.leave_out(number, cell, at, finding)
                self._written.add((number, cell))
