"""Numbers and names as English says them: one row and two rows, lists of names with commas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def amount(count: int, noun: str) -> str:
    """A count and its noun: ``1 cell``, ``1,600 cells``; of ``search`` and the like with -es."""
    if count == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "ch", "sh", "x")) else "s"
    return f"{count:,} {noun}{ending}"


def verb(count: int, singular: str, plural: str) -> str:
    """The verb that an amount takes, such as ``was`` of 1 and ``were`` of 2."""
    return singular if count == 1 else plural


def listing(names: Sequence[str], *, most: int = 0, last: str = "") -> str:
    """Names in a row, kept apart by semicolons where one of them holds a comma.

    Args:
        names: at least one.
        most: how many are shown, with the number of those that are not; all, if it is 0.
        last: a word before the last name, such as ``and``, where there are several.
    """
    shown = list(names)
    if most and len(shown) > most:
        shown = [*shown[:most], f"{len(shown) - most} more"]
        last = last or "and"
    mark = "; " if any("," in name for name in shown) else ", "
    if not last or len(shown) == 1:
        return mark.join(shown)
    before = mark.join(shown[:-1])
    return f"{before}{'; ' if mark == '; ' else ' '}{last} {shown[-1]}"
