"""The coordinator: hands out tasks, keeps what comes back, follows crashes down to a row.

It imports no TensorFlow, so that nothing that a loss path does can take it down.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import AuditError
from lossfuzz.campaign.following import Following
from lossfuzz.campaign.ledger import NEVER, Ledger
from lossfuzz.campaign.messages import Event, Failed, Finished, Lost, Place, Request
from lossfuzz.campaign.outcome import cliffs_key, merged
from lossfuzz.campaign.tasks import Task, cell_of, cell_to_json, count_of, task_numbered, tasks_of
from lossfuzz.errors import UsageError
from lossfuzz.harness.results.causes import finding_key, findings_to_shrink
from lossfuzz.harness.results.kinds import CRASH, TIMEOUT
from lossfuzz.harness.results.selection import cells_to_walk, worst_findings
from lossfuzz.plan import MEASURING_SHARE, SHRINKING_ENDS
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lossfuzz.campaign.engine import Engine
    from lossfuzz.campaign.store import Store
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.plan import Group, Plan

Progress = Callable[[int, int, str], None]
"""Called with tasks done, tasks in all (0 when time decides), and what was done last."""

_STARTS = 3
"""Workers that may die before they call a path: then there is no use in starting more."""

_SAME_TASK, _SAME_TASK_OUTSIDE = 3, 10
"""Losses of a worker over one task that nothing repeats, until they are told as a finding.

Those by signals that others send are no path's, as a rule.
"""

_IN_ALL = 8
"""Losses over one task, until what is left of its cells is left alone."""

_WINDOW = 64


class Coordinator:
    """One campaign, from its store's plan to its last finding."""

    def __init__(self, store: Store, plan: Plan, engine: Engine, progress: Progress) -> None:
        self._store, self._plan, self._engine = store, plan, engine
        self._ledger = Ledger(store, plan)
        self._progress = progress
        self._total = count_of(plan) or 0
        self._following = Following(plan, engine.seconds, self._aside, self._tell)
        self._losses: dict[int, list[Lost]] = {}
        self._counts: dict[int, int] = {}
        self._early = 0
        self._in_vain: set[int] = set()

    def run(self) -> None:
        """Do what is left to do: tasks, then the shrinking of findings, then the cliffs.

        Raises:
            AuditError: a worker found the exact reference wrong.
            UsageError: workers cannot start.
        """
        started, seconds = time.monotonic(), self._plan.seconds or math.inf
        try:
            self._do_tasks(started + MEASURING_SHARE * seconds)
        finally:
            self._ledger.close()
        self._reduce(started + SHRINKING_ENDS * seconds)
        self._find_cliffs(started + seconds)

    def _do_tasks(self, deadline: float) -> None:
        finished = self._ledger.finished
        waiting = (task for task in tasks_of(self._plan) if task.number not in finished)
        again: deque[Task] = deque()
        window: list[Task] = []
        running: dict[int, dict[str, int]] = {}
        while True:
            over = time.monotonic() > deadline and self._ledger.done > 0
            while self._engine.free() and not over:
                task = again.popleft() if again else self._chosen(waiting, window)
                if task is None:
                    break
                running[task.number] = self._ledger.left_out(task)
                self._engine.submit(_request(task, running[task.number]))
            if not running:
                return
            event = self._engine.next_event()
            task = task_numbered(self._plan, int(event.request.key))
            left_out = running.pop(task.number)
            if isinstance(event, Finished):
                self._early = 0
                again += self._ledger.take(task, event.result, left_out)
                self._tell(_what(task))
            elif isinstance(event, Lost):
                self._follow(task, event)
                again.append(task)
            else:
                _raise(event)

    def _tell(self, what: str) -> None:
        """Tell the user what happens now."""
        self._progress(self._ledger.done, self._total, what)

    def _chosen(self, waiting: Iterator[Task], window: list[Task]) -> Task | None:
        """The next task, best one whose cells a free worker has compiled already."""
        window.extend(islice(waiting, max(0, _WINDOW - len(window))))
        if not window:
            return None
        known = {group for group in self._engine.groups() if group is not None}
        place = next((k for k, task in enumerate(window) if task.group in known), 0)
        return window.pop(place)

    def _follow(self, task: Task, lost: Lost) -> None:
        """A worker is gone: learn why, so that the task can be done again and end.

        Raises:
            UsageError: workers cannot start.
        """
        place = lost.place
        if lost.starting or place is None:
            self._early += 1
            if self._early >= _STARTS:
                when = "while they start" if lost.starting else "before they call any path"
                raise UsageError(f"workers keep dying {when}: {lost.reason}")
            return
        if lost.away and lost.timeout:  # it computed exact values all that time
            self._skip(task, lost.reason)
            return
        if self._ledger.left_out(task).get(place.cell, place.recipe + 1) <= place.recipe:
            return  # an earlier task has told of the cell meanwhile
        finding = self._following.batch(lost, place) if place.task == task.number else None
        if finding is not None:
            self._ledger.leave_out(place, place.recipe, finding)
            return
        losses = self._losses.setdefault(task.number, [])
        losses.append(lost)
        count = self._counts[task.number] = self._counts.get(task.number, 0) + (not lost.outside)
        if count > _IN_ALL:
            self._skip(task, lost.reason)
        elif len(losses) > 1 and not lost.outside and task.number not in self._in_vain:
            self._follow_history(task, lost)
        elif len(losses) >= (_SAME_TASK_OUTSIDE if lost.outside else _SAME_TASK):
            most = _most_often(losses)
            self._ledger.leave_out(most, NEVER, self._following.unexplained(losses, most))
            losses.clear()

    def _follow_history(self, task: Task, lost: Lost) -> None:
        """Look for the calls that together end a worker; the cell of the last is left out."""
        finding = self._following.history(lost)
        if finding is None:
            self._in_vain.add(task.number)
            return
        cell = cell_of(finding)
        of = next(call for call in reversed(lost.calls) if call.cell == cell.name)
        self._ledger.leave_out(of, NEVER, finding)
        self._losses[task.number].clear()

    def _skip(self, task: Task, reason: str) -> None:
        """Leave all cells out of a task that cannot be done, and note it."""
        left_out = self._ledger.left_out(task)
        cells = {cell.name for cell in task.cells(self._plan)}
        rest = {cell for cell in cells if left_out.get(cell) != NEVER}
        self._ledger.skip(task, rest)
        note = (
            f"{amount(len(rest), 'cell')} of {_what(task)} ({', '.join(sorted(rest))}) "
            f"{verb(len(rest), 'was', 'were')} not measured in task {task.number}, over which "
            f"workers kept dying: {reason}"
        )
        self._store.keep("notes", [*self._store.fact("notes", ()), note])

    def _aside(self, request: Request) -> Lost | None:
        """Carry out a request while the other workers go on; their events wait."""
        event = self._wait_for(request)
        if isinstance(event, Failed):
            _raise(event)
        return event if isinstance(event, Lost) else None

    def _wait_for(self, request: Request) -> Any:
        self._engine.submit(request)
        held: list[Event] = []
        while True:
            event = self._engine.next_event()
            if event.request.key == request.key:
                self._engine = _Replaying(self._engine, held) if held else self._engine
                return event
            held.append(event)

    def _reduce(self, deadline: float) -> None:
        """Make findings small, one request each; from the deadline on they stay as they are."""
        known = self._store.reduced()
        cells = merged(self._store, self._plan).cells
        chosen = findings_to_shrink(cells, worst_findings(cells))
        for finding in chosen:
            if finding.kind in (CRASH, TIMEOUT):  # it is as it is, and is not run again
                self._store.keep_reduced(finding_key(finding), finding.to_json())
                known[finding_key(finding)] = {}
        waiting = deque(one for one in chosen if finding_key(one) not in known)
        dying = {cell for cells in self._store.left_out().values() for cell in cells}
        retried: set[str] = set()
        running: dict[str, Finding] = {}
        while waiting or running:
            if time.monotonic() > deadline:
                waiting.clear()
                if not running:
                    return
            while waiting and self._engine.free():
                finding = waiting.popleft()
                key = finding_key(finding)
                running[key] = finding
                body = {"finding": finding.to_json()}
                self._engine.submit(Request(kind="reduce", key=key, group=-1, body=body))
            event = self._engine.next_event()
            finding = running.pop(event.request.key)
            if isinstance(event, Failed):
                _raise(event)
            elif isinstance(event, Finished):
                self._store.keep_reduced(event.request.key, event.result["finding"])
            elif event.request.key in retried or finding.cell_name in dying:
                self._store.keep_reduced(event.request.key, finding.to_json())
            else:
                retried.add(event.request.key)
                waiting.append(finding)
            self._progress(len(chosen) - len(waiting), len(chosen), "shrinking findings")

    def _find_cliffs(self, deadline: float) -> None:
        """Find the exact margins at which cells break, one request each; twice at most.

        From the deadline on no more are looked for.
        """
        chosen = [
            result.cell
            for result in cells_to_walk(merged(self._store, self._plan).cells)
            if self._store.fact(cliffs_key(result.cell)) is None
        ]
        groups = self._plan.groups()
        waiting = deque((cell, 0) for cell in chosen)
        running: dict[str, tuple[Cell, int]] = {}
        while waiting or running:
            if time.monotonic() > deadline:
                waiting.clear()
                if not running:
                    return
            while waiting and self._engine.free():
                cell, tried = waiting.popleft()
                running[cell.name] = cell, tried
                self._engine.submit(
                    Request(
                        kind="cliffs",
                        key=cell.name,
                        group=_group_of(cell, groups),
                        body={"cell": cell_to_json(cell)},
                    )
                )
            event = self._engine.next_event()
            cell, tried = running.pop(event.request.key)
            if isinstance(event, Failed):
                _raise(event)
            elif isinstance(event, Finished):
                self._store.keep(cliffs_key(cell), event.result["cliffs"])
            elif tried:
                self._store.keep(cliffs_key(cell), [])
            else:
                waiting.append((cell, 1))
            self._progress(len(chosen) - len(waiting), len(chosen), "finding exact margins")


class _Replaying:
    """An engine that first tells what was held back."""

    def __init__(self, engine: Engine, held: list[Any]) -> None:
        self._engine, self._held, self.seconds = engine, deque(held), engine.seconds
        self.free, self.groups = engine.free, engine.groups
        self.submit, self.close = engine.submit, engine.close

    def next_event(self) -> Any:
        """The oldest event that was held back, else the engine's next."""
        return self._held.popleft() if self._held else self._engine.next_event()


def _group_of(cell: Cell, groups: Sequence[Group]) -> int:
    return next(
        number
        for number, (paths, fmt, device) in enumerate(groups)
        if cell.path in paths and cell.format == fmt and cell.device == device
    )


def _what(task: Task) -> str:
    return f"{task.paths[0].loss.name} {task.format.dtype_name}"


def _request(task: Task, left_out: Mapping[str, int]) -> Request:
    body = {"number": task.number, "left_out": [[cell, at] for cell, at in left_out.items()]}
    return Request(kind="task", key=str(task.number), group=task.group, body=body)


def _most_often(losses: Sequence[Lost]) -> Place:
    """Where most of the losses were; of equals, where the last of them was."""
    places = [lost.place for lost in losses if lost.place is not None]
    counts = Counter(place.cell for place in places)
    return max(enumerate(places), key=lambda one: (counts[one[1].cell], one[0]))[1]


def _raise(event: Failed) -> None:
    if event.audit:
        raise AuditError(event.message)
    raise UsageError(event.message)
