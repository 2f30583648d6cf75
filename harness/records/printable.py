"""Text of others, made safe to be printed: no character of it can give a terminal orders."""

from __future__ import annotations


def printable(text: str, *, kept: str = "") -> str:
    r"""A text whose characters all show: others, such as ESC, are written as Python escapes them.

    Control characters, those that turn the direction of a text, and lone surrogates are meant; a
    no-break space is written ``\xa0``.

    Args:
        text: any.
        kept: characters that stay although they do not show, such as a line's end.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in kept else _escaped(one) for one in text)


def one_line(text: str) -> str:
    """A text as `printable` has it, and in one line."""
    lines = (line.strip() for line in text.splitlines())
    return printable("; ".join(line for line in lines if line))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
