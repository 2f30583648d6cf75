"""Where requests are carried out: a protocol, and this machine's processes as its first engine."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from lossfuzz.campaign.messages import Event, Failed, Finished, Lost, Place, Request

if TYPE_CHECKING:
    from collections.abc import Mapping


class Engine(Protocol):
    """Carries out requests somewhere, one at a time on each of its workers.

    Small enough for another one: submit a request, get its result, lose a worker.
    """

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
    """

    def __init__(
        self, workers: int, start: Mapping[str, Any], *, seconds: float, memory: int
    ) -> None:
        """An engine whose workers start when they are needed.

        Args:
            workers: how many.
            start: the body of every worker's first request.
            seconds: that a worker may be silent.
            memory: bytes that a worker may hold.
        """
        self._size, self._start = workers, start
        self._seconds, self._memory = seconds, memory
        self._workers: list[_Process] = []
        self._selector = selectors.DefaultSelector()

    def free(self) -> int:
        """How many requests could be taken at once."""
        return self._size - sum(worker.request is not None for worker in self._workers)

    def groups(self) -> list[int | None]:
        """The group that each free worker did last; None for one that is still to be started."""
        idle: list[int | None] = [one.group for one in self._workers if one.request is None]
        return [*idle, *[None] * (self._size - len(self._workers))]

    def submit(self, request: Request) -> None:
        """Hand a request to a free worker, best one that did the same group last."""
        idle = [worker for worker in self._workers if worker.request is None]
        same = [worker for worker in idle if worker.group == request.group]
        if same:
            worker = same[0]
        elif len(self._workers) < self._size:
            worker = self._launch()
        else:
            worker = idle[0]
        worker.give(request)

    def next_event(self) -> Event:
        """Wait for a request to end, in whatever way."""
        while True:
            for key, _ in self._selector.select(timeout=_POLL_SECONDS):
                event = self._heard(key.data)
                if event is not None:
                    return event
            for worker in list(self._workers):
                reason = worker.overdue(self._seconds, self._memory)
                if reason is not None:
                    worker.kill()
                    return self._lose(worker, reason, timeout="silent" in reason)

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._selector.close()

    def _launch(self) -> _Process:
        worker = _Process(self._start)
        self._workers.append(worker)
        self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        return worker

    def _heard(self, worker: _Process) -> Event | None:
        lines = worker.read()
        if lines is None:
            if worker.request is None:  # it died without work: its successor is started in time
                self._drop(worker)
                return None
            return self._lose(worker, worker.death(), timeout=False)
        for line in lines:
            event = worker.take(json.loads(line))
            if event is not None:
                return event
        return None

    def _lose(self, worker: _Process, reason: str, *, timeout: bool) -> Lost:
        self._drop(worker)
        request = worker.request
        if request is None:
            raise RuntimeError("a worker without a request cannot be lost")
        return Lost(request=request, place=worker.place, reason=reason, timeout=timeout)

    def _drop(self, worker: _Process) -> None:
        self._selector.unregister(worker.answers)
        self._workers.remove(worker)
        worker.kill()


_POLL_SECONDS = 0.5
_START_SECONDS = 300.0


class _Process:
    """One worker process."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lossfuzz.campaign.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=tempfile.gettempdir(),  # where no folder named lossfuzz hides the package
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, module_paths()))},
            start_new_session=True,  # Ctrl-C is the coordinator's to answer
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._requests, self.answers = self._process.stdin, self._process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._rest = b""
        self._starting = True
        self._heard = time.monotonic()
        self.request: Request | None = None
        self.group: int | None = None
        self.place: Place | None = None
        self._send(json.dumps({"do": "start", **start}).encode() + b"\n")

    def give(self, request: Request) -> None:
        """Send a request."""
        self.request, self.group, self.place = request, request.group, None
        self._heard = time.monotonic()
        self._send(request.line())

    def _send(self, line: bytes) -> None:
        try:
            self._requests.write(line)
            self._requests.flush()
        except BrokenPipeError:
            return  # its death is noticed when its answers are read

    def read(self) -> list[bytes] | None:
        """Complete lines that have come; None at the end."""
        data = self.answers.read()
        if data == b"":
            return None
        *lines, self._rest = (self._rest + (data or b"")).split(b"\n")
        if lines:
            self._heard = time.monotonic()
        return lines

    def take(self, answer: dict[str, Any]) -> Event | None:
        """Understand an answer; returns how the request ended, if it did."""
        if "at" in answer:
            self.place = Place(cell=answer["at"], recipe=answer["recipe"], made=answer["made"])
            return None
        if self._starting and "done" in answer:
            self._starting = False
            return None
        request = self.request
        if request is None:
            return None
        self.request = None
        if "failed" in answer:
            return Failed(request=request, message=answer["failed"], audit=answer["audit"])
        return Finished(request=request, result=answer["done"])

    def overdue(self, seconds: float, memory: int) -> str | None:
        """Why the process must be ended; None if it need not."""
        if self.request is None:
            return None
        limit = _START_SECONDS if self._starting else seconds
        if time.monotonic() - self._heard > limit:
            return f"silent for {limit:g} s"
        held = resident_bytes(self._process.pid)
        if held > memory:
            return f"held {held >> 20} MiB of memory, allowed are {memory >> 20} MiB"
        return None

    def death(self) -> str:
        """How the process ended, with the last line that it wrote to standard error."""
        code = self._process.wait()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"the process ended with {how}" + (f": {last.strip()[:200]}" if last else "")

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in (self._requests, self.answers, self._errors):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def module_paths() -> list[str]:
    """Where a worker finds this package and TensorFlow; users' modules by `folders` alone.

    Never the folder here, nor another one whose own folder named lossfuzz would hide the package.
    """
    here, package = str(Path.cwd()), Path(__file__).parents[1]
    return [path for path in sys.path if path not in ("", here) and not _hides(path, package)]


def _hides(folder: str, package: Path) -> bool:
    other = Path(folder) / package.name
    return other.is_dir() and other.resolve() != package.resolve()


def resident_bytes(pid: int) -> int:
    """The memory that a process holds, in bytes; 0 where that cannot be seen."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0  # gone, or a system without /proc: then no limit is watched
    return pages * os.sysconf("SC_PAGESIZE")
