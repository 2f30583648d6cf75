"""What a run was told to do, and where it ran, as its record tells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.paths.unloaded import learn
from lossfuzz.harness.records.fields import (
    count,
    devices,
    inner,
    items,
    non_negative,
    numbers,
    record_of,
    shapes_of,
    texts,
    texts_by_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_ROWS = 10**15
"""Of a cell: thirty years at a million rows a second."""


def check_plan(record: Mapping[str, Any]) -> None:
    """See that a plan's record can be told, and learn what it tells of users' paths.

    Its names need not be known here: a run of another version may have families that this one
    lacks, and is shown all the same.

    Raises:
        ValueError: a field is missing or of another kind; the message names it.
    """
    learn(inner(record, "own", {}))
    for name, told in (("families", texts(record, "families")), ("shapes", shapes_of(record))):
        if not told:
            raise ValueError(f"the plan's field {name!r} is empty")
    for name in ("paths", "formats", "modes"):
        texts(record, name, ())
    devices({"devices": (), **record})
    count(record, "seed")
    if "rows" not in record:
        raise ValueError("the plan's field 'rows' is missing")
    if record["rows"] is not None and count(record, "rows") > _MOST_ROWS:
        raise ValueError("the plan's field 'rows' is more than any run can measure")
    for name in ("seconds", "search"):
        if record.get(name) is not None:
            non_negative(record, name)
    if "bounds" in record:
        numbers(record, "bounds")


def checked_environment(record: dict[str, Any]) -> dict[str, Any]:
    """The record itself, if it tells versions and devices as `RunResult.environment` has them.

    Raises:
        ValueError: a field is of another kind; the message names it.
    """
    for place in (record, *_places(record)):
        texts_by_name(place, "versions", {})
        devices({"devices": (), **place})
        texts(place, "cpu_features", ())
        texts_by_name(place, "flags", {})
    for one in items(record, "joined", ()):
        checked_environment(record_of(one, "joined"))
    return record


def _places(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Other interpreters' TensorFlows, each with what is installed there."""
    return [record_of(one, "subjects") for one in inner(record, "subjects", {}).values()]
