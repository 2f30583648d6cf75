"""What is kept of a cell: counts, histograms and extremes that merge in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.records.fields import as_number, count, inner, items, number, record_of
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.breakdown import Breakdown
from lossfuzz.harness.results.findings import counts_by_kind
from lossfuzz.harness.results.histogram import Histogram, Octaves
from lossfuzz.harness.results.stability import StabilityMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.conditions import Conditions
    from lossfuzz.harness.measuring.measure import Measurement
    from lossfuzz.harness.measuring.rounding import Rounding


@dataclass(slots=True)
class Summary:
    """Statistics of one cell.

    Attributes:
        rows: rows that were run.
        judged: rows among them that have an exact value.
        loss_ulp: histogram over judged rows.
        gradient_ulp: histogram over the components of judged rows.
        largest: measure name to its largest value: ``loss_ulp``, ``loss_mixed``,
            ``loss_scaled`` and the same of the gradient.
        rounding_ulp: histogram of the loss against the documented formula, over judged rows.
        bias: largest difference between the documented loss and the loss; infinite where one
            of the two overflows.
        by_design: kind to judged rows that show it as a defect while the result is what the path
            documents.
        defects: kind to judged rows that show it.
        inaccuracies: kind to judged rows that show it.
        vanishing_margin: smallest positive margin of a row whose gradient collapsed as a defect;
            infinity if none did, or if a row's margin does not decide its gradient. The exact
            margin at which it begins is found by walking there: `cliffs.first_defect`.
        zero_margin: the same for a gradient that is exactly 0 in every component.
        plateau: smallest loss of a row that saturated; infinity likewise.
        families: name of a family of logits to its share of the figures.
        stability: worst errors by number of classes and margin.
    """

    rows: int = 0
    judged: int = 0
    loss_ulp: Histogram = field(default_factory=Histogram)
    gradient_ulp: Histogram = field(default_factory=Histogram)
    rounding_ulp: Histogram = field(default_factory=Histogram)
    bias: float = 0.0
    by_design: dict[str, int] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    defects: dict[str, int] = field(default_factory=dict)
    inaccuracies: dict[str, int] = field(default_factory=dict)
    vanishing_margin: float = math.inf
    zero_margin: float = math.inf
    plateau: float = math.inf
    families: dict[str, Breakdown] = field(default_factory=dict)
    stability: StabilityMap = field(default_factory=StabilityMap)

    def add(
        self,
        measurement: Measurement,
        observed_loss: NDArray[Any],
        conditions: Conditions,
        rounding: Rounding | None = None,
        *,
        family: str = "",
    ) -> None:
        """Count one batch, which is all of one family; empty if that is not known."""
        judged = measurement.judged
        loss_ulp = Histogram()
        loss_ulp.add(measurement.judged_errors("loss_ulp"))
        largest = {}
        for name in _MEASURES:
            values = measurement.judged_errors(name)
            if values.size:
                largest[name] = float(values.max())
                self.largest[name] = max(self.largest.get(name, 0.0), largest[name])
        part = Breakdown(
            rows=len(judged),
            judged=int(judged.sum()),
            loss_mixed=largest.get("loss_mixed", 0.0),
            gradient_mixed=largest.get("gradient_mixed", 0.0),
        )
        _count(part.defects, measurement.defects)
        self.rows += part.rows
        self.judged += part.judged
        self.loss_ulp.merge(loss_ulp)
        self.gradient_ulp.merge(measurement.gradient_ulps)
        if family:
            part.loss_ulp = Octaves.of(loss_ulp)
            part.gradient_ulp = Octaves.of(measurement.gradient_ulps)
            self._family(family).merge(part)
        self.stability.add(measurement, conditions)
        _add_counts(self.defects, part.defects)
        _count(self.inaccuracies, measurement.inaccuracies)
        if conditions.margin_decides:
            self._add_places(measurement, observed_loss, conditions)
        self._add_rounding(measurement, rounding)

    def _add_places(
        self, measurement: Measurement, observed_loss: NDArray[Any], conditions: Conditions
    ) -> None:
        """Count where gradients collapsed and losses saturated."""
        collapsed = measurement.defects[kinds.GRADIENT_COLLAPSE] & (conditions.margin > 0)
        self.vanishing_margin = min(self.vanishing_margin, _smallest(conditions.margin[collapsed]))
        self.zero_margin = min(
            self.zero_margin, _smallest(conditions.margin[collapsed & measurement.zero_gradient])
        )
        saturated = measurement.defects[kinds.SATURATION]
        if saturated.any():
            plateau = observed_loss[saturated].astype(np.float64)
            self.plateau = min(self.plateau, _smallest(plateau))

    def _add_rounding(self, measurement: Measurement, rounding: Rounding | None) -> None:
        errors = measurement.loss_ulp if rounding is None else rounding.loss_ulp
        counted = measurement.judged_losses
        self.rounding_ulp.add(errors[counted])
        if rounding is None:
            return
        bias = rounding.bias[counted]
        if bias.size:
            self.bias = max(self.bias, float(np.nan_to_num(bias, nan=np.inf).max()))
        designed = {kind: rows & rounding.by_design for kind, rows in measurement.defects.items()}
        _count(self.by_design, designed)

    def _family(self, name: str) -> Breakdown:
        return self.families.setdefault(name, Breakdown())

    def add_refusal(self, rows: int, *, family: str = "") -> None:
        """Count a batch that the path refused: none of its rows has a result."""
        self.rows += rows
        self.judged += rows
        refused = {kinds.REFUSAL: rows}
        _add_counts(self.defects, refused)
        if family:
            self._family(family).merge(Breakdown(rows=rows, judged=rows, defects=refused))

    def merge(self, other: Summary) -> None:
        """Add another summary of the same cell; associative and commutative."""
        self.rows += other.rows
        self.judged += other.judged
        self.loss_ulp.merge(other.loss_ulp)
        self.gradient_ulp.merge(other.gradient_ulp)
        self.rounding_ulp.merge(other.rounding_ulp)
        self.bias = max(self.bias, other.bias)
        for name, value in other.largest.items():
            self.largest[name] = max(self.largest.get(name, 0.0), value)
        for mine, theirs in (
            (self.defects, other.defects),
            (self.inaccuracies, other.inaccuracies),
            (self.by_design, other.by_design),
        ):
            _add_counts(mine, theirs)
        self.vanishing_margin = min(self.vanishing_margin, other.vanishing_margin)
        self.zero_margin = min(self.zero_margin, other.zero_margin)
        self.plateau = min(self.plateau, other.plateau)
        for name, part in other.families.items():
            self._family(name).merge(part)
        self.stability.merge(other.stability)

    def rate(self, kind: str) -> float:
        """Share of judged rows that show a kind as a defect; NaN if no row was judged."""
        return self.defects.get(kind, 0) / self.judged if self.judged else math.nan

    @property
    def designed(self) -> bool:
        """Whether every row with a defect is what the path documents."""
        found = {kind: count for kind, count in self.defects.items() if count}
        return bool(found) and all(
            self.by_design.get(kind, 0) == count for kind, count in found.items()
        )

    @property
    def defect_rows(self) -> int:
        """Sum over the kinds of the rows that show them as defects."""
        return sum(self.defects.values())

    def to_json(self) -> dict[str, Any]:
        """The summary as JSON's types."""
        return {
            "rows": self.rows,
            "judged": self.judged,
            "loss_ulp": self.loss_ulp.to_json(),
            "gradient_ulp": self.gradient_ulp.to_json(),
            "largest": {name: json_number(value) for name, value in self.largest.items()},
            "rounding_ulp": self.rounding_ulp.to_json(),
            "bias": json_number(self.bias),
            "by_design": {kind: count for kind, count in self.by_design.items() if count},
            "defects": {kind: count for kind, count in self.defects.items() if count},
            "inaccuracies": {kind: count for kind, count in self.inaccuracies.items() if count},
            "vanishing_margin": json_number(self.vanishing_margin),
            "zero_margin": json_number(self.zero_margin),
            "plateau": json_number(self.plateau),
            "families": {name: part.to_json() for name, part in self.families.items()},
            "stability": self.stability.to_json(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Summary:
        """The summary that `to_json` wrote; records of before families were kept lack them.

        Raises:
            ValueError: a field is missing or of another kind; the message names it.
        """
        families = inner(record, "families", {})
        largest = inner(record, "largest")
        for name in largest:
            if name not in _MEASURES:
                raise ValueError(f"unknown measure {name[:40]!r}; known: {', '.join(_MEASURES)}")
        return cls(
            rows=count(record, "rows"),
            judged=count(record, "judged"),
            loss_ulp=Histogram.from_json(items(record, "loss_ulp")),
            gradient_ulp=Histogram.from_json(items(record, "gradient_ulp")),
            rounding_ulp=Histogram.from_json(items(record, "rounding_ulp")),
            bias=number(record, "bias"),
            by_design=counts_by_kind(record, "by_design"),
            largest={name: as_number(value, name) for name, value in largest.items()},
            defects=counts_by_kind(record, "defects"),
            inaccuracies=counts_by_kind(record, "inaccuracies"),
            vanishing_margin=number(record, "vanishing_margin"),
            zero_margin=number(record, "zero_margin"),
            plateau=number(record, "plateau"),
            families={
                name: Breakdown.from_json(record_of(part, "families"))
                for name, part in families.items()
            },
            stability=StabilityMap.from_json(inner(record, "stability", {})),
        )


_MEASURES = (
    "loss_ulp",
    "loss_mixed",
    "loss_scaled",
    "gradient_ulp",
    "gradient_mixed",
    "gradient_scaled",
)


def _smallest(values: NDArray[np.float64]) -> float:
    return float(values.min()) if values.size else math.inf


def _count(counts: dict[str, int], flags: dict[str, NDArray[np.bool_]]) -> None:
    for kind, rows in flags.items():
        counts[kind] = counts.get(kind, 0) + int(rows.sum())


def _add_counts(counts: dict[str, int], more: dict[str, int]) -> None:
    for kind, rows in more.items():
        counts[kind] = counts.get(kind, 0) + rows
