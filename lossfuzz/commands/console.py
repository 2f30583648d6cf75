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
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from lossfuzz.harness.records.printable import one_line, printable
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import ConsoleOptions, RenderableType

Told = Callable[[int, int, str], None]
"""Called with how much is done, of how much in all (0 if that is not known), and what runs now."""

LINE_SECONDS = 10.0
"""From one line of progress to the next, where there is no terminal."""

_WIDTH_WITHOUT_TERMINAL = 176
_USUAL_WIDTH = 80
_HEIGHT = 25
_WIDEST = 9999


class SafeConsole(Console):
    """A console to which no text can give orders: characters that do not show are escaped.

    What a user's loss says, and whatever stands in a file that was read, is printed as text.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render an object as `Console.render` does, its texts as `printable` has them."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable():
                yield segment
            else:
                yield Segment(printable(text, kept="\n"), style)


def wide_console(*, stderr: bool = False) -> Console:
    """The terminal, or standard output at the table's width; or standard error so.

    The environment's ``COLUMNS`` sets the width of either, where it makes sense.
    """
    asked, lines = _asked("COLUMNS"), _asked("LINES")
    if (asked or not os.environ.get("COLUMNS")) and (lines or not os.environ.get("LINES")):
        console = SafeConsole(stderr=stderr)  # follows a terminal's size
        if console.is_terminal:
            return console
    console = SafeConsole(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL, height=lines or _HEIGHT)
    console.width = asked or (_USUAL_WIDTH if console.is_terminal else _WIDTH_WITHOUT_TERMINAL)
    return console


def _asked(name: str) -> int | None:
    """What a variable of the environment says of the terminal's size, if that can be."""
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_WIDEST))):
        return None
    return int(text) if 0 < int(text) <= _WIDEST else None


def tell_error(what: str, text: str) -> None:
    """Tell on standard error, in one line, what went wrong; the text may be of others.

    Args:
        what: went wrong, such as ``error``.
        text: what is told of it.
    """
    print(f"lossfuzz: {what}: {one_line(text)}", file=sys.stderr)  # noqa: T201


def interrupted(done: int, total: int) -> Text:
    """What is said of a command that was ended early."""
    return Text(f"interrupted: {done:,} of {amount(total, 'cell')} were measured")


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error that leaves no trace; none where that is no terminal."""
    console = wide_console(stderr=True)
    shown = columns or (_description(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*shown, console=console, transient=True, disable=not console.is_terminal)


def _description() -> TextColumn:
    """What runs now: names of others, in which no bracket is markup."""
    return TextColumn("{task.description}", markup=False)


@contextlib.contextmanager
def told_progress(start: str, unit: str, *, quiet: bool = False) -> Iterator[Told]:
    """Tell progress on standard error: by a bar on a terminal, else by a line now and then.

    Args:
        start: what runs first.
        unit: what is counted, such as ``batch``.
        quiet: whether no lines are to be written where there is no terminal.
    """
    columns = (
        _description(),
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
                print(f"lossfuzz: {printable(parts)}", file=sys.stderr, flush=True)  # noqa: T201
