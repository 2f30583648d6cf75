"""Calls of single cells in a worker, to see which one kills it, and the finding of that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.tasks import task_numbered
from lossfuzz.harness.measuring.outcome import origin_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.results.run import CellResult
from lossfuzz.harness.running.execution import UnavailableError
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lossfuzz.campaign.messages import Place
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.measuring import Announce, Measuring
    from lossfuzz.plan import Plan


class Probing:
    """Batches through single cells, in this process; whoever asks watches it."""

    def __init__(self, plan: Plan, measuring: Measuring, announce: Announce) -> None:
        """Nothing run.

        Args:
            plan: the campaign's.
            measuring: the worker's.
            announce: told of every call of TensorFlow before it is made.
        """
        self._plan, self._measuring, self._announce = plan, measuring, announce
        self._kept: dict[str, tuple[Mapping[str, Any], Prepared]] = {}

    def run(
        self, number: int, cell_name: str, made: Mapping[str, Any] | None, rows: list[int] | None
    ) -> dict[str, Any]:
        """Run some rows of a batch through a cell.

        Args:
            number: of the task.
            cell_name: of the cell.
            made: the recipe; None stands for the batches that routes are found with.
            rows: from and to; None for the whole batch as it is.
        """
        cell = cell_named(self._plan, number, cell_name)
        if made is None:
            self._measuring.find_routes([CellResult(cell)])
            return {"rows": 0}
        prepared = self._batch(cell, made)
        logits, fed = prepared.logits, prepared.fed
        if rows is not None:
            logits = prepared.rows[rows[0] : rows[1]]
            fed = prepared.targets.fed(prepared.rows.shape, prepared.rows.dtype)
            fed = fed[rows[0] : rows[1]]
        runner = self._measuring.runner(CellResult(cell))
        self._announce(cell_name, Recipe.from_json(dict(made)))
        try:
            runner.run(logits, fed)
        except UnavailableError as error:
            return {"refused": str(error)}
        finally:
            self._announce("", None)
        return {"rows": len(prepared.rows)}

    def _batch(self, cell: Cell, made: Mapping[str, Any]) -> Prepared:
        """A loss's batch; the last one is kept, since a loss's cells run it one after another."""
        name = f"{cell.path.loss.name} {cell.path.own}"
        kept = self._kept.get(name)
        if kept is None or kept[0] != made:
            kept = self._kept[name] = made, _prepared(cell, made)
        return kept[1]


def record(kind: str, plan: Plan, place: Place, row: int | None, message: str) -> Finding:
    """The finding of a cell that kills its process or hangs, without running it.

    Args:
        kind: `CRASH` or `TIMEOUT`.
        plan: the campaign's.
        place: the call that did it, or the last one of those that did.
        row: that does it alone; None if none does, or none was found: then no script shows it.
        message: what was seen of it.
    """
    cell, made = cell_named(plan, place.task, place.cell), place.made
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
        message=message,
        unconfirmed=made is not None and row is None,
    )


def rows_of(made: Mapping[str, Any]) -> int:
    """How many rows a recipe's batch has."""
    return math.prod(made["shape"][:-1])


def cell_named(plan: Plan, number: int, name: str) -> Cell:
    """The cell of that name in a task."""
    return next(cell for cell in task_numbered(plan, number).cells(plan) if cell.name == name)


def _prepared(cell: Cell, made: Mapping[str, Any]) -> Prepared:
    recipe = Recipe.from_json(dict(made))
    batch = expand(recipe)
    return prepare(
        batch.logits, batch.labels, recipe.to_json(), cell.path.loss, whole=not cell.path.own
    )
