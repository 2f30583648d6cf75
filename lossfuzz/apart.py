"""Running what may die or hang: in a process of its own, within limits of time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossfuzz.audit import AuditError
from lossfuzz.campaign.engine import module_paths, resident_bytes
from lossfuzz.campaign.folders import search_like, search_path
from lossfuzz.harness.backend import BackendError, start_tensorflow
from lossfuzz.harness.records.exit_status import ending
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.replaying import CHANGED, STANDS, Replayed, replay
from lossfuzz.trust import load

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_SECONDS = 0.1
_KEPT = 4000
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may take.

    Attributes:
        seconds: until it is ended.
        memory: bytes that it may hold; None for as much as there is.
        start: seconds until it first writes something, from when on the others count; 0 if it
            may write nothing.
    """

    seconds: float
    memory: int | None = None
    start: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code, negative for a signal.
        output: what it wrote to standard output.
        errors: the end of what it wrote to standard error.
        overdue: which limit it broke; nothing if it ended by itself.
    """

    code: int
    output: str
    errors: str
    overdue: str = ""

    @property
    def death(self) -> str:
        """How it ended, in words."""
        if self.overdue:
            return self.overdue
        last = next((line for line in reversed(self.errors.splitlines()) if line.strip()), "")
        told = f"the process ended with {ending(self.code)}"
        return told + (f": {last.strip()[:200]}" if last else "")


def run_apart(
    arguments: Sequence[str], limits: Limits, *, given: str = "", paths: Sequence[str] = ()
) -> Ended:
    """Run a Python process in an empty folder, watched until it ends.

    Args:
        arguments: of the interpreter.
        limits: of the process.
        given: its standard input.
        paths: where it finds modules, beside its own.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+b") as read,
        tempfile.TemporaryFile("w+b") as output,
        tempfile.TemporaryFile("w+b") as errors,
    ):
        read.write(given.encode())
        read.seek(0)
        process = subprocess.Popen(  # noqa: S603 - our own module, or a script that we wrote
            [sys.executable, *arguments],
            stdin=read,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
            },
            start_new_session=True,
        )
        try:
            overdue = _watched(process, limits, output.fileno())
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # and whatever it started
            code = process.wait()
        output.seek(0)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _KEPT))
        return Ended(
            code=code,
            output=output.read().decode(errors="replace"),
            errors=errors.read().decode(errors="replace"),
            overdue=overdue,
        )


def _watched(process: subprocess.Popen[bytes], limits: Limits, output: int) -> str:
    """Wait for the end of a process; returns which limit it broke."""
    starting = limits.start > 0
    deadline = time.monotonic() + (limits.start or limits.seconds)
    while process.poll() is None:
        if starting and os.fstat(output).st_size:
            starting = False
            deadline = time.monotonic() + limits.seconds
        if time.monotonic() > deadline:
            return f"silent for {limits.seconds:g} s"
        held = resident_bytes(process.pid)
        if limits.memory is not None and held > limits.memory:
            return f"held {held >> 20} MiB of memory, allowed are {limits.memory >> 20} MiB"
        time.sleep(_POLL_SECONDS)
    return ""


def replay_apart(finding: Finding, limits: Limits, *, device: str | None = None) -> Replayed:
    """Replay a finding in a process of its own: a crash or a timeout stands if that dies of it.

    Args:
        finding: of any kind.
        limits: of the process, once TensorFlow has started.
        device: instead of the finding's own.

    Raises:
        AuditError: the exact values in the record are not those that mpmath gives.
        BackendError: TensorFlow cannot be started.
    """
    request = {"finding": finding.to_json(), "device": device, "search_path": search_path()}
    ended = run_apart(
        ["-m", "lossfuzz.apart"],
        replace(limits, start=_START_SECONDS),
        given=json.dumps(request),
        paths=[path for path in module_paths() if path],
    )
    answer = {} if ended.code or ended.overdue else _answer(ended.output)
    if "audit" in answer:
        raise AuditError(answer["audit"])
    if "backend" in answer:
        raise BackendError(answer["backend"])
    if "failed" in answer:
        raise RuntimeError(answer["failed"])
    if answer:
        return Replayed.from_json(answer)
    kind = kinds.TIMEOUT if "silent" in ended.overdue else kinds.CRASH
    if kind == finding.kind:
        return Replayed(verdict=STANDS, told=f"it still stands: {ended.death}")
    return Replayed(verdict=CHANGED, told=f"it changed to a {kind}: {ended.death}")


def _answer(output: str) -> dict[str, Any]:
    """What `main` wrote; nothing if a path ended the process before, as if all were well."""
    try:
        found: dict[str, Any] = json.loads(output)
    except ValueError:
        return {}
    return found


def main() -> None:
    """Replay the finding on standard input; what others print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request: dict[str, Any] = json.load(sys.stdin)
    search_like(request["search_path"])  # a user's own losses are there
    load([request["finding"]["path"]])  # the process that asks has seen that it may run
    try:
        start_tensorflow()
        answers.write("\n")  # from here on the time counts
        answers.flush()
        finding = Finding.from_json(request["finding"])
        answer = replay(finding, device=request["device"]).to_json()
    except AuditError as error:
        answer = {"audit": str(error)}
    except BackendError as error:
        answer = {"backend": str(error)}
    except Exception as error:  # noqa: BLE001 - ours: what a path raises was caught before
        traceback.print_exc()
        answer = {"failed": f"replaying apart: {type(error).__name__}: {error}"}
    with answers:
        answers.write(json.dumps(answer))


if __name__ == "__main__":
    main()
