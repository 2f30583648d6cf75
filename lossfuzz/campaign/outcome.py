"""What a campaign found so far: its finished tasks, merged one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lossfuzz.campaign.places import other_settings, other_versions
from lossfuzz.campaign.tasks import count_of, task_numbered
from lossfuzz.errors import UsageError
from lossfuzz.harness.records.fields import count, counts, items, non_negative, record_of, texts
from lossfuzz.harness.results.causes import causes_of, finding_key, joined_causes
from lossfuzz.harness.results.choices import checked_environment
from lossfuzz.harness.results.cliffs import Cliff
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.selection import worst_findings, worst_of
from lossfuzz.quantities import MOST_LOGICAL_CPUS
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.campaign.store import Store
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.plan import Plan

_CPUS = "logical_cpus"


def merged(store: Store, plan: Plan) -> RunResult:
    """The campaign's results: a pure function of its plan, once all tasks are finished.

    Raises:
        ValueError: a record is missing, not of the plan, or of another kind.
    """
    cells = {cell.name: CellResult(cell) for cell in plan.cells()}
    rows: dict[str, int] = {}
    _check_tasks(store, plan)
    for task, result in store.results():
        records = [record_of(one, "cells") for one in items(result, "cells")]
        parts = [CellResult.from_json(record) for record in records]
        _check_parts(task, parts, plan)
        for part in parts:
            cells[part.cell.name].merge(part)
        for name, done in counts(result, "reference_rows").items():
            rows[name] = rows.get(name, 0) + done
    for by_cell in store.left_out().values():
        for name, (_, record) in by_cell.items():
            _keep(cells[name], Finding.from_json(record_of(record, "finding")))
    for one in cells.values():
        records = items({"cliffs": store.fact(cliffs_key(one.cell), [])}, "cliffs")
        one.cliffs = tuple(Cliff.from_json(record_of(record, "cliffs")) for record in records)
    small = {
        key: Finding.from_json(record_of(record, "finding"))
        for key, record in store.reduced().items()
    }
    for finding in small.values():
        if finding.cell_name not in cells:
            raise ValueError(f"a finding is of {finding.cell_name[:80]!r}, which is no cell of it")
    worst = worst_findings(cells.values())
    environment = store.fact("environment", {"versions": {}, "devices": []})
    if not 1 <= count({_CPUS: store.fact(_CPUS, 1)}, _CPUS) <= MOST_LOGICAL_CPUS:
        raise ValueError(f"{_CPUS} is not between 1 and {MOST_LOGICAL_CPUS}")
    return RunResult(
        plan=plan.to_json(),
        environment=checked_environment(record_of(environment, "environment")),
        cells=list(cells.values()),
        worst=[small.get(finding_key(finding), finding) for finding in worst],
        causes=causes_of(cells.values(), small),
        notes=texts({"notes": store.fact("notes", ())}, "notes"),
        interrupted=not store.fact("complete"),
        reference_rows=rows,
        seconds=seconds_of(store),
        progress="" if store.fact("complete") else _progress(len(store.finished()), plan),
    )


def seconds_of(store: Store) -> dict[str, float]:
    """Phase to the time that a campaign has spent on it so far.

    Raises:
        ValueError: what is stored is none.
    """
    spent = record_of(store.fact("seconds", {}), "seconds")
    return {name: non_negative(spent, name) for name in spent}


def _check_tasks(store: Store, plan: Plan) -> None:
    """See that no finished task is outside of the plan, and none of a complete one is missing.

    Raises:
        ValueError: one is.
    """
    finished, total = store.finished(), count_of(plan) if plan.devices else None
    if finished and not plan.devices:
        raise ValueError("tasks are finished, and the plan names no device")
    if total is not None and any(not 0 <= one < total for one in finished):
        raise ValueError(f"task {max(finished)} is none of the plan's {total}")
    if total is not None and store.fact("complete") and len(finished) < total:
        missing = min(set(range(total)) - finished)
        raise ValueError(f"task {missing} is missing, and the campaign says that it is complete")


def _check_parts(task: int, parts: Sequence[CellResult], plan: Plan) -> None:
    """See that a task's result is of the task's own cells.

    Raises:
        ValueError: it is of others, as a record under another task's number would be.
    """
    wanted = [cell.name for cell in task_numbered(plan, task).cells(plan)]
    if [part.cell.name for part in parts] != wanted:
        raise ValueError(f"the result of task {task} is not of that task's cells")


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
        UsageError: two have the same plan and the same seed, so their rows are the same rows; or
            they were measured with other versions, so that no figure would be of one thing.
    """
    notes = [note for result in results for note in result.notes]
    for place, result in enumerate(results[1:], 2):
        environments = results[0].environment, result.environment
        apart = other_versions(*environments)
        if apart:
            raise UsageError(
                f"campaigns 1 and {place} cannot be one, for they were measured with {apart}; "
                "'lossfuzz compare' tells them apart"
            )
        settings = other_settings(*environments)
        if settings:
            notes.append(f"campaigns 1 and {place} were measured with another {settings}")
    plans = [result.plan for result in results]
    for place, plan in enumerate(plans):
        if plan in plans[:place]:
            raise UsageError(
                f"campaigns {plans.index(plan) + 1} and {place + 1} have the same plan and seed "
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
        for name, done in result.reference_rows.items():
            rows[name] = rows.get(name, 0) + done
    first = results[0]
    return replace(
        first,
        plan={**first.plan, "joined": plans},
        environment={**first.environment, "joined": [one.environment for one in results]},
        cells=list(cells.values()),
        worst=worst_of(finding for result in results for finding in result.worst),
        causes=joined_causes(cause for result in results for cause in result.causes),
        notes=tuple(dict.fromkeys(notes)),
        interrupted=any(result.interrupted for result in results),
        reference_rows=rows,
        seconds={},
    )


def _keep(result: CellResult, finding: Finding) -> None:
    result.findings.setdefault((finding.kind, finding.tier), finding)
    counts = result.summary.defects
    counts[finding.kind] = counts.get(finding.kind, 0) + 1
