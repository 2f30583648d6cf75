"""Reading a JSON file that lossfuzz wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def read_record(path: Path, keys: Collection[str], expected: str) -> dict[str, Any]:
    """The object that a file holds.

    Args:
        path: of the file.
        keys: of which it has one at least.
        expected: what the file should have been, for messages.

    Raises:
        ValueError: it cannot be read, or is something else; the message is one line.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r} ({error.strerror}): {expected}") from None
    except ValueError:
        raise ValueError(f"{str(path)!r} is no JSON: {expected}") from None
    if not isinstance(record, dict) or not set(keys) & set(record):
        raise ValueError(f"{str(path)!r} holds no results: {expected}")
    return record
