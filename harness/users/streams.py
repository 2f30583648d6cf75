"""The standard streams, and the descriptors below them, kept against a user's code."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
_MODES = ("r", "w", "w")
_AT_LEAST = 64
"""Copies lie above the descriptors that a program closes when it closes "the low ones"."""


class _Copies:
    """A copy of each standard descriptor, made when it first leads where it leads."""

    def __init__(self) -> None:
        self._kept: list[tuple[_Place, int] | None] = [None, None, None]

    def update(self) -> tuple[_Place, ...]:
        """Where the descriptors lead now; each is copied, unless that was done."""
        places = _places()
        for number, place in enumerate(places):
            kept = self._kept[number]
            if place is None or (kept is not None and kept[0] == place):
                continue
            if kept is not None:
                _close(kept[1])
            self._kept[number] = _copied(number, place)
        return places

    def restore(self, before: tuple[_Place, ...]) -> None:
        """Let those that lead elsewhere, or nowhere, lead again where they did."""
        for number, (place, now) in enumerate(zip(before, _places(), strict=True)):
            kept = self._kept[number]
            if place is not None and place != now and kept is not None and kept[0] == place:
                with contextlib.suppress(OSError):  # the code closed the copy, too
                    os.dup2(kept[1], number)


class Streams:
    """The three streams as they are when they are kept."""

    def keep(self) -> None:
        """Keep them."""
        self._places = _COPIES.update()
        self._streams = tuple(getattr(sys, name) for name in _NAMES)

    def restore(self) -> None:
        """Restore them; a stream that was closed is opened again, on the same descriptor."""
        _COPIES.restore(self._places)
        for number, (name, stream) in enumerate(zip(_NAMES, self._streams, strict=True)):
            if getattr(sys, name, None) is not stream:
                setattr(sys, name, stream)
            if getattr(stream, "closed", False):
                again = reopened(number, stream)
                setattr(sys, name, again)
                if getattr(sys, f"__{name}__") is stream:
                    setattr(sys, f"__{name}__", again)


_Place = tuple[int, int] | None
_COPIES = _Copies()


def _places() -> tuple[_Place, ...]:
    return _place(0), _place(1), _place(2)


def _place(number: int) -> _Place:
    """What a descriptor leads to; None if it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _copied(number: int, place: _Place) -> tuple[_Place, int] | None:
    for least in (_AT_LEAST, 3):  # a process may be allowed few descriptors
        with contextlib.suppress(OSError):
            return place, fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, least)
    return None


def _close(number: int) -> None:
    with contextlib.suppress(OSError):
        os.close(number)


def reopened(number: int, closed: Any) -> Any:
    """A stream on a standard descriptor, as the closed one was; None if it leads nowhere."""
    if _place(number) is None:
        return None
    encoding = getattr(closed, "encoding", None) or "utf-8"
    errors = getattr(closed, "errors", None) or "replace"
    return os.fdopen(number, _MODES[number], encoding=encoding, errors=errors, closefd=False)
