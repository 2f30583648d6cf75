"""Where commands write: whole files or none, and never over what others wrote."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz.campaign.store_file import holds_store
from lossfuzz.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARD_OUTPUT = Path("-")

RESULTS, TIMINGS, PAGE = "results.json", "timings.json", "report.html"
"""What a run leaves in its folder."""

_PAGE_MARKS = (
    b'<meta name="generator" content="lossfuzz">',
    b'<title>lossfuzz report</title>\n<link rel="icon" href="data:,">',
)
"""What our pages have near their beginning: this version's, and those of the first ones."""

_NEAR = 4000


def write_text(path: Path, text: str) -> None:
    """Write a text and a line's end to a file, or to standard output for ``-``.

    A pipe or device that has the name is written to; of a symbolic link the link is replaced.

    Raises:
        UsageError: the file cannot be written; what was there before stays.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
        return
    try:
        if _is_special(path):
            path.write_text(text + "\n", encoding="utf-8")
        else:
            _replace(path, (text + "\n").encode("utf-8", "backslashreplace"))
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UsageError(f"cannot write {str(path)!r}: {_told(error)}") from None


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside the one that it then replaces; nobody can know its name before."""
    unfinished = path.with_name(f".lossfuzz-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(unfinished, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        unfinished.replace(path)
    finally:  # also when Ctrl-C comes between
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def check_file(path: Path | None) -> None:
    """See that a file can be written, before anything is measured for it; makes its folder.

    Args:
        path: of the file; None or ``-`` for none.

    Raises:
        UsageError: a folder has that name, or nothing can be written where it is to be.
    """
    if path is None or path == STANDARD_OUTPUT:
        return
    try:
        if path.is_dir():
            raise UsageError(f"cannot write {str(path)!r}: expected a file's name, got a folder's")
        if _is_special(path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        _try_to_write(path.parent)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {str(path)!r}: {_told(error)}") from None


def make_writable(folder: Path) -> None:
    """Make a folder for a run's or merge's report, and see that nothing of others is lost there.

    Raises:
        UsageError: files cannot be written there, it holds a campaign, or files of others.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot write to the output folder {str(folder)!r} ({_told(error)}); "
            "choose another with --out"
        ) from None
    check_free(folder)


def check_free(folder: Path) -> None:
    """See that a run's or merge's report would overwrite nothing of others, if the folder exists.

    Raises:
        UsageError: it holds a campaign, or files of others.
    """
    if holds_store(folder):
        raise UsageError(
            f"{str(folder)!r} already holds a campaign: go on with "
            f"'lossfuzz resume {folder}', or choose another folder with --out"
        )
    check_own(folder, RESULTS, TIMINGS, PAGE)


def check_own(folder: Path, *names: str) -> None:
    """See that files which a report would overwrite are those of an earlier report.

    Args:
        folder: of the report.
        names: of `RESULTS`, `TIMINGS` and `PAGE`.

    Raises:
        UsageError: one was not written by lossfuzz.
    """
    for name in names:
        path = folder / name
        try:
            is_there = path.is_symlink() or path.exists()
            own = not is_there or (path.is_file() and _is_own(path))
        except OSError as error:
            raise UsageError(f"cannot read {str(path)!r}: {_told(error)}") from None
        if not own:
            raise UsageError(
                f"{str(path)!r} was not written by lossfuzz, and would be overwritten: move it, "
                "or choose another folder with --out"
            )


def _is_own(path: Path) -> bool:
    """Whether a file was written by lossfuzz, or holds nothing."""
    return not path.stat().st_size or _OWN[path.name](path)


def _is_own_page(path: Path) -> bool:
    with path.open("rb") as file:
        beginning = file.read(_NEAR)
    return any(mark in beginning for mark in _PAGE_MARKS)


def _is_own_results(path: Path) -> bool:
    record = _record(path)
    return isinstance(record, dict) and {"schema", "plan", "cells"} <= set(record)


def _is_own_timings(path: Path) -> bool:
    record = _record(path)
    return isinstance(record, dict) and (not record or bool({"total", "start"} & set(record)))


def _record(path: Path) -> object:
    """What a file of JSON holds; None if it holds something else."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


_OWN: dict[str, Callable[[Path], bool]] = {
    RESULTS: _is_own_results,
    TIMINGS: _is_own_timings,
    PAGE: _is_own_page,
}


def _is_special(path: Path) -> bool:
    """Whether a name is that of a pipe or device, such as /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _try_to_write(folder: Path) -> None:
    """Write a file without a name, or with one that nobody knows, and remove it.

    Raises:
        OSError: that cannot be done.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\n")


def _told(error: OSError | ValueError) -> str:
    return str(getattr(error, "strerror", None) or error)
