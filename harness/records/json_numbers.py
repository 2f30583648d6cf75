"""Numbers as JSON has them: those that are not finite by name."""

from __future__ import annotations


def json_number(value: float) -> float | str:
    """A float that JSON can hold, or its name."""
    return value if abs(value) < float("inf") else repr(value)
