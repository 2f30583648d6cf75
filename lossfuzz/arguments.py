"""A check's arguments, from what was given to values; what cannot be one is told in one line."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, TypeVar

from lossfuzz.harness.numbers.formats import FloatFormat, training_format
from lossfuzz.harness.records.modes import mode_named
from lossfuzz.strategies.families import family_named

if TYPE_CHECKING:
    from collections.abc import Callable

    Shape = tuple[int, ...]

T = TypeVar("T")

_LEAST_AXES = 2
_MOST_SHOWN = 80


def formats_of(given: Any) -> tuple[FloatFormat, ...]:
    """Formats by name, by value, or by a dtype of NumPy's or TensorFlow's; or a single one.

    Raises:
        ValueError: one of them is not known.
        TypeError: they are none.
    """
    return _several("formats", given, _format, "'float32'")


def modes_of(given: Any) -> tuple[str, ...]:
    """Modes by name, or a single one.

    Raises:
        ValueError: one of them is not known.
        TypeError: they are none.
    """
    return _several("modes", given, _named("modes", mode_named, "'eager'"), "'eager'")


def families_of(given: Any) -> tuple[str, ...]:
    """Families by name, or a single one.

    Raises:
        ValueError: one of them is not known.
        TypeError: they are none.
    """

    def name(one: str) -> str:
        family_named(one)
        return one

    return _several("families", given, _named("families", name, "'normal'"), "'normal'")


def shapes_of(given: Any) -> tuple[Shape, ...]:
    """Shapes ``[..., rows, classes]``.

    Raises:
        ValueError: one of them has less than two axes, or an axis of less than 1.
        TypeError: they are none, such as one shape alone.
    """
    expected = "expected shapes as a list such as [(16, 5)]"
    if isinstance(given, str | bytes):
        raise TypeError(f"{expected}, got {_shown(given)}")
    try:
        shapes = list(given)
    except TypeError:
        raise TypeError(f"{expected}, got {_shown(given)}") from None
    if shapes and all(_integer(one) is not None for one in shapes):
        one = tuple(_integer(number) for number in shapes)
        if len(one) < _LEAST_AXES:
            raise TypeError(f"{expected}, got {_shown(given)}")
        raise TypeError(f"{expected}, got one shape: write shapes=[{one}]")
    return tuple(dict.fromkeys(map(_shape, shapes)))


def rows_of(given: Any) -> int | None:
    """A number of rows; None as it is.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is less than 1.
    """
    if given is None:
        return None
    rows = _whole("rows", given, "20000")
    if rows < 1:
        raise ValueError(f"expected rows of 1 or more, got {rows}")
    return rows


def seed_of(given: Any) -> int:
    """A seed.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative.
    """
    seed = _whole("seed", given, "0")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got {seed}")
    return seed


def seconds_of(given: Any) -> float | None:
    """A time in seconds; None as it is.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above 0, or is not finite.
    """
    return None if given is None else _seconds(given, "seconds")


def time_limit_of(given: Any, budget: float | None, usual: float) -> float:
    """The seconds that one call of a user's code may take.

    Args:
        given: what the user said; None for the usual time, or the whole budget if that is more.
        budget: in seconds, of all calls; None for none.
        usual: in seconds.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above 0, or is not finite.
    """
    return max(usual, budget or 0.0) if given is None else _seconds(given, "a time limit")


def _seconds(given: Any, what: str) -> float:
    told = f"expected {what} as a number above 0 such as 30, got {_shown(given)}"
    if isinstance(given, str | bytes | bool):
        raise TypeError(told)
    try:
        seconds = float(given)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(told) from None
    if not 0 < seconds < math.inf:
        raise ValueError(told)
    return seconds


def device_of(given: Any) -> str:
    """A device's name.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(given, str):
        raise TypeError(f"expected a device's name such as 'CPU:0', got {_shown(given)}")
    return given


def _several(what: str, given: Any, value: Callable[[Any], T], example: str) -> tuple[T, ...]:
    """The values of several, each once; a single one that is no sequence counts as one."""
    expected = f"expected {what} as a list such as [{example}]"
    if isinstance(given, str | type) or hasattr(given, "name"):  # a name, a format or a dtype
        return (value(given),)
    try:
        several = list(given)
    except TypeError:
        raise TypeError(f"{expected}, got {_shown(given)}") from None
    if not several:
        raise ValueError(f"expected at least one of the {what}, got none")
    return tuple(dict.fromkeys(map(value, several)))


def _named(what: str, find: Callable[[str], str], example: str) -> Callable[[Any], str]:
    def named(one: Any) -> str:
        if not isinstance(one, str):
            raise TypeError(f"expected {what} by name such as {example}, got {_shown(one)}")
        return find(one)

    return named


def _format(one: Any) -> FloatFormat:
    if isinstance(one, str | FloatFormat):
        return training_format(one)
    name = getattr(one, "name", None) or getattr(one, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"expected formats by name such as 'float32', got {_shown(one)}")
    return training_format(name)


def _shape(one: Any) -> Shape:
    expected = "expected a shape [..., rows, classes] of whole numbers such as (16, 5)"
    if isinstance(one, str | bytes):
        raise TypeError(f"{expected}, got {_shown(one)}")
    try:
        numbers = [_integer(number) for number in one]
    except (TypeError, ValueError):
        raise TypeError(f"{expected}, got {_shown(one)}") from None
    shape = tuple(number for number in numbers if number is not None)
    if len(shape) < len(numbers):
        raise TypeError(f"{expected}, got {_shown(one)}")
    if len(shape) < _LEAST_AXES or min(shape) < 1:
        raise ValueError(f"expected a shape [..., rows, classes] of 1 or more, got {shape}")
    return shape


def _whole(what: str, given: Any, example: str) -> int:
    number = _integer(given)
    if number is None and isinstance(given, float) and given.is_integer():
        number = int(given)
    if number is None:
        raise TypeError(
            f"expected {what} as a whole number such as {example}, got {_shown(given)}"
        )
    return number


def _integer(given: Any) -> int | None:
    """A whole number of any library; None of what is none, as True is."""
    if isinstance(given, bool):
        return None
    try:
        return operator.index(given)
    except TypeError:
        return None


def _shown(given: Any) -> str:
    """What was given, in one short line."""
    text = " ".join(repr(given).split())
    text = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
    return f"{text} of type {type(given).__name__}"
