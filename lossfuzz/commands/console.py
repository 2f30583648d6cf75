"""Where commands print: wide enough for the table when there is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, ProgressColumn

_WIDTH_WITHOUT_TERMINAL = 176


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal, or standard output at the table's width; or standard error so."""
    console = Console(stderr=stderr)
    if console.is_terminal:
        return console
    return Console(width=_WIDTH_WITHOUT_TERMINAL, stderr=stderr)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error that leaves no trace; none where that is no terminal."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
