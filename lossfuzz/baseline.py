"""A stored run to compare checks with: what ``--lossfuzz-save`` wrote, or a ``results.json``.

Reads JSON and nothing more, so that a bad file is told before any test runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.records.seal import SCHEMA
from lossfuzz.harness.users.names import unnumbered
from lossfuzz.record import read_record, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_EXPECTED = "expected what --lossfuzz-save wrote, or a results.json of 'lossfuzz run'"
_CELL = ("path", "format", "mode", "device", "unavailable", "summary")
_RUN = ("plan", "environment", "interrupted", "reference_rows", "cells", "findings")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheck:
    """One check, or one run, as it was stored.

    Attributes:
        test: the test's node id; empty for a run.
        number: which of the test's checks it was, from 0.
        record: what `RunResult.to_json` wrote.
    """

    test: str
    number: int
    record: dict[str, Any]

    def cell_names(self) -> set[str]:
        """The names of its cells, as `Cell.name` gives them."""
        return {stored_cell_name(cell) for cell in self.record["cells"]}


def stored_cell_name(record: dict[str, Any]) -> str:
    """The name of the cell that a record is of, as `Cell.name` gives it."""
    return " ".join(str(record[name]) for name in ("path", "format", "mode", "device"))


def read_stored(path: Path) -> list[StoredCheck]:
    """The checks in a file.

    Raises:
        ValueError: it cannot be read, or is something else; the message is one line.
    """
    content = read_record(path, ("checks", "cells"), _EXPECTED)
    try:
        if "checks" in content:
            return [_checked(**check) for check in content["checks"]]
        return [_checked(test="", number=0, result=content)]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{str(path)!r} is damaged, or comes from another version of lossfuzz: {_EXPECTED}"
        ) from None


def _checked(*, test: str, number: int, result: dict[str, Any]) -> StoredCheck:
    missing = [name for name in _RUN if name not in result]
    missing += [name for cell in result["cells"] for name in _CELL if name not in cell]
    if missing:
        raise ValueError(f"expected {', '.join(missing)}")
    return StoredCheck(test=test, number=number, record=result)


def written(checks: Sequence[StoredCheck]) -> str:
    """The text of a file that `read_stored` reads; the same checks in any order give one text."""
    ordered = sorted(checks, key=lambda check: (check.test, check.number))
    content = {
        "schema": SCHEMA,
        "checks": [
            {"test": check.test, "number": check.number, "result": check.record}
            for check in ordered
        ],
    }
    return text_of(content) + "\n"


def the_same(
    checks: Sequence[StoredCheck], *, test: str, number: int, cells: set[str]
) -> StoredCheck | None:
    """The stored check that a new one is to be compared with; None if none holds its cells.

    The same test's is preferred, and then the one that holds most of the cells.
    """
    wanted = {unnumbered(name) for name in cells}

    def shared(check: StoredCheck) -> int:
        return len({unnumbered(name) for name in check.cell_names()} & wanted)

    common = [check for check in checks if shared(check)]
    return max(
        common,
        key=lambda check: (
            (check.test, check.number) == (test, number),
            check.test == test,
            shared(check),
        ),
        default=None,
    )
