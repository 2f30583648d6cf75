"""Where commands print: wide enough for the table when there is no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

Told = Callable[[int, int, str], None]
"""Called with how much is done, of how much in all (0 if that is not known), and what runs now."""

LINE_SECONDS = 10.0
"""From one line of progress to the next, where there is no terminal."""

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


@contextlib.contextmanager
def told_progress(start: str, unit: str, *, quiet: bool = False) -> Iterator[Told]:
    """Tell progress on standard error: by a bar on a terminal, else by a line now and then.

    Args:
        start: what runs first.
        unit: what is counted, such as ``batch``.
        quiet: whether no lines are to be written where there is no terminal.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    lines = _Lines(start, unit)
    with progress_bar(*columns) as bar:
        task = bar.add_task(start, total=None)

        def told(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=what)
            lines.state = done, total, what

        if quiet or not bar.disable:
            yield told
            return
        with lines.written():
            yield told


class _Lines:
    """Lines of progress, written from a thread of their own, however long a batch takes.

    Attributes:
        state: as `Told` is called.
    """

    def __init__(self, start: str, unit: str) -> None:
        self.state = (0, 0, start)
        self._unit = unit
        self._started = time.monotonic()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def written(self) -> Iterator[None]:
        """Write them, until the block ends."""
        thread = threading.Thread(target=self._write, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _write(self) -> None:
        while not self._ended.wait(LINE_SECONDS):
            done, total, what = self.state
            count = f"{done:,} of {amount(total, self._unit)}" if total else ""
            count = amount(done, self._unit) if done and not total else count
            seconds = time.monotonic() - self._started
            parts = ", ".join(filter(None, (f"{seconds:.0f} s", count, what)))
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                print(f"lossfuzz: {parts}", file=sys.stderr, flush=True)  # noqa: T201
