"""One worker process, as the coordinator sees it: requests in, answers out, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Any

from lossfuzz.campaign.machine import is_stopped, module_paths, resident_bytes
from lossfuzz.campaign.messages import Event, Failed, Finished, Lost, Place
from lossfuzz.harness.records.exit_status import ending

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lossfuzz.campaign.messages import Request

_START_SECONDS = 300.0
_OWN_SECONDS = 1800.0
"""How long a worker may compute exact values without a word: no path is at fault then."""

_WATCHED = ("task", "probe", "replay")
"""Requests within which every call of a path is announced."""

_STOPPED_SECONDS = 10.0
"""How long a worker may be stopped, which its coordinator is not."""

_GRACE_SECONDS = 5.0
_KEPT_CALLS = 512
_CHUNK = 1 << 20
_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""Signals that somebody sends, such as a user or a system that is short of memory."""


class WorkerProcess:
    """A process that carries out one request at a time.

    Attributes:
        answers: the pipe that its answers come through.
        request: what it does; None if it is free.
        group: of the request that it did last.
        unused: whether it has done nothing yet.
    """

    def __init__(self, start: Mapping[str, Any], folder: Path, slowest: dict[str, float]) -> None:
        """Start the process.

        Args:
            start: the body of its first request.
            folder: of its own, for its temporary files; removed with it.
            slowest: by name of cell, the longest time that a batch took; kept up to date.
        """
        self._folder, self._slowest = folder, slowest
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "lossfuzz.campaign.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,  # where no folder named lossfuzz hides the package
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, module_paths())),
                "TMPDIR": str(folder),
            },
            start_new_session=True,  # Ctrl-C is the coordinator's to answer
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._requests, self.answers = self._process.stdin, self._process.stdout
        os.set_blocking(self.answers.fileno(), False)
        self._rest = b""
        self._number = 0
        self._starting, self._away = True, True
        self._heard = self._called = self._ran = time.monotonic()
        self._calls: deque[tuple[float, Place]] = deque(maxlen=_KEPT_CALLS)
        self.unused = True
        self.request: Request | None = None
        self.group: int | None = None
        self._send(json.dumps({"id": 0, "do": "start", **start}).encode() + b"\n")

    def give(self, request: Request) -> None:
        """Send a request."""
        self.request, self.group, self.unused = request, request.group, False
        self._number += 1
        self._away = True
        self._heard = self._ran = time.monotonic()
        self._send(request.line(self._number))

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # its death is noticed when it is read
            self._requests.write(line)
            self._requests.flush()

    def read(self) -> list[bytes] | None:
        """Complete lines that have come; None at the end."""
        try:
            data = os.read(self.answers.fileno(), _CHUNK)
        except BlockingIOError:
            return []
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines

    def take(self, line: bytes) -> Event | None:
        """Understand an answer; returns how the request ended, if it did."""
        answer = self._answer(line)
        if answer is None:
            return None
        self._heard = time.monotonic()
        if "at" in answer or "away" in answer:
            self._note(answer)
        elif self._starting and "done" in answer:
            self._starting = False
        elif self.request is not None:
            request, self.request = self.request, None
            if "failed" in answer:
                return Failed(request=request, message=answer["failed"], audit=answer["audit"])
            return Finished(request=request, result=answer["done"])
        return None

    def _answer(self, line: bytes) -> dict[str, Any] | None:
        """A line as what it says; None of one that is another process's or request's, or none."""
        try:
            answer = json.loads(line)
        except ValueError:
            return None
        mine = {"id": 0 if self._starting else self._number, "pid": self._process.pid}
        if not isinstance(answer, dict) or not mine.items() <= answer.items():
            return None
        return answer

    def _note(self, answer: Mapping[str, Any]) -> None:
        """Keep a call, and the time that the one before took."""
        if not self._away and self._calls and self._calls[-1][1].made is not None:
            cell = self._calls[-1][1].cell
            took = self._heard - self._called
            self._slowest[cell] = max(self._slowest.get(cell, 0.0), took)
        self._away = "away" in answer
        if not self._away:
            self._called = self._heard
            place = Place(
                task=answer["task"],
                cell=answer["at"],
                recipe=answer["recipe"],
                made=answer["made"],
            )
            self._calls.append((self._heard, place))

    def overdue(self, seconds: float, memory: int) -> tuple[str, bool] | None:
        """Why the process must be ended, and whether for silence; None if it need not.

        Args:
            seconds: that a call may take, where its request does not say.
            memory: bytes that it may hold; 0 or less where that is not known.
        """
        if self.request is None:
            return None
        if self._starting:
            limit = _START_SECONDS
        else:
            limit = seconds if self.request.seconds is None else self.request.seconds
            if self._away and self.request.kind in _WATCHED:
                limit = max(limit, _OWN_SECONDS)
        now = time.monotonic()
        if now - self._heard > limit:
            return f"silent for {limit:.3g} s", True
        if not is_stopped(self._process.pid):
            self._ran = now
        elif now - self._ran > min(limit, _STOPPED_SECONDS):
            return f"stopped for {now - self._ran:.3g} s, as by SIGSTOP", True
        held = resident_bytes(self._process.pid)
        if 0 < memory < held:
            return (
                f"held {held >> 20} MiB of memory, allowed are {memory >> 20} MiB",
                False,
            )
        return None

    def ended(self) -> bool:
        """Whether the process is no more, although something of it may hold its pipe open."""
        return self._ended_within(0.0)

    def lost(self, overdue: tuple[str, bool] | None = None) -> Lost:
        """What is known of the process, which is ended if it has not ended by itself.

        Args:
            overdue: as `overdue` said; None of one that has ended.
        """
        if self.request is None:
            raise RuntimeError("a worker without a request cannot be lost")
        ended_itself = overdue is None and self._ended_within(_GRACE_SECONDS)
        self._kill_all()
        code = self._process.wait()
        if overdue is not None:
            reason = overdue[0]
        elif ended_itself:
            reason = self._death(code)
        else:
            reason = "the process closed the pipe that its answers come through"
        calls = tuple(place for _, place in self._calls)
        return Lost(
            request=self.request,
            reason=reason,
            timeout=overdue is not None and overdue[1],
            outside=ended_itself and -code in _OUTSIDE,
            starting=self._starting,
            away=self._away,
            calls=calls,
            seconds=time.monotonic() - self._calls[0][0] if calls else 0.0,
            usual=self._slowest.get(calls[-1].cell) if calls else None,
        )

    def _death(self, code: int) -> str:
        """How the process ended, with the last line that it wrote to standard error."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = _telling(lines)
        return f"the process ended with {ending(code)}" + (f": {last[:200]}" if last else "")

    def _ended_within(self, seconds: float) -> bool:
        """Whether the process ends so soon; it keeps its number until it is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            if self._process.returncode is not None:
                return True
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            try:
                if os.waitid(os.P_PID, self._process.pid, options) is not None:
                    return True
            except ChildProcessError:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def _kill_all(self) -> None:
        """End the process and all that it started and left in its group."""
        if self._process.returncode is None:  # till then its number is nobody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """End the process and all that it started, and remove its folder."""
        self._kill_all()
        self._process.wait()
        for pipe in (self._requests, self.answers, self._errors):
            with contextlib.suppress(OSError):
                pipe.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _telling(lines: list[str]) -> str:
    """The line that tells why a process ended: the last one that is none of a C++ stack."""
    told = [line.strip() for line in lines if not line.lstrip().startswith(("@ ", "***"))]
    fatal = [line for line in told if "Check failed" in line]
    return next((line for line in reversed(fatal or told) if line), "")
