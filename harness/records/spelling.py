"""What is said of a name that is not known: what it may have meant, and what there is."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NEAR = 0.6
_MOST_MEANT = 3
_KERAS_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def unknown(
    what: str,
    name: object,
    known: Iterable[str],
    meaning: Mapping[str, str] | None = None,
    listed: str = "",
) -> str:
    """``unknown loss 'sofmax'; did you mean 'softmax'? known losses: ...``.

    Args:
        what: is named, such as ``loss``.
        name: that is not known.
        known: the names that there are.
        meaning: names that others use to the known name that means the same.
        listed: the text that lists them; by default they are listed as they are.
    """
    names = list(known)
    plural = f"{what}es" if what.endswith("s") else "families" if what == "family" else f"{what}s"
    text = listed or ", ".join(names)
    meant = _meant(str(name), names, meaning or {})
    asked = f"; did you mean {' or '.join(map(repr, meant))}?" if meant else ";"
    return f"unknown {what} {name!r}{asked} known {plural}: {text}"


def _meant(name: str, known: list[str], meaning: Mapping[str, str]) -> list[str]:
    """The known names that a name may stand for, nearest first."""
    by_plain: dict[str, str] = {}
    for spelled, meant in (*((one, one) for one in known), *meaning.items()):
        by_plain.setdefault(_plain(spelled), meant)
    if _plain(name) in by_plain:
        return [by_plain[_plain(name)]]
    near = difflib.get_close_matches(_plain(name), by_plain, _MOST_MEANT, _NEAR)
    return list(dict.fromkeys(by_plain[one] for one in near))


def _plain(name: str) -> str:
    """Words in lower case: of ``BinaryFocalCrossentropy`` and ``binary_focal`` alike."""
    return re.sub(r"[^a-z0-9]+", " ", _KERAS_WORD.sub(" ", name).lower()).strip()
