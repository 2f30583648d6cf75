"""The process of a subject: its start, one request and answer at a time, and its end.

Nothing outlives it: its files have no names, its input ends when this process does, and then it
ends too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

from lossfuzz.harness.records.exit_status import ending
from lossfuzz.harness.running import server

_GRACE_S = 5.0
"""How long a process that was told to end, or whose output ended, may take to do so."""

_KEPT_ERRORS = 65536
_NOT_INHERITED = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
"""Settings for this interpreter that would lead another one to the wrong packages."""


class SubjectError(RuntimeError):
    """A subject cannot be had; the message says why in one line."""


class SubjectDiedError(SubjectError):
    """A subject's process ended by itself."""


class SubjectTimeoutError(SubjectError):
    """A subject did not answer in time, and was killed."""


def program_path(python: str) -> str:
    """The absolute path of an interpreter that a user named: relative, with ``~``, or on PATH.

    Symbolic links stay as they are: a virtual environment's interpreter is one, and finds its
    packages by its own path.

    Raises:
        SubjectError: there is no such program.
    """
    try:
        path = Path(python).expanduser()
    except RuntimeError as error:
        raise SubjectError(f"cannot start {python}: {error}") from None
    if "/" not in python:
        found = shutil.which(python)
        if found is None and not path.is_dir():
            raise SubjectError(
                f"cannot start {python}: no program of that name is on PATH; expected an "
                "interpreter's path or name"
            )
        path = Path(found) if found is not None else path
    if path.is_dir():
        raise SubjectError(
            f"cannot start {python}: it is a folder; expected an interpreter, such as "
            f"{path / 'bin' / 'python'}"
        )
    if not path.exists():
        raise SubjectError(f"cannot start {python}: No such file or directory")
    return str(path.absolute())


class SubjectProcess:
    """A running `server.py`.

    Attributes:
        python: the interpreter, as it was given.
        memory: descriptor of the file that holds the arrays.
    """

    def __init__(self, python: str) -> None:
        """Start the process; it answers once it has imported what it needs.

        Raises:
            SubjectError: there is no such program.
        """
        self.python = python
        program = program_path(python)
        self._timeout = 0.0
        self._deadline = 0.0
        self._received = bytearray()
        self.memory, self._errors = _nameless_file(), _nameless_file()
        fcntl.fcntl(self._errors, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the user named the program
                [program, server.__file__, str(self.memory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                pass_fds=(self.memory,),
                env={key: os.environ[key] for key in os.environ if key not in _NOT_INHERITED},
                start_new_session=True,  # Ctrl-C is for this process, which then decides
            )
        except OSError as error:
            os.close(self.memory)
            os.close(self._errors)
            raise SubjectError(f"cannot start {python}: {error.strerror}") from None
        self._end = weakref.finalize(self, _end, self._process, (self.memory, self._errors))

    @property
    def alive(self) -> bool:
        """Whether it can be asked something."""
        return self._end.alive

    def send(self, request: dict[str, Any], timeout: float) -> None:
        """Ask something; the answer must be there after so many seconds.

        Raises:
            SubjectDiedError: the process is no more.
        """
        if not self.alive:
            raise SubjectDiedError(f"{self.python} has ended: start it anew")
        if (
            self._deadline
        ):  # what it said at its start may tell of a death before the first request
            os.ftruncate(self._errors, 0)  # what is told of a later one shall belong to it
        self._timeout, self._deadline = timeout, time.monotonic() + timeout
        try:
            _stream(self._process.stdin).write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> dict[str, Any]:
        """The answer to what was sent.

        Raises:
            SubjectDiedError: the process ended instead.
            SubjectTimeoutError: it did not answer in time, and was killed.
            SubjectError: what it said is no answer.
        """
        if not self.alive:
            raise SubjectDiedError(f"{self.python} has ended: start it anew")
        output = _stream(self._process.stdout).fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    self.kill()
                    raise SubjectTimeoutError(
                        f"{self.python} did not answer within {self._timeout:g} s and was killed"
                    )
                read = os.read(output, 65536)
                if not read:
                    raise self._death()
                self._received += read
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict):
                return answer
        self.kill()
        said = line.decode(errors="replace").strip()[:80]
        raise SubjectError(f"{self.python} is no Python that runs subjects; it said {said!r}")

    def close(self) -> None:
        """End the process, by force if it does not end by itself."""
        self._end()

    def kill(self) -> None:
        """End the process at once."""
        if self.alive:
            _kill(self._process)
            self._end()

    def _death(self) -> SubjectDiedError:
        """What is to be told of a process whose input or output has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        code = self._process.poll()
        size = os.fstat(self._errors).st_size
        errors = os.pread(self._errors, _KEPT_ERRORS, max(0, size - _KEPT_ERRORS))
        self.kill()
        how = "closed its output" if code is None else f"ended with {ending(code)}"
        lines = [line.strip() for line in errors.decode(errors="replace").splitlines()]
        last = next((line for line in reversed(lines) if line), "")
        return SubjectDiedError(f"{self.python} {how}" + (f": {last[:300]}" if last else ""))


def _nameless_file() -> int:
    """A file that is gone when the last process that has it open is."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("lossfuzz")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _stream(stream: Any) -> Any:
    """A pipe of a process that was started with pipes."""
    return stream


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with those that it started, such as the interpreter behind a wrapper."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], descriptors: tuple[int, ...]) -> None:
    """Close a process's input, which ends it, wait for it, and close its files."""
    with contextlib.suppress(BrokenPipeError):
        _stream(process.stdin).close()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    _stream(process.stdout).close()
    for descriptor in descriptors:
        os.close(descriptor)
