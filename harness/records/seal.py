"""The seal of a record: a digest of its content, so that a changed bit does not go unseen.

It guards against damage, and not against somebody who means harm and can make a seal anew.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = 2
"""Of the records of runs and checks: those from 2 on are sealed."""

FIELD = "digest"
"""The field of a sealed record that holds its digest."""


class BrokenSealError(ValueError):
    """A record is not what was written; the message is one line."""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its digest beside its other fields; an older one is replaced."""
    content = {name: value for name, value in record.items() if name != FIELD}
    return {**content, FIELD: digest_of(content)}


def opened(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record without its digest, if that is the digest of the rest.

    Raises:
        BrokenSealError: it has none, or another one.
    """
    content = {name: value for name, value in record.items() if name != FIELD}
    if FIELD not in record:
        raise BrokenSealError(f"its {FIELD} is missing")
    if record[FIELD] != digest_of(content):
        raise BrokenSealError("it does not match its digest: it was damaged or changed")
    return content


def digest_of(record: Mapping[str, Any]) -> str:
    """The SHA-256 of a record's content, which does not depend on how the file was laid out."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
