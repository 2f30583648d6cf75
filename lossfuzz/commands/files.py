"""Where commands write: whole files or none."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from lossfuzz.errors import UsageError

STANDARD_OUTPUT = Path("-")


def write_text(path: Path, text: str) -> None:
    """Write a text and a line's end to a file, or to standard output for ``-``.

    Raises:
        UsageError: the file cannot be written; what was there before stays.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.write(text + "\n")
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text + "\n", encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from None
    finally:  # also when Ctrl-C comes between
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
