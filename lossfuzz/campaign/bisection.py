"""Which row of a batch kills the process that runs it: halves of it, each in a fresh worker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.tasks import task_numbered
from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.findings import DEFECT, Finding
from lossfuzz.harness.outcome import origin_of
from lossfuzz.harness.prepared import prepare
from lossfuzz.harness.results import CellResult
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lossfuzz.harness.cells import Cell
    from lossfuzz.harness.prepared import Prepared
    from lossfuzz.measuring import Measuring
    from lossfuzz.plan import Plan


def probe(
    plan: Plan,
    measuring: Measuring,
    number: int,
    cell_name: str,
    made: Mapping[str, Any] | None,
    rows: list[int] | None,
) -> dict[str, Any]:
    """Run some rows of a batch through a cell, in this process; whoever asks watches it.

    Args:
        plan: the campaign's.
        measuring: the worker's.
        number: of the task.
        cell_name: of the cell.
        made: the recipe; None stands for the batch that routes are found with.
        rows: from and to; None for the whole batch as it is.
    """
    cell = _cell(plan, number, cell_name)
    try:
        if made is None:
            measuring.route(cell)
            return {"rows": 0}
        prepared = _prepared(cell, made)
        runner = measuring.runner(CellResult(cell))
        if rows is None:
            runner.run(prepared.logits, prepared.fed)
        else:
            part = prepared.rows[rows[0] : rows[1]]
            fed = prepared.targets.fed(prepared.rows.shape, prepared.rows.dtype)
            runner.run(part, fed[rows[0] : rows[1]])
    except UnavailableError as error:
        return {"refused": str(error)}
    return {"rows": len(prepared.rows)}


def record(
    kind: str,
    plan: Plan,
    number: int,
    cell_name: str,
    made: Mapping[str, Any] | None,
    row: int | None,
    reason: str,
) -> Finding:
    """The finding of a cell that kills its process or hangs, without running it.

    Args:
        kind: `CRASH` or `TIMEOUT`.
        plan: the campaign's.
        number: of the task.
        cell_name: of the cell.
        made: the recipe; None for the batch that routes are found with.
        row: that does it alone; None if none does, or none was looked for.
        reason: what was seen of it.
    """
    cell = _cell(plan, number, cell_name)
    alone = (
        "" if row is not None or made is None else " (no single row of the batch does it alone)"
    )
    origin: dict[str, Any] = {
        "loss": cell.path.loss.name,
        "path": cell.path.name,
        "format": cell.format.dtype_name,
        "mode": cell.mode,
        "device": cell.device,
        "logits": (),
        "label": 0,
        "margin": math.nan,
        "recipe": {},
        "row": 0,
    }
    exact_loss, exact_gradient = math.nan, ()
    if made is not None:
        prepared = _prepared(cell, made)
        origin = origin_of(cell, prepared, row or 0)
        exact_loss = float(prepared.row_reference.loss[row or 0])
        exact_gradient = tuple(prepared.row_reference.gradient[row or 0].tolist())
    return Finding(
        **origin,
        kind=kind,
        tier=DEFECT,
        loss_dtype="",
        observed_loss=math.nan,
        exact_loss=exact_loss,
        documented_loss=exact_loss,
        observed_gradient=(math.nan,) * len(exact_gradient),
        exact_gradient=exact_gradient,
        ulp_error=math.inf,
        mixed_error=math.inf,
        bound=math.nan,
        message=reason + alone,
    )


def rows_of(made: Mapping[str, Any]) -> int:
    """How many rows a recipe's batch has."""
    return math.prod(made["shape"][:-1])


def _cell(plan: Plan, number: int, name: str) -> Cell:
    return next(cell for cell in task_numbered(plan, number).cells(plan) if cell.name == name)


def _prepared(cell: Cell, made: Mapping[str, Any]) -> Prepared:
    recipe = Recipe.from_json(dict(made))
    batch = expand(recipe)
    return prepare(
        batch.logits, batch.labels, recipe.to_json(), cell.path.loss, whole=not cell.path.own
    )
