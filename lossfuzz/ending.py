"""How a command ends: every way has a code of its own and one line, and none shows a traceback."""

from __future__ import annotations

import errno
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from lossfuzz.campaign.store_file import holds_store
from lossfuzz.commands.signals import ended_by_signals
from lossfuzz.errors import (
    INTERNAL_ERROR,
    OUTPUT_FAILED,
    USAGE_ERROR,
    UsageError,
    code_of,
)
from lossfuzz.harness.records.exit_status import signal_name
from lossfuzz.harness.records.printable import one_line

if TYPE_CHECKING:
    import argparse

TRACEBACK = "LOSSFUZZ_TRACEBACK"
"""The variable that asks for the traceback of an internal error."""

_PACKAGE = Path(__file__).parent
_ROOTS = tuple(
    f"{folder}{os.sep}"
    for folder in (
        _PACKAGE,
        *(_PACKAGE.parent / one for one in ("harness", "strategies", "reports")),
    )
)
"""Where our own files are, installed or in a checkout."""

_REFUSED_BY_SYSTEM = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EROFS,
    errno.EIO,
}
_NO_TEMPORARY = "No usable temporary directory"
_LONGEST = 2000
_SHOWN = 200


def carried_out(options: argparse.Namespace) -> int:
    """Carry out the command that was parsed; returns its exit code.

    SIGTERM and SIGHUP end it as Ctrl-C does: with what there is.
    """
    started = time.time()
    try:
        with ended_by_signals():
            return int(options.command(options))
    except UsageError as error:
        _tell(f"error: {one_line(str(error))}")
        return USAGE_ERROR
    except KeyboardInterrupt as ended:  # who had a result by then has shown it
        code = code_of(ended)
        name = signal_name(code - 128)
        _tell(f"ended by {name} before there was a result{_kept(options, started)}")
        return code
    except SystemExit as ended:  # none of our commands raises it
        _tell(
            f"error: sys.exit({one_line(repr(ended.code))}) was called while the command ran "
            f"({_place(ended)}), so that it has no result{_kept(options, started)}"
        )
        return USAGE_ERROR
    except BaseException as error:  # noqa: BLE001 - whatever it is, it has a line and a code
        return _failed(error, options, started)


def _failed(error: BaseException, options: argparse.Namespace, started: float) -> int:
    """Tell a failure of our own, or one of the system that stands in our way."""
    kept = _kept(options, started)
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        _tell("error: the current folder has been removed: go to another one")
        return USAGE_ERROR
    if _is_about_a_name(error, options):
        _tell(f"error: cannot use {one_line(str(error.filename))[:_SHOWN]!r}: {error.strerror}")
        return USAGE_ERROR
    if _is_refused_by_system(error):
        _tell(f"error: the system refused what the command needs: {_said(error)}{kept}")
    else:
        _tell(
            f"internal error: {_said(error)} ({_place(error)}); set {TRACEBACK}=1 to see the "
            f"traceback{kept}"
        )
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error, file=sys.stderr)
    return OUTPUT_FAILED if _is_refused_by_system(error) else INTERNAL_ERROR


def _is_about_a_name(error: BaseException, options: argparse.Namespace) -> TypeGuard[OSError]:
    """Whether the system cannot use a file's name that the user gave, or one in such a folder."""
    if not isinstance(error, OSError) or not isinstance(error.filename, str):
        return False
    given = [one for value in vars(options).values() for one in _texts(value) if one]
    return any(error.filename.startswith(one.partition("#")[0]) for one in given)


def _texts(value: object) -> list[str]:
    if isinstance(value, str | Path):
        return [str(value)]
    return (
        [str(one) for one in value if isinstance(one, str | Path)]
        if isinstance(value, list)
        else []
    )


def _is_refused_by_system(error: BaseException) -> bool:
    """Whether there is no room, no memory, no descriptor or no folder for temporary files.

    Where an address space is bounded, Python itself fails with `SystemError` now and then.
    """
    if isinstance(error, SystemError):
        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return isinstance(error, MemoryError) or (
        isinstance(error, OSError)
        and (error.errno in _REFUSED_BY_SYSTEM or _NO_TEMPORARY in str(error))
    )


def _is_somewhere() -> bool:
    """Whether there is a current folder."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _said(error: BaseException) -> str:
    text = one_line(str(error))[:_LONGEST]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """The innermost of our own lines that was running, or of anybody's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if one.filename.startswith(_ROOTS)]
    innermost = (own or frames)[-1:]
    if isinstance(error, SystemExit):
        innermost = frames[-1:]
    return one_line(
        ", ".join(f"{Path(one.filename).name}, line {one.lineno}" for one in innermost)
    )


def _kept(options: argparse.Namespace, started: float) -> str:
    """Where that is kept which was measured before the command failed."""
    folder = getattr(options, "out", None)
    if not isinstance(folder, Path):
        return ""
    try:
        if holds_store(folder):
            told = f"'lossfuzz resume {folder}' goes on from what it holds"
        elif (folder / "results.json").stat().st_mtime >= started:
            told = f"'lossfuzz report {folder}' shows what was measured until then"
        else:
            return ""
    except OSError:
        return ""
    return f"; {one_line(told)}"


def _tell(text: str) -> None:
    print(f"lossfuzz: {text}", file=sys.stderr)  # noqa: T201
