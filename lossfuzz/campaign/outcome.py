"""What a campaign found so far: its finished tasks, merged one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.campaign.tasks import count_of
from lossfuzz.errors import UsageError
from lossfuzz.harness.causes import causes_of, finding_key, joined_causes
from lossfuzz.harness.cliffs import Cliff
from lossfuzz.harness.findings import Finding
from lossfuzz.harness.results import CellResult, RunResult, worst_findings, worst_of
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.campaign.store import Store
    from lossfuzz.harness.cells import Cell
    from lossfuzz.plan import Plan


def merged(store: Store, plan: Plan) -> RunResult:
    """The campaign's results: a pure function of its plan, once all tasks are finished."""
    cells = {cell.name: CellResult(cell) for cell in plan.cells()}
    rows: dict[str, int] = {}
    for _, result in store.results():
        for record in result["cells"]:
            part = CellResult.from_json(record)
            cells[part.cell.name].merge(part)
        for name, count in result["reference_rows"].items():
            rows[name] = rows.get(name, 0) + count
    for by_cell in store.left_out().values():
        for name, (_, record) in by_cell.items():
            _keep(cells[name], Finding.from_json(record))
    for one in cells.values():
        records = store.fact(cliffs_key(one.cell)) or []
        one.cliffs = tuple(Cliff.from_json(record) for record in records)
    small = {key: Finding.from_json(record) for key, record in store.reduced().items()}
    worst = worst_findings(cells.values())
    return RunResult(
        plan=plan.to_json(),
        environment=store.fact("environment") or {"versions": {}, "devices": []},
        cells=list(cells.values()),
        worst=[small.get(finding_key(finding), finding) for finding in worst],
        causes=causes_of(cells.values(), small),
        notes=tuple(store.fact("notes") or ()),
        interrupted=not store.fact("complete"),
        reference_rows=rows,
        seconds=store.fact("seconds") or {},
        progress="" if store.fact("complete") else _progress(len(store.finished()), plan),
    )


def _progress(done: int, plan: Plan) -> str:
    total = count_of(plan) if plan.devices else None
    if total is None and plan.seconds is not None:
        told = f"{amount(done, 'task')} {verb(done, 'is', 'are')} done"
        return f"{told}, of as many as fit into {plan.seconds:g} s of measuring"
    return (
        f"{done:,} of {amount(total, 'task')} {verb(total, 'is', 'are')} done"
        if total
        else "no task is done"
    )


def cliffs_key(cell: Cell) -> str:
    """The name of the store's fact that holds a cell's cliffs."""
    return f"cliffs of {cell.name}"


def joined(results: Sequence[RunResult]) -> RunResult:
    """Several campaigns as one, such as the same plan with other seeds or on other machines.

    Raises:
        UsageError: two have the same plan and the same seed, so their rows are the same rows.
    """
    plans = [result.plan for result in results]
    for number, plan in enumerate(plans):
        if plan in plans[:number]:
            raise UsageError(
                f"campaigns {plans.index(plan) + 1} and {number + 1} have the same plan and seed "
                f"{plan['seed']}: their rows would count twice"
            )
    cells: dict[str, CellResult] = {}
    rows: dict[str, int] = {}
    for result in results:
        for cell in result.cells:
            if cell.cell.name in cells:
                cells[cell.cell.name].merge(cell)
            else:
                cells[cell.cell.name] = cell
        for name, count in result.reference_rows.items():
            rows[name] = rows.get(name, 0) + count
    first = results[0]
    return replace(
        first,
        plan={**first.plan, "joined": plans},
        environment={**first.environment, "joined": [one.environment for one in results]},
        cells=list(cells.values()),
        worst=worst_of(finding for result in results for finding in result.worst),
        causes=joined_causes(cause for result in results for cause in result.causes),
        interrupted=any(result.interrupted for result in results),
        reference_rows=rows,
        seconds={},
    )


def _keep(result: CellResult, finding: Finding) -> None:
    result.findings.setdefault((finding.kind, finding.tier), finding)
    counts = result.summary.defects
    counts[finding.kind] = counts.get(finding.kind, 0) + 1
