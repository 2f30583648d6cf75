"""Names of what users give, so that each of them leads to one object of this process.

A lambda, a function inside a test or one of a notebook has no name by which it could be imported,
and several of them are called alike. Each gets a name of its own, the second one with a number.
"""

from __future__ import annotations

import re
from types import MethodType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_LOSS = re.compile(r"(:[^:]*<[^:]*?) \d+(?= as )")
_FORMULA = re.compile(r"(<[^<>]*>) \d+(?=$|[ ,])")

_ALL: list[Names[Any]] = []


class Names(Generic[T]):
    """What is known in this process, by name."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[Any, ...], T]] = {}
        self._held: set[str] = set()
        _ALL.append(self)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def __getitem__(self, name: str) -> T:
        return self._known[name][1]

    def get(self, name: str) -> T | None:
        """What a name leads to, if it leads to something."""
        return self._known[name][1] if name in self._known else None

    def free(self, name: str, *made_of: Any, ending: str = "") -> str:
        """The name itself, unless it stands for what was made of something else; then a new one.

        Args:
            name: that is wanted.
            made_of: what the named thing was made of; the same objects may take the name again.
            ending: what follows the name where it is known.
        """
        wanted, number = name, 1
        while self._is_taken(f"{wanted}{ending}", made_of):
            number += 1
            wanted = f"{name} {number}"
        return wanted

    def _is_taken(self, name: str, made_of: tuple[Any, ...]) -> bool:
        return name in self._held and not _same(self._known[name][0], made_of)

    def add(self, name: str, thing: T, *made_of: Any) -> T:
        """Let a name lead to a thing, whatever it led to before; returns the thing."""
        self._known[name] = made_of, thing
        self._held.add(name)
        return thing


def unnumbered(name: str) -> str:
    """A path's or cell's name without the numbers that tell apart what is called alike.

    In another process, or in a test after others, the same loss has another number or none.
    """
    return _FORMULA.sub(r"\1", _LOSS.sub(r"\1", name))


def release() -> None:
    """Let all names be given anew, as at the start of a test, so that they depend on it alone.

    What a name leads to stays until it is given.
    """
    for names in _ALL:
        names._held.clear()  # noqa: SLF001 - of the class above


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(map(_is, one, other))


def _is(left: Any, right: Any) -> bool:
    """Whether both are one object; a method is made anew whenever it is asked for."""
    by_value = isinstance(left, str | bool | MethodType) and type(left) is type(right)
    return left is right or (by_value and bool(left == right))
