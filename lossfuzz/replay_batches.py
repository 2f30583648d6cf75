"""The batches on which a finding is looked for again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.confirming import prepared_as_shown
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.running.routes import tame_batch
from lossfuzz.shrinking.probe import batch_rows
from lossfuzz.shrinking.rows import batch_of, row_of
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.results.findings import Finding


class CannotRunError(Exception):
    """The finding cannot be run here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that holds a finding's row.

    Attributes:
        logits: shape ``[..., classes]``.
        targets: what the path is fed beside them.
        prepared: the same with its exact values; None of the batch that routes are found with.
        row: the finding's.
        copies: rows, if all of them are copies of the finding's.
        whole: whether it is the batch that the row was found in.
    """

    logits: NDArray[Any]
    targets: NDArray[Any]
    prepared: Prepared | None
    row: int = 0
    copies: int = 1
    whole: bool = False


def cell_of(finding: Finding, device: str | None = None) -> Cell:
    """The cell of a finding.

    Raises:
        CannotRunError: there is no such path here, or the cell is another subject's.
    """
    try:
        path = path_named(finding.path)
        fmt = format_named(finding.format)
        cell = Cell(path=path, format=fmt, mode=finding.mode, device=device or finding.device)
    except ValueError as error:
        raise CannotRunError(str(error)) from None
    if not (path.loaded and path.loss.loaded):
        raise CannotRunError(
            f"{path.name} cannot be imported by this name: write its check again, or give the "
            "loss a name in a module"
        )
    if path.loss.name != finding.loss:
        raise CannotRunError(f"{finding.path} computes {path.loss.name} here, not {finding.loss}")
    if cell.subject:
        raise CannotRunError(
            f"it was found in another TensorFlow, {cell.subject}: run its --script there, or "
            f"try this TensorFlow with --device {cell.local_device}"
        )
    return cell


def batches(finding: Finding, cell: Cell) -> Iterator[Batch]:
    """The batches in which a finding may show, simplest first.

    Raises:
        CannotRunError: its batch is not known.
    """
    if not finding.logits:
        logits, targets = tame_batch(cell)
        yield Batch(logits=logits, targets=targets, prepared=None, whole=True)
        return
    loss = cell.path.loss
    if finding.batch is not None:
        prepared = prepared_as_shown(finding, cell)
        if prepared is not None:
            yield _batch(prepared, row=finding.place, copies=1)
        return
    alone = finding.batch_rows == 1
    if alone or finding.repeated:
        sizes = [1, batch_rows(len(finding.logits))] if alone else [finding.batch_rows]
        for size in sizes if loss.reduction is None else sizes[:1]:
            prepared = batch_of([row_of(finding)] * size, loss, cell.format, finding.recipe)
            row = finding.place
            yield _batch(prepared, row=min(row, size - 1), copies=size)
    whole = _whole(finding, cell)
    if whole is not None and not finding.repeated:
        yield whole
    elif not alone and not finding.repeated:
        raise CannotRunError(
            f"it took a batch of {finding.batch_rows} different rows, and the recipe in its "
            "record does not give them here"
        )


def _batch(prepared: Prepared, **place: Any) -> Batch:
    return Batch(logits=prepared.logits, targets=prepared.fed, prepared=prepared, **place)


def _whole(finding: Finding, cell: Cell) -> Batch | None:
    """The batch that the row was found in; None if it was not found as it is, or is unknown."""
    try:
        batch = expand(Recipe.from_json(finding.recipe))
    except (TypeError, ValueError, KeyError):
        return None
    prepared = prepare(
        batch.logits, batch.labels, finding.recipe, cell.path.loss, whole=not cell.path.own
    )
    rows = prepared.rows
    if not 0 <= finding.row < len(rows) or rows.dtype != cell.format.dtype:
        return None
    if tuple(rows[finding.row].astype(np.float64).tolist()) != finding.logits:
        return None
    return _batch(prepared, row=finding.row, copies=1, whole=True)
