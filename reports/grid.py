"""Tables on a terminal of any width: no name is cut, and what does not fit is said to be missing.

Where all columns fit beside each other they stand so. Where they do not, the leading columns, such
as the path's, go to a line of their own above their rows; then those columns that are empty in
every row, and those that tell least, are left out until the others fit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

EMPTY = "-"
_GAP = 2
_INDENT = 2
"""Of rows below the line that names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """How a column may be made narrower.

    Attributes:
        name: what it is called where it is left out.
        heading: above it; may have several lines.
        least: width down to which its texts may be wrapped; None if they may not.
        rank: the columns of the highest rank are left out first; those of rank 0 stay.
    """

    name: str
    heading: str
    least: int | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of texts, one for each column.

    Attributes:
        texts: as the columns.
        style: of all of them.
        styles: place of a column to its own style.
    """

    texts: tuple[str, ...]
    style: str = ""
    styles: dict[int, str] = field(default_factory=dict)


def show(
    console: Console,
    columns: Sequence[Column],
    lines: Sequence[Line],
    *,
    leading: int = 1,
    title: str = "",
) -> None:
    """Print a table so that it fits the console's width.

    Args:
        console: to print on.
        columns: of the table.
        lines: its rows; texts of leading columns are told once for all rows that share them.
        leading: how many of the first columns name what the others tell of.
        title: above the table.
    """
    room = console.width
    every = tuple(range(len(columns)))
    if title:
        console.print(Text(title, style="italic"))
    widths = _widths(columns, lines, every, room)
    if widths is not None:
        _print_head(console, columns, widths, indent=0)
        console.print(_table(columns, _told_once(lines, leading), widths))
        console.print()
        return
    room -= _INDENT
    kept, missing = _kept(columns, lines, every[leading:], room)
    widths = _widths(columns, lines, kept, room) or _squeezed(columns, lines, kept, room)
    _print_head(console, columns, widths, indent=_INDENT)
    for names, found in itertools.groupby(lines, key=lambda line: line.texts[:leading]):
        console.print(Text(" ".join(filter(None, names)), style="bold"))
        console.print(_indented(_table(columns, tuple(found), widths), _INDENT))
    if missing:
        told = listing([columns[place].name for place in missing], last="and")
        console.print(Text(f"Left out at this width: {told}.", style="dim"))
    console.print()


def _kept(
    columns: Sequence[Column], lines: Sequence[Line], places: Sequence[int], room: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The columns that fit, and those among the others that tell anything, both in order."""
    empty = {
        place
        for place in places
        if columns[place].rank and all(line.texts[place] == EMPTY for line in lines)
    }
    order = sorted(
        (place for place in places if columns[place].rank),
        key=lambda place: (place in empty, columns[place].rank),
        reverse=True,
    )
    kept = list(places)
    while order and _widths(columns, lines, kept, room) is None:
        kept.remove(order.pop(0))
    return tuple(kept), tuple(
        place for place in places if place not in kept and place not in empty
    )


def _widths(
    columns: Sequence[Column], lines: Sequence[Line], places: Sequence[int], room: int
) -> dict[int, int] | None:
    """Place to width, those that may be wrapped sharing what is left; None if they do not fit."""
    natural = {place: _natural(columns[place], place, lines) for place in places}
    widths = {
        place: width if (least := columns[place].least) is None else min(width, least)
        for place, width in natural.items()
    }
    left = room - sum(widths.values()) - _GAP * (len(widths) - 1)
    if left < 0:
        return None
    wrapped = [place for place in places if widths[place] < natural[place]]
    while left and wrapped:
        place = min(wrapped, key=lambda one: widths[one])
        widths[place] += 1
        left -= 1
        wrapped = [one for one in wrapped if widths[one] < natural[one]]
    return widths


def _squeezed(
    columns: Sequence[Column], lines: Sequence[Line], places: Sequence[int], room: int
) -> dict[int, int]:
    """Widths of columns that do not fit at all, so that each is wrapped in its share."""
    natural = {place: _natural(columns[place], place, lines) for place in places}
    total = sum(natural.values())
    usable = max(len(places), room - _GAP * (len(places) - 1))
    return {place: max(1, width * usable // total) for place, width in natural.items()}


def _natural(column: Column, place: int, lines: Iterable[Line]) -> int:
    texts = itertools.chain(column.heading.split("\n"), (line.texts[place] for line in lines))
    return max(Text(text).cell_len for text in texts)


def _told_once(lines: Iterable[Line], leading: int) -> list[Line]:
    """The lines, without leading texts that are those of the line above."""
    found: list[Line] = []
    above: tuple[str, ...] = ()
    for line in lines:
        head = line.texts[:leading]
        shown = ("",) * leading if head == above else head
        above = head
        found.append(
            Line(texts=(*shown, *line.texts[leading:]), style=line.style, styles=line.styles)
        )
    return found


def _print_head(
    console: Console, columns: Sequence[Column], widths: dict[int, int], *, indent: int
) -> None:
    """The headings, each of which ends on the last line, and a rule below them."""
    headings = tuple(column.heading for column in columns)
    height = max(headings[place].count("\n") for place in widths)
    raised = tuple("\n" * (height - text.count("\n")) + text for text in headings)
    head = _table(columns, (Line(texts=raised, style="bold"),), widths)
    console.print(_indented(head, indent))
    console.print("─" * (indent + sum(widths.values()) + _GAP * (len(widths) - 1)))


def _indented(table: Table, indent: int) -> Padding:
    return Padding(table, (0, 0, 0, indent), expand=False)


def _table(columns: Sequence[Column], lines: Sequence[Line], widths: dict[int, int]) -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=False)
    for place, width in widths.items():
        table.add_column(columns[place].name, overflow="fold", width=width)
    for line in lines:
        texts = (Text(line.texts[place], style=line.styles.get(place, "")) for place in widths)
        table.add_row(*texts, style=line.style or None)
    return table
