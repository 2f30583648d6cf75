"""Cliffs: the margins at which a cell breaks, to the last number of the logits' format."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.numbers.decimals import shortest_decimal
from lossfuzz.harness.paths.cells import Cell, cell_of
from lossfuzz.harness.records.fields import (
    count,
    flag,
    inner,
    items,
    number,
    optional_text,
    record_of,
    text,
)
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.numbers.formats import FloatFormat

ZERO_GRADIENT = "zero gradient"

CLIFF_KINDS: dict[str, str] = {
    kinds.GRADIENT_COLLAPSE: kinds.KINDS[kinds.GRADIENT_COLLAPSE],
    ZERO_GRADIENT: "every component of the gradient is exactly 0 where the exact one is not",
    kinds.LABEL_GRADIENT_COLLAPSE: "the true class's component is exactly 0, the exact one is not",
    kinds.SATURATION: "the loss equals the value at which it stops growing",
    kinds.LOSS_COLLAPSE: kinds.KINDS[kinds.LOSS_COLLAPSE],
    kinds.NON_FINITE_LOSS: kinds.KINDS[kinds.NON_FINITE_LOSS],
    kinds.NON_FINITE_GRADIENT: kinds.KINDS[kinds.NON_FINITE_GRADIENT],
}
"""What can begin at a margin, with what it means."""

LOSES = "label loses"
WINS = "label wins"
UNLABELLED = "one logit leads"
ZERO_LOSES, ZERO_WINS = "target 0 loses", "target 0 wins"
ONE_LOSES, ONE_WINS = "target 1 loses", "target 1 wins"

SIDES: dict[str, str] = {
    LOSES: "logits [0, m, ..., m], label 0",
    WINS: "logits [m, 0, ..., 0], label 0",
    UNLABELLED: "logits [0, m, ..., m], a loss without a label",
    ZERO_LOSES: "one logit m, target 0",
    ZERO_WINS: "one logit -m, target 0",
    ONE_LOSES: "one logit -m, target 1",
    ONE_WINS: "one logit m, target 1",
}
"""The rows on which a margin m >= 0 is walked along."""

LOSING = (LOSES, UNLABELLED, ZERO_LOSES, ONE_LOSES)
"""The sides on which the target loses by the margin, so that loss and gradient should be large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What a cell returns at one margin, and what it should return.

    Attributes:
        margin: m of the row, a number of the logits' format.
        loss: observed.
        exact_loss: to float64.
        label_gradient: observed component of the label, or of the only logit.
        exact_label_gradient: to float64.
        largest_gradient: largest observed magnitude of a component.
        exact_largest_gradient: to float64.
    """

    margin: float
    loss: float
    exact_loss: float
    label_gradient: float
    exact_label_gradient: float
    largest_gradient: float
    exact_largest_gradient: float

    def to_json(self) -> dict[str, Any]:
        """The edge as JSON's types."""
        return {name: json_number(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Edge:
        """The edge that `to_json` wrote.

        Raises:
            ValueError: a field is missing or no number.
        """
        return cls(**{one.name: number(record, one.name) for one in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cliff:
    """Where something begins: it shows at one margin and not at the next smaller one.

    Attributes:
        kind: one of `CLIFF_KINDS`.
        tier: `DEFECT` where a row at the margin counts as one, else `INACCURACY`.
        side: one of `SIDES`.
        classes: of the row.
        at: the smallest margin found that shows it.
        below: the number of the format just below; None if even a margin of 0 shows it.
        confirmed: whether a batch of these two margins alone told them apart again.
    """

    kind: str
    tier: str
    side: str
    classes: int
    at: Edge
    below: Edge | None
    confirmed: bool

    def __post_init__(self) -> None:
        if self.kind not in CLIFF_KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known kinds: {', '.join(CLIFF_KINDS)}")
        if self.side not in SIDES:
            raise ValueError(f"unknown side {self.side!r}; known sides: {', '.join(SIDES)}")
        if self.tier not in (DEFECT, INACCURACY):
            raise ValueError(f"unknown tier {self.tier!r}; expected {DEFECT} or {INACCURACY}")

    @property
    def margin(self) -> float:
        """The margin at which it begins."""
        return self.at.margin

    def to_json(self) -> dict[str, Any]:
        """The cliff as JSON's types."""
        return {
            "kind": self.kind,
            "tier": self.tier,
            "side": self.side,
            "classes": self.classes,
            "at": self.at.to_json(),
            "below": self.below.to_json() if self.below else None,
            "confirmed": self.confirmed,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Cliff:
        """The cliff that `to_json` wrote.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        below = record.get("below")
        return cls(
            kind=text(record, "kind"),
            tier=text(record, "tier"),
            side=text(record, "side"),
            classes=count(record, "classes"),
            at=Edge.from_json(inner(record, "at")),
            below=None if below is None else Edge.from_json(record_of(below, "below")),
            confirmed=flag(record, "confirmed"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCliffs:
    """All cliffs of one cell.

    Attributes:
        cell: that was walked along.
        cliffs: side by side, in the order of `CLIFF_KINDS`.
        unavailable: why the cell could not run; None if it could.
    """

    cell: Cell
    cliffs: tuple[Cliff, ...] = ()
    unavailable: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON's types."""
        return {
            "path": self.cell.path.name,
            "format": self.cell.format.dtype_name,
            "mode": self.cell.mode,
            "device": self.cell.device,
            "unavailable": self.unavailable,
            "cliffs": [cliff.to_json() for cliff in self.cliffs],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CellCliffs:
        """The record that `to_json` wrote; its path must be known here."""
        return cls(
            cell=cell_of(record),
            cliffs=tuple(Cliff.from_json(one) for one in items(record, "cliffs")),
            unavailable=optional_text(record, "unavailable"),
        )


def shortest(value: float, fmt: FloatFormat) -> str:
    """A number of a format, exactly where that is short, else the shortest decimal for it.

    So 16.234375 of float16 stays as it is, and 16.118095397949219 of float32 is 16.118095.
    """
    exact = f"{value:g}" if value == int(value) and value < _LARGEST_PLAIN else repr(value)
    return exact if len(exact) <= _SHORT else shortest_decimal(value, fmt)


_LARGEST_PLAIN = 1e6
_SHORT = 10


def first_defect(cliffs: Iterable[Cliff], kind: str) -> Cliff | None:
    """Where a kind begins as a defect while the target loses; None if it was not seen to begin.

    This is the one source of the margins and plateaus that reports tell of a cell. Of several
    sides the smallest margin counts, and of `SATURATION` the smallest loss at which it stops.
    """
    found = [
        one for one in cliffs if one.kind == kind and one.tier == DEFECT and one.side in LOSING
    ]
    if kind == kinds.SATURATION:
        return min(found, key=lambda one: one.at.loss, default=None)
    return min(found, key=lambda one: one.margin, default=None)


def first_margin(cliffs: Iterable[Cliff], kind: str, sides: Iterable[str]) -> float:
    """The smallest margin at which a kind begins on some sides; infinity if it never does."""
    chosen = set(sides)
    found = (one.margin for one in cliffs if one.kind == kind and one.side in chosen)
    return min(found, default=math.inf)
