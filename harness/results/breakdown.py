"""What is kept of one family of logits in one cell: coarser than a summary, merged as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lossfuzz.harness.records.fields import count, items, number
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.results.findings import counts_by_kind
from lossfuzz.harness.results.histogram import Octaves


@dataclass(slots=True)
class Breakdown:
    """Statistics of one family in one cell.

    Attributes:
        rows: rows that were run.
        judged: rows among them that have an exact value.
        defects: kind to judged rows that show it.
        loss_mixed: the loss's largest error in units of ``u * max(1, |exact|)``.
        gradient_mixed: the gradient's largest error in units of u and of its scale.
        loss_ulp: ULP errors over judged rows.
        gradient_ulp: ULP errors over the components of judged rows.
    """

    rows: int = 0
    judged: int = 0
    defects: dict[str, int] = field(default_factory=dict)
    loss_mixed: float = 0.0
    gradient_mixed: float = 0.0
    loss_ulp: Octaves = field(default_factory=Octaves)
    gradient_ulp: Octaves = field(default_factory=Octaves)

    def merge(self, other: Breakdown) -> None:
        """Add another part of the same family; associative and commutative."""
        self.rows += other.rows
        self.judged += other.judged
        for kind, rows in other.defects.items():
            self.defects[kind] = self.defects.get(kind, 0) + rows
        self.loss_mixed = max(self.loss_mixed, other.loss_mixed)
        self.gradient_mixed = max(self.gradient_mixed, other.gradient_mixed)
        self.loss_ulp.merge(other.loss_ulp)
        self.gradient_ulp.merge(other.gradient_ulp)

    def to_json(self) -> dict[str, Any]:
        """The statistics as JSON's types."""
        return {
            "rows": self.rows,
            "judged": self.judged,
            "defects": {kind: count for kind, count in self.defects.items() if count},
            "loss_mixed": json_number(self.loss_mixed),
            "gradient_mixed": json_number(self.gradient_mixed),
            "loss_ulp": self.loss_ulp.to_json(),
            "gradient_ulp": self.gradient_ulp.to_json(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Breakdown:
        """The statistics that `to_json` wrote."""
        return cls(
            rows=count(record, "rows"),
            judged=count(record, "judged"),
            defects=counts_by_kind(record, "defects"),
            loss_mixed=number(record, "loss_mixed"),
            gradient_mixed=number(record, "gradient_mixed"),
            loss_ulp=Octaves.from_json(items(record, "loss_ulp")),
            gradient_ulp=Octaves.from_json(items(record, "gradient_ulp")),
        )
