"""Which cells and findings of a run are followed up and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.results.cliffs import CLIFF_KINDS
from lossfuzz.harness.results.kinds import CRASH, DEFECT, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult


def cells_to_walk(cells: Iterable[CellResult]) -> list[CellResult]:
    """The cells whose cliffs are worth finding: they showed a defect that begins at a margin.

    Those whose process died are left out, and those whose rows cannot be told apart within a
    batch, since each margin would take a batch of its own; `lossfuzz cliffs` finds theirs.
    """
    return [
        result
        for result in cells
        if result.unavailable is None
        and result.cell.path.loss.reduction is None
        and any((kind, DEFECT) in result.findings for kind in CLIFF_KINDS)
        and not any((kind, DEFECT) in result.findings for kind in (CRASH, TIMEOUT))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """A finding without a row: a path whose route depends on the mode that it runs in.

    Attributes:
        path: name of the loss path.
        format: dtype name of the logits.
        device: TensorFlow's name.
        routes: mode to the name of its route; at least two of them differ.
    """

    path: str
    format: str
    device: str
    routes: dict[str, str]


def route_changes_of(cells: Iterable[CellResult]) -> list[RouteChange]:
    """The paths whose modes take different routes, in the cells' order."""
    routes: dict[tuple[str, str, str], dict[str, str]] = {}
    for result in cells:
        if result.route is not None:
            cell = result.cell
            key = (cell.path.name, cell.format.dtype_name, cell.device)
            routes.setdefault(key, {})[cell.mode] = result.route.name
    return [
        RouteChange(path=path, format=fmt, device=device, routes=by_mode)
        for (path, fmt, device), by_mode in routes.items()
        if len(set(by_mode.values())) > 1
    ]


def worst_findings(cells: Iterable[CellResult]) -> list[Finding]:
    """The worst finding of each loss and kind over some cells, defects before inaccuracies."""
    return worst_of(finding for result in cells for finding in result.findings.values())


def worst_of(findings: Iterable[Finding]) -> list[Finding]:
    """The worst of each loss and kind among findings; of equals, the first one."""
    worst: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = (finding.tier, finding.loss, finding.kind)
        if key not in worst or finding.severity > worst[key].severity:
            worst[key] = finding
    return [worst[key] for key in sorted(worst)]
