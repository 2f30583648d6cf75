"""How long one call of a user's code may take here, and what happens to one that takes longer."""

from __future__ import annotations

import contextlib
import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME_LIMIT_SECONDS = 300.0
"""Of one call, unless something else is said; compiling by XLA may take minutes."""

TIMED_OUT = 124
"""The exit code of a process that is ended since a user's code does not let itself be ended."""


class OutOfTimeError(BaseException):
    """Raised inside a user's code that takes too long; no ``except Exception`` of his stops it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimit:
    """Of one call of a user's code.

    Attributes:
        seconds: that a call may take; infinite for any.
        before_end: called before the process is ended, to save what there is.
        overdue: names of functions that took longer; they are not called again.
    """

    seconds: float
    before_end: Callable[[], object] | None = None
    overdue: set[str] = field(default_factory=set)


_NONE = TimeLimit(seconds=math.inf)
_CURRENT: ContextVar[TimeLimit] = ContextVar("lossfuzz_time_limit", default=_NONE)


def time_limit() -> TimeLimit:
    """The limit that holds now."""
    return _CURRENT.get()


@contextlib.contextmanager
def limited(seconds: float, before_end: Callable[[], object] | None = None) -> Iterator[None]:
    """Let every call of a user's code take so long at most, until the block ends.

    Args:
        seconds: the most.
        before_end: called before the process is ended, where it comes to that.
    """
    token = _CURRENT.set(TimeLimit(seconds=seconds, before_end=before_end))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def limited_by_default() -> Iterator[None]:
    """The usual limit, where no other one holds."""
    if _CURRENT.get() is not _NONE:
        yield
        return
    with limited(TIME_LIMIT_SECONDS):
        yield
