"""Where commands print: wide enough for the table when there is no terminal."""

from __future__ import annotations

import os

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_WIDTH_WITHOUT_TERMINAL = 176


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal, or standard output at the table's width; or standard error so.

    The environment's ``COLUMNS`` sets the width of either.
    """
    console = Console(stderr=stderr)
    if console.is_terminal:
        return console
    asked = os.environ.get("COLUMNS", "")
    width = int(asked) if asked.isdecimal() and int(asked) > 0 else _WIDTH_WITHOUT_TERMINAL
    return Console(width=width, stderr=stderr)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error that leaves no trace; none where that is no terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
