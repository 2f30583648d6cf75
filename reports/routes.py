"""What really ran: the route of every path by format and mode, and where the mode decides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.selection import route_changes_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossfuzz.harness.results.run import CellResult

COLUMNS = ("path", "formats", *MODES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRow:
    """One path's routes in formats that agree.

    Attributes:
        loss: name of the loss.
        texts: as `COLUMNS`; a dash where a mode was not run or has no route.
        differs: whether the route depends on the mode.
    """

    loss: str
    texts: tuple[str, ...]
    differs: bool


def route_rows(results: Iterable[CellResult]) -> list[RouteRow]:
    """A row for each path and group of formats that take the same routes, in the paths' order."""
    routes: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for result in results:
        cell = result.cell
        by_format = routes.setdefault((cell.path.loss.name, cell.path.name), {})
        by_mode = by_format.setdefault(cell.format.dtype_name, {})
        by_mode[cell.mode] = result.route.name if result.route else "-"
    rows: list[RouteRow] = []
    for (loss, path), by_format in routes.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for fmt, by_mode in by_format.items():
            groups.setdefault(tuple(by_mode.get(mode, "-") for mode in MODES), []).append(fmt)
        rows.extend(
            RouteRow(
                loss=loss,
                texts=(path, ", ".join(formats), *found),
                differs=len({name for name in found if name != "-"}) > 1,
            )
            for found, formats in groups.items()
        )
    return rows


def route_changes(results: Sequence[CellResult]) -> list[str]:
    """One line for each path whose route depends on the mode; formats that agree share it."""
    lines: dict[tuple[str, str], list[str]] = {}
    for change in route_changes_of(results):
        modes: dict[str, list[str]] = {}
        for mode, route in change.routes.items():
            modes.setdefault(route, []).append(mode)
        told = "; ".join(f"{' and '.join(found)}: {route}" for route, found in modes.items())
        formats = lines.setdefault((change.path, told), [])
        if change.format not in formats:
            formats.append(change.format)
    return [f"{path} ({', '.join(formats)}): {told}" for (path, told), formats in lines.items()]
