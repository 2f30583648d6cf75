"""What a worker does with a task: measure its cells, and write the results as JSON's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_findings
from lossfuzz.harness.results import CellResult

if TYPE_CHECKING:
    from collections.abc import Collection

    from lossfuzz.campaign.tasks import Task
    from lossfuzz.measuring import Measuring
    from lossfuzz.plan import Plan


def carry_out(
    task: Task, plan: Plan, measuring: Measuring, left_out: Collection[tuple[str, int]] = ()
) -> dict[str, Any]:
    """Measure a task's cells on its recipes.

    Args:
        task: of the plan.
        plan: the campaign's.
        measuring: the worker's, whose compiled cells are kept from task to task.
        left_out: cell names, and numbers of the recipe from which on each is not run any more;
            -1 leaves a cell out even of learning its route.

    Returns:
        The record that `CellResult.from_json` reads each of ``cells`` of.
    """
    results = [CellResult(cell) for cell in task.cells(plan)]
    ends = dict(left_out)
    measuring.start_task()
    before = dict(measuring.reference_rows)
    measuring.find_routes(one for one in results if ends.get(one.cell.name) != -1)
    for number, recipe in enumerate(task.recipes(plan)):
        running = [one for one in results if number < ends.get(one.cell.name, number + 1)]
        measuring.measure_batch(recipe, running)
    findings = [finding for one in results for finding in one.findings.values()]
    audited = audit_findings(findings)
    rows = {name: count - before[name] for name, count in measuring.reference_rows.items()}
    rows["audited"] += audited
    return {
        "cells": [one.to_json(with_findings=True) for one in results],
        "reference_rows": rows,
    }
