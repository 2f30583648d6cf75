"""Where requests are carried out: a protocol, and this machine's processes as its first engine."""

from __future__ import annotations

import contextlib
import selectors
from typing import TYPE_CHECKING, Any, Protocol

from lossfuzz.campaign.machine import module_paths, resident_bytes
from lossfuzz.campaign.process import WorkerProcess
from lossfuzz.campaign.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lossfuzz.campaign.messages import Event, Request

__all__ = ["Engine", "LocalEngine", "module_paths", "resident_bytes"]


class Engine(Protocol):
    """Carries out requests somewhere, one at a time on each of its workers.

    Small enough for another one: submit a request, get its result, lose a worker.

    Attributes:
        seconds: that a call may take, where its request does not say.
    """

    seconds: float

    def free(self) -> int:
        """How many requests could be taken at once."""

    def groups(self) -> list[int | None]:
        """The group that each free worker did last."""

    def submit(self, request: Request) -> None:
        """Hand a request to a free worker, best one that did the same group last."""

    def next_event(self) -> Event:
        """Wait for a request to end, in whatever way."""

    def close(self) -> None:
        """End all workers."""


class LocalEngine:
    """Worker processes on this machine, each with TensorFlow in one thread.

    A worker that dies, says nothing for too long, or takes too much memory is lost, and replaced
    when the next request needs it.

    Attributes:
        seconds: that a call may take, where its request does not say.
    """

    def __init__(
        self, workers: int, start: Mapping[str, Any], *, seconds: float, memory: int
    ) -> None:
        """An engine whose workers start when they are needed.

        Args:
            workers: how many.
            start: the body of every worker's first request.
            seconds: that a worker may be silent within a call.
            memory: bytes that a worker may hold; 0 or less where the machine does not tell its
                own, and then none is watched.
        """
        self._size, self._start = workers, start
        self.seconds, self._memory = seconds, memory
        self._workers: list[WorkerProcess] = []
        self._selector = selectors.DefaultSelector()
        self._scratch: Scratch | None = None
        self._slowest: dict[str, float] = {}

    def free(self) -> int:
        """How many requests could be taken at once."""
        return self._size - sum(worker.request is not None for worker in self._workers)

    def groups(self) -> list[int | None]:
        """The group that each free worker did last; None for one that is still to be started."""
        idle: list[int | None] = [one.group for one in self._workers if one.request is None]
        return [*idle, *[None] * (self._size - len(self._workers))]

    def submit(self, request: Request) -> None:
        """Hand a request to a free worker, best one that did the same group last."""
        self._worker_for(request).give(request)

    def _worker_for(self, request: Request) -> WorkerProcess:
        idle = [worker for worker in self._workers if worker.request is None]
        if request.fresh:
            unused = [worker for worker in idle if worker.unused]
            if unused:
                return unused[0]
            if len(self._workers) == self._size:
                self._drop(idle[0])
            return self._launch()
        same = [worker for worker in idle if worker.group == request.group]
        if same:
            return same[0]
        return self._launch() if len(self._workers) < self._size else idle[0]

    def next_event(self) -> Event:
        """Wait for a request to end, in whatever way."""
        while True:
            for key, _ in self._selector.select(timeout=_POLL_SECONDS):
                event = self._heard(key.data)
                if event is not None:
                    return event
            for worker in list(self._workers):
                overdue = worker.overdue(self.seconds, self._memory)
                if overdue is not None:
                    return self._lose(worker, overdue)
                if worker.ended():  # what it has started may hold its pipe open
                    event = self._heard(worker, ended=True)
                    if event is not None:
                        return event

    def close(self) -> None:
        """End all workers, and remove what they left in their folders."""
        for worker in self._workers:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(worker.answers)
            worker.end()
        self._workers.clear()
        self._selector.close()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _launch(self) -> WorkerProcess:
        if self._scratch is None:
            self._scratch = Scratch()
        worker = WorkerProcess(self._start, self._scratch.folder(), self._slowest)
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        return worker

    def _heard(self, worker: WorkerProcess, *, ended: bool = False) -> Event | None:
        """What a worker said; or that it ended, once nothing more comes from it."""
        lines = worker.read()
        if lines is None or (ended and not lines):
            if worker.request is None:  # it died without work: its successor is started in time
                self._drop(worker)
                return None
            return self._lose(worker)
        for line in lines:
            event = worker.take(line)
            if event is not None:
                return event
        return None

    def _lose(self, worker: WorkerProcess, overdue: tuple[str, bool] | None = None) -> Event:
        lost = worker.lost(overdue)
        self._drop(worker)
        return lost

    def _drop(self, worker: WorkerProcess) -> None:
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        worker.end()


_POLL_SECONDS = 0.2
