"""A comparison of two runs as Markdown, for a pull request's comment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.reports import comparison as tables
from lossfuzz.reports.markdown_text import Part, comment, escaped, folded, listed, table
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.reports.comparison import Comparison

_SHORT_TABLE = 30
_LONGEST_TABLE = 200


def render(found: Comparison, *, names: tuple[str, str] = ("A", "B")) -> str:
    """The comment: under 60,000 characters, long parts folded.

    Args:
        found: the comparison.
        names: of the two runs.
    """
    return comment(_parts(found, names))


def _parts(found: Comparison, names: tuple[str, str]) -> Iterator[Part]:
    sign = "❌" if found.regression else "✅"
    yield Part(
        name="verdict",
        rank=0,
        text=f"### {sign} lossfuzz: {escaped(tables.verdict(found))}\n\n"
        f"A is {escaped(names[0])}, B is {escaped(names[1])}.",
    )
    rows = tables.rows(found)
    if rows:
        text = table(tables.COLUMNS, rows[:_LONGEST_TABLE])
        if len(rows) > _LONGEST_TABLE:
            hidden = len(rows) - _LONGEST_TABLE
            are = verb(hidden, "is", "are")
            text += f"\n\n*{amount(hidden, 'row')} of this table {are} left out.*"
        if len(rows) > _SHORT_TABLE:
            text = folded(f"{amount(len(rows), 'difference')}, the worse ones first", text)
        yield Part(name="the table of differences", text=text)
    routes = tables.route_lines(found)
    if routes:
        take = verb(len(routes), "takes", "take")
        title = f"{amount(len(routes), 'path')} {take} another route"
        yield Part(name="routes", text=folded(title, listed(routes)))
    notes = tables.notes(found)
    if notes:
        yield Part(name="notes", text=listed(notes))
