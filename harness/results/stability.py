"""Where a cell breaks: its worst errors by number of classes and by margin, mergeable."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.records.fields import are_whole, items

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.conditions import Conditions
    from lossfuzz.harness.measuring.measure import Measurement

    Reals = NDArray[np.float64]

_OUTWARD = np.array(
    [
        *range(33),
        *range(36, 64, 4),
        *range(64, 128, 8),
        *(2.0**exponent for exponent in (7, 8, 9, 10, 11, 12, 16, 32, 64, 128)),
        np.inf,
    ]
)

EDGES: tuple[float, ...] = (*(-_OUTWARD[:0:-1]).tolist(), *_OUTWARD.tolist())
"""Edges of the margins' bins, ascending; bin i holds margins in ``[EDGES[i], EDGES[i + 1])``.

Steps of 1 up to 32, of 4 up to 64, of 8 up to 128, then octaves up to 4096 and a few wide bins,
of either sign: softmax's thresholds in the training formats lie between 8 and 104. The last bin
holds infinity too, the margin of a masked label.
"""

LOWEST_LEVEL = -10
"""The level of errors up to ``2**-10``, and of none."""

INFINITE_LEVEL = 1024
"""The level of NaNs and wrong infinities."""


@dataclass(slots=True)
class Place:
    """The rows of one number of classes whose margins lie in one bin.

    Attributes:
        rows: how many.
        loss: level of the largest mixed error of their losses: it is ``2**level`` at most.
        gradient: the same of their gradients.
        defective: rows among them that show a defect of any kind.
    """

    rows: int = 0
    loss: int = LOWEST_LEVEL
    gradient: int = LOWEST_LEVEL
    defective: int = 0

    def merge(self, other: Place) -> None:
        """Add more rows."""
        self.rows += other.rows
        self.loss = max(self.loss, other.loss)
        self.gradient = max(self.gradient, other.gradient)
        self.defective += other.defective


@dataclass(slots=True)
class StabilityMap:
    """Errors by number of classes and margin; places merge in any order.

    Attributes:
        places: number of classes and bin of `EDGES` to what is there; only places with rows.
    """

    places: dict[tuple[int, int], Place] = field(default_factory=dict)

    def add(self, measurement: Measurement, conditions: Conditions) -> None:
        """Count one batch's judged rows that have a margin.

        The error of a reduced loss is the batch's: it counts at the row of the largest margin.
        """
        margin = conditions.margin
        counted = measurement.judged & ~np.isnan(margin)
        if not counted.any():
            return
        loss = measurement.loss_mixed
        if measurement.is_reduced:
            spread = np.zeros(len(margin))
            spread[np.argmax(np.where(counted, margin, -np.inf))] = loss[0]
            loss = spread
        defective = np.zeros(len(margin), np.bool_)
        for flags in measurement.defects.values():
            defective |= flags
        bins = np.searchsorted(EDGES, margin[counted], side="right") - 1
        bins = np.minimum(bins, len(EDGES) - 2)
        found, place = np.unique(bins, return_inverse=True)
        rows = np.bincount(place)
        broken = np.bincount(place, weights=defective[counted]).astype(np.int64)
        levels = [np.full(len(found), LOWEST_LEVEL) for _ in range(2)]
        for level, errors in zip(levels, (loss, measurement.gradient_mixed), strict=True):
            np.maximum.at(level, place, levels_of(errors[counted]))
        classes = conditions.gradient.shape[1]
        for at, *figures in zip(found, rows, *levels, broken, strict=True):
            self._place((classes, int(at))).merge(Place(*map(int, figures)))

    def _place(self, key: tuple[int, int]) -> Place:
        return self.places.setdefault(key, Place())

    def merge(self, other: StabilityMap) -> None:
        """Add another map of the same cell; associative and commutative."""
        for key, place in other.places.items():
            self._place(key).merge(place)

    def to_json(self) -> dict[str, list[list[int]]]:
        """Number of classes to bin, rows, two levels and, if there are any, defective rows."""
        record: dict[str, list[list[int]]] = {}
        for (classes, at), one in sorted(self.places.items()):
            figures = [at, one.rows, one.loss, one.gradient, one.defective]
            record.setdefault(str(classes), []).append(figures if one.defective else figures[:-1])
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> StabilityMap:
        """The map that `to_json` wrote.

        Raises:
            ValueError: it is not.
        """
        places: dict[tuple[int, int], Place] = {}
        for classes in record:
            if not (classes.isascii() and classes.isdigit() and len(classes) < _LONG):
                raise ValueError(f"expected a number of classes, got {classes[:40]!r}")
            found = items(record, classes)
            if not {*map(type, found)} <= {list} or not {*map(len, found)} <= {4, 5}:
                raise ValueError("a place of the stability map is no list of 4 or 5 numbers")
            if not are_whole([*itertools.chain.from_iterable(found)]):
                raise ValueError("a place of the stability map is no list of whole numbers")
            for figures in found:
                places[int(classes), figures[0]] = _place_of(*figures)
        return cls(places)


def _place_of(at: int, rows: int, loss: int, gradient: int, defective: int = 0) -> Place:
    """What is at a bin, as `StabilityMap.to_json` writes it."""
    if not 0 <= at < len(EDGES) - 1:
        raise ValueError(f"bin {at} lies outside the stability map")
    if not (LOWEST_LEVEL <= loss <= INFINITE_LEVEL and LOWEST_LEVEL <= gradient <= INFINITE_LEVEL):
        raise ValueError(f"levels {loss} and {gradient} lie outside the stability map")
    if rows < 0 or defective < 0:
        raise ValueError("a place of the stability map has fewer rows than none")
    return Place(rows=rows, loss=loss, gradient=gradient, defective=defective)


_LONG = 12


def levels_of(errors: Reals) -> NDArray[np.int64]:
    """The smallest exponents whose powers of two are not below the errors."""
    infinite = ~np.isfinite(errors)
    mantissa, exponent = np.frexp(np.where(infinite, 0, errors))
    level = np.where(mantissa == 0, LOWEST_LEVEL, exponent - (mantissa == 0.5))
    return np.where(infinite, INFINITE_LEVEL, np.maximum(level, LOWEST_LEVEL)).astype(np.int64)
