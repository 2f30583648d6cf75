"""The rows that have to stand together for one of them to show a finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.records.fields import (
    as_count,
    count,
    items,
    numbers,
)
from lossfuzz.harness.records.json_numbers import json_number

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """Different rows that have to stand together for one of them to show a finding.

    Attributes:
        logits: of every row.
        targets: what each row is fed: its label alone, or its targets.
        shape: of the leading axes.
        row: the finding's, counted over all leading axes.
    """

    logits: tuple[tuple[float, ...], ...]
    targets: tuple[tuple[float, ...], ...]
    shape: tuple[int, ...]
    row: int

    def to_json(self) -> dict[str, Any]:
        """The batch as JSON's types."""
        return {
            "logits": [[json_number(one) for one in row] for row in self.logits],
            "targets": [list(row) for row in self.targets],
            "shape": list(self.shape),
            "row": self.row,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RowBatch:
        """The batch that `to_json` wrote.

        Raises:
            ValueError: it is not.
        """
        return cls(
            logits=_rows_of(record, "logits"),
            targets=_rows_of(record, "targets"),
            shape=tuple(as_count(one, "shape") for one in items(record, "shape")),
            row=count(record, "row"),
        )


def _rows_of(record: Mapping[str, Any], name: str) -> tuple[tuple[float, ...], ...]:
    rows = items(record, name)
    return tuple(numbers({name: row}, name) for row in rows)
