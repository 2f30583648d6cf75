"""What the paths cost, as tables of text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.paths.cells import Cell, cell_of
from lossfuzz.harness.records.fields import number, optional_text, text
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.running.memory import Footprint

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMNS = ("route", "path", "format", "mode", "forward", "forward + backward", "held", "time")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCost:
    """One cell's footprint, or why it has none.

    Attributes:
        cell: what was measured.
        route: its name.
        footprint: None if the cell could not run.
        unavailable: why, else None.
        relative_time: its step's time by the fused kernel's in the same format, mode and run.
    """

    cell: Cell
    route: str
    footprint: Footprint | None
    unavailable: str | None
    relative_time: float

    def to_json(self) -> dict[str, Any]:
        """The cost as JSON's types."""
        found = self.footprint
        return {
            "path": self.cell.path.name,
            "format": self.cell.format.dtype_name,
            "mode": self.cell.mode,
            "device": self.cell.device,
            "route": self.route,
            "unavailable": self.unavailable,
            "forward": json_number(found.forward) if found else None,
            "step": json_number(found.step) if found else None,
            "held": json_number(found.held) if found else None,
            "seconds": json_number(found.seconds) if found else None,
            "relative_time": json_number(self.relative_time) if found else None,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CellCost:
        """The cost that `to_json` wrote.

        Raises:
            ValueError: it names a path, format or mode that is not known here, or a field is
                missing or of another kind.
        """
        footprint, time = None, math.nan
        unavailable = optional_text(record, "unavailable")
        if unavailable is None:
            footprint = Footprint(
                forward=number(record, "forward"),
                step=number(record, "step"),
                held=number(record, "held"),
                seconds=number(record, "seconds", math.nan),
            )
            time = number(record, "relative_time")
        return cls(
            cell=cell_of(record),
            route=text(record, "route"),
            footprint=footprint,
            unavailable=unavailable,
            relative_time=time,
        )


def cost_rows(costs: Sequence[CellCost]) -> list[tuple[str, ...]]:
    """A row per cell, cheapest route first; texts as in `COLUMNS`."""
    return [
        (
            cost.route,
            cost.cell.path.name,
            cost.cell.format.dtype_name,
            cost.cell.mode,
            *_figures(cost),
        )
        for cost in sorted(costs, key=_by_route)
    ]


def _by_route(cost: CellCost) -> tuple[Any, ...]:
    order = (cost.cell.format.dtype_name, cost.cell.mode, cost.cell.device)
    return (*order, cost.footprint.step if cost.footprint else float("inf"), cost.cell.path.name)


def _figures(cost: CellCost) -> tuple[str, ...]:
    found = cost.footprint
    if found is None:
        return ("-", "-", "-", cost.unavailable or "unavailable")
    return (
        f"{found.forward:.2f} x",
        f"{found.step:.2f} x",
        f"{found.held:.2f} x" if found.held >= _NOTABLE else "0",
        f"{cost.relative_time:.2f} x fused",
    )


_NOTABLE = 0.01


def _compared(cost: CellCost) -> tuple[str, str, str]:
    cell = cost.cell
    return cell.path.loss.name, cell.format.dtype_name, cell.mode


def answers(costs: Sequence[CellCost]) -> list[str]:
    """For every loss, format and mode, what each route's dearest path needs; of several routes."""
    lines = []
    for key in dict.fromkeys(map(_compared, costs)):
        loss, fmt, mode = key
        peaks: dict[str, float] = {}
        for one in costs:
            if _compared(one) == key and one.footprint:
                peaks[one.route] = max(peaks.get(one.route, 0.0), one.footprint.step)
        if len(peaks) > 1:
            ranked = sorted(peaks.items(), key=lambda item: item[1])
            parts = [f"{route} {peak:.2f} x" for route, peak in ranked]
            lines.append(
                f"{loss}, {fmt} {mode}: peak of loss and gradient, by route: {', '.join(parts)} "
                f"the logits' size; the dearest takes {ranked[-1][1] / ranked[0][1]:.1f} times "
                "the cheapest."
            )
    return lines
