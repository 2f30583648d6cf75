"""The fields of a JSON record, each checked as it is read.

Records come from files, and files from anywhere: a field that is missing or of another kind than
it was written as is told by its name, before anything is made of it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_MISSING = object()
_LARGEST_COUNT = 2**62
_DEVICE = re.compile(r"(?:[^\x00-\x1f\x7f/]{1,200}/)?[A-Za-z_]{1,40}:[0-9]{1,6}")
"""TensorFlow's short name, behind the name of a subject if it is another one's."""

_MOST_SHOWN = 40


def record_of(value: Any, what: str) -> dict[str, Any]:
    """The value itself, if it is an object of JSON.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise _unlike(what, value, "an object")
    return value


def items(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> list[Any]:
    """A list."""
    value = _field(record, name, default)
    if not isinstance(value, list | tuple):
        raise _unlike(name, value, "a list")
    return list(value)


def inner(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> dict[str, Any]:
    """An object within the object."""
    return record_of(_field(record, name, default), name)


def text(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> str:
    """A text."""
    return _text(_field(record, name, default), name)


def optional_text(record: Mapping[str, Any], name: str) -> str | None:
    """A text, or null."""
    value = _field(record, name)
    return None if value is None else _text(value, name)


def texts(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(_text(one, name) for one in items(record, name, default))


def texts_by_name(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> dict[str, str]:
    """An object whose values are texts."""
    return {key: _text(one, name) for key, one in inner(record, name, default).items()}


def flag(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> bool:
    """True or false."""
    value = _field(record, name, default)
    if not isinstance(value, bool):
        raise _unlike(name, value, "true or false")
    return value


def count(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> int:
    """A whole number of 0 or more."""
    return as_count(_field(record, name, default), name)


def counts(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> dict[str, int]:
    """An object whose values are whole numbers of 0 or more."""
    return {key: as_count(one, name) for key, one in inner(record, name, default).items()}


def number(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> float:
    """A number, or the name of one that JSON cannot hold: inf, -inf, nan."""
    return as_number(_field(record, name, default), name)


def numbers(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> tuple[float, ...]:
    """A list of `number`."""
    values = items(record, name, default)
    if set(map(type, values)) == {float}:
        return tuple(values)
    return tuple(as_number(one, name) for one in values)


def non_negative(record: Mapping[str, Any], name: str) -> float:
    """A finite number of 0 or more."""
    value = number(record, name)
    if not 0 <= value < math.inf:
        raise _unlike(name, value, "a finite number of 0 or more")
    return value


def shapes_of(record: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
    """The shapes of batches in a field of that name, each written as 256x10.

    Raises:
        ValueError: one is none, or of more logits than any machine can hold.
    """
    return tuple(map(_shape, texts(record, "shapes")))


def _shape(written: str) -> tuple[int, ...]:
    parts = written.split("x")
    if not all(part.isascii() and part.isdigit() and len(part) < _LONG for part in parts):
        raise ValueError(f"the field 'shapes' has {_shown(written)}, expected such as 256x10")
    shape = tuple(map(int, parts))
    if math.prod(shape) > _MOST_LOGITS:
        raise ValueError(f"a batch of {written[:60]} is larger than any machine can hold")
    return shape


_LONG = 12
_MOST_LOGITS = 2**40
"""In a batch: 4 TiB of float32. What this machine has room for, `lossfuzz run` sees."""


def one_of(record: Mapping[str, Any], name: str, known: Collection[str]) -> str:
    """One of some texts."""
    value = text(record, name)
    if value not in known:
        raise ValueError(f"unknown {name} {_shown(value)}; known are: {', '.join(known)}")
    return value


def device(record: Mapping[str, Any], name: str = "device") -> str:
    """The name of a device, as `Cell.device` has it."""
    return _device(text(record, name), name)


def devices(record: Mapping[str, Any], name: str = "devices") -> tuple[str, ...]:
    """A list of `device`."""
    return tuple(_device(one, name) for one in texts(record, name))


def _device(value: str, name: str) -> str:
    if not _DEVICE.fullmatch(value):
        raise _unlike(name, value, "a device's name such as CPU:0")
    return value


def as_count(value: Any, name: str) -> int:
    """The value itself, if it is a whole number of 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_COUNT:
        raise _unlike(name, value, "a whole number of 0 or more")
    return value


def are_whole(values: Collection[Any]) -> bool:
    """Whether all values are whole numbers that an int64 holds; quicker than one by one."""
    if set(map(type, values)) != {int}:
        return not values
    return bool(min(values) > -_LARGEST_COUNT and max(values) < _LARGEST_COUNT)


def as_whole(value: Any, name: str) -> int:
    """The value itself, if it is a whole number of either sign."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= _LARGEST_COUNT:
        raise _unlike(name, value, "a whole number")
    return value


def as_number(value: Any, name: str) -> float:
    """The float that a value is, or names."""
    if isinstance(value, str) and value in _NAMED:
        return _NAMED[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unlike(name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise _unlike(name, value, "a number that float64 holds") from None


_NAMED = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _unlike(name, value, "a text")
    return value


def _field(record: Mapping[str, Any], name: str, default: Any = _MISSING) -> Any:
    value = record.get(name, default)
    if value is _MISSING:
        raise ValueError(f"the field {name!r} is missing")
    return value


def _unlike(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"the field {name!r} is {_shown(value)}, expected {expected}")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) >= _LARGEST_COUNT:
        return "a whole number beyond 2**62"  # its digits may be too many to be written
    told = "null" if value is None else repr(value)
    return told if len(told) <= _MOST_SHOWN else told[: _MOST_SHOWN - 2] + " …"
