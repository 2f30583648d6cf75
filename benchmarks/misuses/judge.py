"""Runs a case in a process and a folder of its own, and judges what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from misuses.case import ERROR, MISUSE, Case

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = "LOSSFUZZ_MISUSE"
_GRACE = 5.0
_ADDRESS_SPACE = 12_000_000
"""KiB that a case may have: what asks for all the machine's memory fails, and not the machine."""

_OUR_FAILURE = 70
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
_TRACEBACK = "Traceback (most recent call last)"
_INTERNAL = re.compile(r"internal error", re.IGNORECASE)
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case.

    Attributes:
        category: of the case.
        case: itself.
        faults: what is wrong, a sentence each.
        seconds: that it took.
        code: its exit code; None of one that was killed.
        tail: the last lines that it printed.
    """

    category: str
    case: Case
    faults: tuple[str, ...]
    seconds: float
    code: int | None
    tail: tuple[str, ...]


@dataclass(slots=True)
class _Ended:
    """A process that has ended: its exit code, what it printed, and what it left running."""

    code: int | None
    out: bytes
    err: bytes
    seconds: float
    left: int


def judged(case: Case, category: str, seeds: Path, place: Path) -> Verdict:
    """Run a case below a folder that is made for it and removed, and judge it."""
    work, outside, temporary = (place / name for name in ("work", "outside", "temporary"))
    for folder in (work, outside / "kept", temporary, place / "home"):
        folder.mkdir(parents=True)
    (outside / "kept" / "file").write_text("nobody may write here")
    for name in case.needs:
        source = seeds / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, work / name)
    for name, content in case.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare is not None:
        case.prepare(work)
    before, given = _content(outside), _content(work)
    listed = {path.name for path in place.iterdir()}
    try:
        ended = _run(case, place)
        faults = [
            *_said(case, ended),
            *_promised(case, ended, work),
            *_outside(before, _content(outside), listed, {path.name for path in place.iterdir()}),
            *_inside(case, ended, given, _content(work)),
            *_left(case, ended, temporary),
        ]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    lines = (ended.out + b"\n" + ended.err).decode(errors="replace").splitlines()
    tail = tuple(repr(line)[1:-1][:300] for line in lines if line.strip())[-_SHOWN:]
    return Verdict(category, case, tuple(faults), ended.seconds, ended.code, tail)


def _run(case: Case, place: Path) -> _Ended:
    mark = f"{place}"
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "temporary"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OUTSIDE": str(place / "outside"),
        _MARK: mark,
    }
    for name in ("PYTHONPATH", "COLUMNS", "LC_ALL", "LANG"):
        environment.pop(name, None)
    environment["LC_ALL"] = "C.UTF-8"
    for name, value in case.environment.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value.replace("$PLACE", str(place))
    started = time.monotonic()
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        process = subprocess.Popen(  # noqa: S603 - the case's own line
            ["/bin/bash", "-c", f"ulimit -v {_ADDRESS_SPACE}; {case.command}"],
            cwd=place / "work",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
        for one in case.interruptions:
            _interrupt(one, process, place / "work", started + case.seconds)
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(0.1, started + case.seconds - time.monotonic()))
    seconds = time.monotonic() - started
    deadline = time.monotonic() + (_GRACE if code is not None else 0)
    while (left := list(_marked(mark))) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:  # each was started by this case: it carries the case's mark
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    printed = [(place / name).read_bytes() for name in ("out", "err")]
    for name in ("out", "err"):
        (place / name).unlink()
    if code is not None and code < 0:
        code = 128 - code
    return _Ended(code, *printed, seconds, len(left))


def _interrupt(one, process, work, deadline) -> None:  # noqa: ANN001 - see Interruption
    while one.file and not (work / one.file).exists() and process.poll() is None:
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(one.seconds)
        return
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    victim = int(children[0]) if one.worker and children else process.pid
    os.kill(victim, one.signal)


def _marked(mark: str) -> Iterator[int]:
    """Processes that a case has started and that still run."""
    wanted = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (
                    wanted in (entry / "environ").read_bytes().split(b"\0")
                    and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                ):
                    yield int(entry.name)


def _said(case: Case, ended: _Ended) -> Iterator[str]:  # noqa: C901 - one judgement after another
    out, err = (text.decode(errors="replace") for text in (ended.out, ended.err))
    if ended.code is None:
        yield f"it hangs: it was still running after {case.seconds:g} s"
        return
    if ended.code not in case.codes:
        wanted = " or ".join(map(str, case.codes))
        yield f"exit code {ended.code}, expected {wanted}"
    if _TRACEBACK in out + err and not case.own_traceback:
        yield "a traceback"
    if ended.code == _OUR_FAILURE or _INTERNAL.search(out + err):
        yield "an internal error"
    if not re.search(case.says, out + "\n" + err, re.MULTILINE):
        yield f"it does not say {case.says!r}"
    if case.speaks and ended.code not in (0, 1) and not err.strip():
        yield "silent: nothing on standard error"
    if case.speaks and ended.code == 1 and not (out + err).strip():
        yield "silent: it printed nothing at all"
    errors = [line for line in err.splitlines() if re.match(ERROR, line)]
    if ended.code == MISUSE and case.one_line and len(errors) != 1:
        yield f"{len(errors)} lines that tell an error, expected one"
    wide = case.environment.get("PYTHONIOENCODING") == "utf-16"
    if any(
        _CONTROLS.search(text.decode("utf-16", "replace").encode() if wide else text)
        for text in (ended.out, ended.err)
    ):
        yield "control characters reach the terminal"
    pattern = case.absent.get("")
    if pattern and re.search(pattern, out + err):
        yield f"it prints {pattern!r}"


def _promised(case: Case, ended: _Ended, work: Path) -> Iterator[str]:
    if ended.code == 0 and case.speaks:
        if not (ended.out + ended.err).strip() and not case.promised:
            yield "silent: exit code 0 and nothing printed"
        for name in case.promised:
            if not (work / name).exists():
                yield f"exit code 0, and no {name}"
    for name, pattern in case.absent.items():
        path = work / name
        if name and path.is_file() and re.search(pattern, path.read_text(errors="replace")):
            yield f"{name} holds {pattern!r}"


def _outside(
    before: dict[str, str], after: dict[str, str], listed: set[str], now: set[str]
) -> Iterator[str]:
    if any("PAYLOAD-RAN" in name for name in after):
        yield "A STRANGER'S CODE RAN"
    if before != after:
        changed = sorted({name for name, _ in before.items() ^ after.items()})
        yield f"it wrote outside its folder: {', '.join(changed)}"
    if now - listed - {"out", "err"}:
        yield f"it wrote beside its folder: {', '.join(sorted(now - listed))}"


def _inside(
    case: Case, ended: _Ended, given: dict[str, str], after: dict[str, str]
) -> Iterator[str]:
    """What was refused may not have been changed."""
    if case.changes or ended.code != MISUSE:
        return
    changed = [name for name, content in given.items() if after.get(name) != content]
    if changed:
        yield f"refused, and yet changed: {', '.join(sorted(changed))}"


def _left(case: Case, ended: _Ended, temporary: Path) -> Iterator[str]:
    if ended.left and ended.code is not None:
        yield f"it left {ended.left} processes running"
    files = [path.name for path in temporary.rglob("*")] if temporary.is_dir() else []
    if files and ended.code is not None and not case.own_traceback:
        yield f"it left {len(files)} temporary files, such as {files[0]}"


def _content(folder: Path) -> dict[str, str]:
    """What lies below a folder: name to a digest, or to what a link names."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(root) / name
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = str(path.readlink())
            elif path.is_file():
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[key] = "folder" if path.is_dir() else "other"
    return found
