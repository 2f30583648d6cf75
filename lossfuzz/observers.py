"""Who is told of every check in this process; loads nothing, so that a plugin may wait here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.results.run import RunResult

OBSERVERS: list[Callable[[RunResult, float], None]] = []
"""Called with what a check measured, and the seconds that it took, before it returns or raises."""
