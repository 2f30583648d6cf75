"""JSON files that lossfuzz writes and reads: objects with a schema and a seal."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any, NoReturn

from lossfuzz.harness.records.seal import FIELD, SCHEMA, BrokenSealError, opened, sealed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

UNSEALED = 1
"""The last schema whose records have no digest; they are read as they are."""

LONGEST = 1 << 30
"""Bytes of a file that is read; ours of a default run has some 50 MB."""


def text_of(record: Mapping[str, Any], *, indent: int | None = None) -> str:
    """The text of a file that `read_record` reads: the record, sealed."""
    return json.dumps(sealed(record), sort_keys=True, allow_nan=False, indent=indent)


def read_record(path: Path, keys: Collection[str], expected: str) -> dict[str, Any]:
    """The object that a file holds, its seal opened.

    Args:
        path: of the file.
        keys: of which it has one at least.
        expected: what the file should have been, for messages.

    Raises:
        ValueError: it cannot be read, is something else, of another version, or damaged; the
            message is one line.
    """
    record = parsed(read_text(path, expected), repr(str(path)), expected)
    if not isinstance(record, dict) or not set(keys) & set(record):
        raise ValueError(f"{str(path)!r} holds no results: {expected}")
    schema = record.get("schema")
    if isinstance(schema, bool) or schema not in (UNSEALED, SCHEMA):
        raise ValueError(
            f"{str(path)!r} has schema {str(schema)[:20]!r}, this lossfuzz reads {UNSEALED} and "
            f"{SCHEMA}: use the version that wrote it, or measure again"
        )
    if schema == UNSEALED and FIELD not in record:
        return record
    try:
        return opened(record)
    except BrokenSealError as error:
        raise ValueError(
            f"{str(path)!r} cannot be trusted: {error}; restore a copy, or measure again"
        ) from None


def read_text(path: Path, expected: str) -> str:
    """The text of a file.

    Raises:
        ValueError: it cannot be read, is no text, or is longer than `LONGEST`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r} ({error.strerror}): {expected}") from None
    if len(content) > LONGEST:
        raise ValueError(f"{str(path)!r} has more than {LONGEST >> 20} MiB: {expected}")
    try:
        return content.decode()
    except ValueError:
        raise ValueError(f"{str(path)!r} is no text: {expected}") from None


def is_plain_file(path: Path) -> bool:
    """Whether a file within a folder is one that ends: no pipe, device or folder."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def parsed(text: str, name: str, expected: str) -> Any:
    """What a JSON text says.

    Args:
        text: of a file.
        name: of where it came from, for messages.
        expected: what it should have been, for messages.

    Raises:
        ValueError: it is no JSON, or nested too deeply for a record of ours.
    """
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_each_field_once
        )
    except _DoubledFieldError as error:
        raise ValueError(f"{name} has {error}: {expected}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{name} is no JSON: {expected}") from None


class _DoubledFieldError(ValueError):
    """One object has a field twice, so that readers differ in what it says."""


def _each_field_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise _DoubledFieldError(f"a field twice, {doubled[:40]!r}")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
