"""The coordinator: hands out tasks, keeps what comes back, follows crashes down to a row.

It imports no TensorFlow, so that nothing that a loss path does can take it down.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import AuditError
from lossfuzz.campaign.bisection import record, rows_of
from lossfuzz.campaign.messages import Event, Failed, Finished, Lost, Place, Request
from lossfuzz.campaign.outcome import cliffs_key, merged
from lossfuzz.campaign.tasks import Task, cell_to_json, count_of, task_numbered, tasks_of
from lossfuzz.errors import UsageError
from lossfuzz.harness.causes import finding_key, findings_to_shrink
from lossfuzz.harness.findings import CRASH, TIMEOUT
from lossfuzz.harness.results import cells_to_walk, worst_findings
from lossfuzz.plan import MEASURING_SHARE, SHRINKING_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.campaign.engine import Engine
    from lossfuzz.campaign.store import Store
    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.findings import Finding
    from lossfuzz.plan import Group, Plan

Progress = Callable[[int, int, str], None]
"""Called with tasks done, tasks in all (0 when time decides), and what was done last."""

_PATIENCE = 50
"""Losses of a worker over one task that no probe repeats: what kills them is not in the task."""


class Coordinator:
    """One campaign, from its store's plan to its last finding."""

    def __init__(self, store: Store, plan: Plan, engine: Engine, progress: Progress) -> None:
        self._store, self._plan, self._engine = store, plan, engine
        self._progress = progress
        self._left_out = store.left_out()
        self._losses: dict[int, int] = {}

    def run(self) -> None:
        """Do what is left to do: tasks, then the shrinking of findings, then the cliffs.

        Raises:
            AuditError: a worker found the exact reference wrong.
            UsageError: a worker cannot start, or keeps dying outside of any path.
        """
        started, seconds = time.monotonic(), self._plan.seconds or math.inf
        self._do_tasks(started + MEASURING_SHARE * seconds)
        self._reduce(started + SHRINKING_ENDS * seconds)
        self._find_cliffs(started + seconds)

    def _do_tasks(self, deadline: float) -> None:
        finished = self._store.finished()
        total, done = count_of(self._plan) or 0, len(finished)
        waiting = (task for task in tasks_of(self._plan) if task.number not in finished)
        again: deque[Task] = deque()
        window: list[Task] = []
        running = 0
        while True:
            over = time.monotonic() > deadline and done > 0
            while self._engine.free() and not over:
                task = again.popleft() if again else self._chosen(waiting, window)
                if task is None:
                    break
                self._engine.submit(self._request(task))
                running += 1
            if not running:
                return
            event = self._engine.next_event()
            running -= 1
            task = task_numbered(self._plan, int(event.request.key))
            if isinstance(event, Finished):
                self._store.finish(task.number, dict(event.result))
                done += 1
                self._progress(done, total, _what(task))
            elif isinstance(event, Lost):
                self._follow(task, event)
                again.append(task)
            else:
                _raise(event)

    def _chosen(self, waiting: Iterator[Task], window: list[Task]) -> Task | None:
        """The next task, best one whose cells a free worker has compiled already."""
        window.extend(islice(waiting, max(0, _WINDOW - len(window))))
        if not window:
            return None
        known = {group for group in self._engine.groups() if group is not None}
        place = next((k for k, task in enumerate(window) if task.group in known), 0)
        return window.pop(place)

    def _request(self, task: Task) -> Request:
        left_out = [[cell, at] for cell, (at, _) in self._left_out.get(task.number, {}).items()]
        body = {"number": task.number, "left_out": left_out}
        return Request(kind="task", key=str(task.number), group=task.group, body=body)

    def _follow(self, task: Task, lost: Lost) -> None:
        """A worker is gone: the first time in a task try again, then look for what does it."""
        count = self._losses[task.number] = self._losses.get(task.number, 0) + 1
        if count > _PATIENCE or (lost.place is None and count > _STARTS):
            raise UsageError(
                f"workers keep dying on {_what(task)} outside of any path: {lost.reason}"
            )
        if count < 2 or lost.place is None:
            return
        again = self._probe(task, lost.place, None)
        if again is None:
            return  # whatever it was, it was not the path
        kind = TIMEOUT if again.timeout else CRASH
        row = self._row(task, lost.place, timeout=again.timeout)
        finding = record(
            kind,
            self._plan,
            task.number,
            lost.place.cell,
            lost.place.made,
            row,
            again.reason,
        )
        self._store.leave_out(task.number, lost.place.cell, lost.place.recipe, finding.to_json())
        self._left_out = self._store.left_out()

    def _probe(self, task: Task, place: Place, rows: tuple[int, int] | None) -> Lost | None:
        """Run a batch, or rows of it, through the suspected cell alone; None if it survives."""
        body = {
            "number": task.number,
            "cell": place.cell,
            "made": dict(place.made) if place.made else None,
            "rows": list(rows) if rows else None,
        }
        request = Request(kind="probe", key=f"probe {task.number}", group=-1, body=body)
        return self._aside(request)

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

    def _row(self, task: Task, place: Place, *, timeout: bool) -> int | None:
        """The row that does it alone, by halving; None if none does, or for a route."""
        if place.made is None:
            return None
        start, stop = 0, rows_of(place.made)
        while stop - start > 1:
            middle = (start + stop) // 2
            for half in ((start, middle), (middle, stop)):
                lost = self._probe(task, place, half)
                if lost is not None and lost.timeout == timeout:
                    start, stop = half
                    break
            else:
                return None
        return start

    def _reduce(self, deadline: float) -> None:
        """Make findings small, one request each; from the deadline on they stay as they are."""
        known = self._store.reduced()
        cells = merged(self._store, self._plan).cells
        chosen = findings_to_shrink(cells, worst_findings(cells))
        waiting = deque(one for one in chosen if finding_key(one) not in known)
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
            elif event.request.key in retried:
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


_WINDOW = 64
_STARTS = 3


class _Replaying:
    """An engine that first tells what was held back."""

    def __init__(self, engine: Engine, held: list[Any]) -> None:
        self._engine, self._held = engine, deque(held)
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


def _raise(event: Failed) -> None:
    if event.audit:
        raise AuditError(event.message)
    raise UsageError(event.message)
