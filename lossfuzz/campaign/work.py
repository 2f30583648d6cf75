"""What a worker does with a task: measure its cells, and write the results as JSON's types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.audit import audit_findings
from lossfuzz.harness.results.run import CellResult
from lossfuzz.search import Corpus

if TYPE_CHECKING:
    from collections.abc import Collection

    from lossfuzz.campaign.tasks import Task
    from lossfuzz.measuring import Measuring
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe


def carry_out(
    task: Task,
    plan: Plan,
    measuring: Measuring,
    left_out: Collection[tuple[str, int]] = (),
    numbers: dict[Recipe, int] | None = None,
) -> dict[str, Any]:
    """Measure a task's cells on its recipes, and on mutants of those that taught something.

    Args:
        task: of the plan.
        plan: the campaign's.
        measuring: the worker's, whose compiled cells are kept from task to task.
        left_out: cell names, and numbers of the step from which on each is not run any more;
            -1 leaves a cell out even of learning its route.
        numbers: filled with the step of each recipe before it is run, for whoever is told of the
            recipe that runs.

    Returns:
        The record that `CellResult.from_json` reads each of ``cells`` of.
    """
    results = [CellResult(cell) for cell in task.cells(plan)]
    ends = dict(left_out)
    measuring.start_task()
    before = dict(measuring.reference_rows)
    measuring.find_routes(one for one in results if ends.get(one.cell.name) != -1)
    corpus = Corpus(plan, task.number)
    numbers = {} if numbers is None else numbers
    for number, planned in enumerate(task.steps(plan)):
        recipe = planned or corpus.mutant()
        if recipe is not None:
            numbers[recipe] = number
            running = [one for one in results if number < ends.get(one.cell.name, number + 1)]
            counted = planned is not None
            measuring.measure_batch(recipe, running, learn=corpus.learn, counted=counted)
    if task.first == 0 and plan.bounds is None:
        for one in results:
            if one.summary.rows and one.cell.name not in ends:
                measuring.ask_policy(one, plan.shapes[0])
    findings = [finding for one in results for finding in one.findings.values()]
    audited = audit_findings(findings)
    rows = {name: count - before[name] for name, count in measuring.reference_rows.items()}
    rows["audited"] += audited
    return {
        "cells": [one.to_json(with_findings=True) for one in results],
        "reference_rows": rows,
    }
