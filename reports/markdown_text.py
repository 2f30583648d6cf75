"""Texts as GitHub's Markdown: what comes from outside stays text, and a comment stays short."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.records.printable import printable
from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_CHARACTERS = 60_000
"""Of a comment; GitHub refuses more than 65,536."""

_MOST_OF_A_TEXT = 400
_MOST_OF_A_NOTE = 2_000
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
_REFERENCE = re.compile(r"([@#]|:(?=//)|www(?=\.))", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a comment that is written whole or not at all.

    Attributes:
        name: what is missed where it is left out.
        text: its Markdown.
        rank: parts of a lower one are given room first, wherever they stand.
    """

    name: str
    text: str
    rank: int = 1


def escaped(text: str) -> str:
    """A text in one line that Markdown, HTML and GitHub's references leave alone.

    An empty comment after ``@`` and ``#`` keeps GitHub from calling people and issues, one within
    an address from making a link of it.
    """
    line = shortened(text)
    line = _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))
    return _REFERENCE.sub(r"\1<!-- -->", line)


def shortened(text: str) -> str:
    """A text in one line of some hundred characters at most."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _MOST_OF_A_TEXT else line[: _MOST_OF_A_TEXT - 1] + "…"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, which are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    heading, rule, *body = lines
    return "\n".join(
        [_line(map(escaped, heading)), _line(rule), *(_line(map(escaped, row)) for row in body)]
    )


def _line(texts: Iterable[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def folded(summary: str, markdown: str) -> str:
    """Markdown under a line that opens it; the line is a text.

    A summary is HTML, in which Markdown's own signs mean nothing.
    """
    line = _REFERENCE.sub(r"\1<!-- -->", html.escape(shortened(summary), quote=False))
    return f"<details><summary>{line}</summary>\n\n{markdown}\n\n</details>"


def code(text: str, language: str = "python") -> str:
    """A block of code, fenced by more backticks than it holds in a row."""
    text = printable(text, kept="\n\t")
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def listed(lines: Iterable[str]) -> str:
    """A list of texts, which are escaped."""
    return "\n".join(f"- {escaped(line)}" for line in lines)


def comment(parts: Iterable[Part], *, most: int = MOST_CHARACTERS) -> str:
    """The parts that fit, in their order, and what was left out."""
    ordered = list(parts)
    room = most - _MOST_OF_A_NOTE
    fitting: set[int] = set()
    for place in sorted(range(len(ordered)), key=lambda place: ordered[place].rank):
        size = len(ordered[place].text) + 2  # the empty line after it
        if size <= room:
            fitting.add(place)
            room -= size
    kept = [part.text for place, part in enumerate(ordered) if place in fitting]
    missing = [part.name for place, part in enumerate(ordered) if place not in fitting]
    if missing:
        names = list(dict.fromkeys(map(shortened, missing)))
        told = listing(names, most=4)
        kept.append(f"*Left out, since a comment holds so much and no more: {escaped(told)}.*")
    return "\n\n".join(kept)
