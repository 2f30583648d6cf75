"""Whether a loss of each row is one: that no row's loss changes with another row.

Rounding may couple rows, as a shift by the batch's largest logit does; that is no loss of the
batch, and whatever it breaks is a defect. So one row of a tame batch is changed, its logits or its
target, and the others' losses must stay as they are within a tolerance that is far above rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses.targets import BY_CLASS, IGNORABLE, INDEX, NONE
from lossfuzz.harness.measuring.prepared import prepare_targets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.running.trial import Trial

_TOLERANCE = 1e-3
_UNITS = 64
_LINE = 4
"""The fewest rows that tell whether losses lie on a line."""

_CHANGED = 2
"""Rows that are changed, one at a time: the first ones, whose labels are 0 and the last class."""


def coupling_of(trial: Trial, shape: tuple[int, ...]) -> str:
    """How the rows of a loss are coupled, in a sentence; empty if they are not.

    Args:
        trial: of a loss of each row, which takes the shape.
        shape: of the tame batch.

    Raises:
        UnavailableError: the loss refuses a changed batch.
    """
    logits, targets = trial.rows(shape)
    fed = targets.fed(logits.shape, logits.dtype)
    rows = logits.reshape(-1, shape[-1]).shape[0]
    labelled = trial.runner.cell.path.loss.target in (INDEX, IGNORABLE)
    if labelled and rows > 1:
        fed.reshape(-1)[:_CHANGED] = 0, shape[-1] - 1

    def losses(some: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float64]:
        return trial.runner.run(some, given).loss.astype(np.float64)

    before = losses(logits, fed)
    unit = trial.runner.cell.format.unit_roundoff
    allowed = max(_TOLERANCE, _UNITS * unit) * np.maximum(1.0, np.abs(before))
    for changed, what, some, given in _changes(trial, logits, fed):
        after = losses(some, given)
        apart = np.abs(after - before) > allowed
        apart[changed] = False
        if apart.any():
            row = int(np.flatnonzero(apart)[0])
            return (
                f"row {row}'s loss changes with row {changed}: from {before[row]:.6g} to "
                f"{after[row]:.6g} when {what} of row {changed} changes in a batch of {rows} "
                "ordinary rows"
            )
    turned = losses(_turned(logits, 1), _turned(fed, 0 if fed.shape == shape[:-1] else 1))[::-1]
    apart = np.abs(turned - before) > allowed
    if apart.any():
        row = int(np.flatnonzero(apart)[0])
        return (
            f"row {row}'s loss changes with its place in the batch: from {before[row]:.6g} to "
            f"{turned[row]:.6g} when the batch's {rows} ordinary rows are given in reverse order"
        )
    return ""


def is_right_but_for_the_batch(trial: Trial, shape: tuple[int, ...]) -> bool:
    """Whether rows' losses are the exact ones but for what the batch gives them.

    A factor and a sum that all rows share, as where a normaliser or a mean is the batch's; or a
    factor of each row that its own logits do not change, as weights by how many rows of the batch
    have its label. A loss that is otherwise wrong on ordinary rows
    couples them by a defect, such as a softmax along the wrong axis.

    Raises:
        UnavailableError: the loss refuses the rows.
    """
    logits, targets = trial.rows(shape)
    loss = trial.runner.cell.path.loss
    exact = prepare_targets(logits, targets, {}, loss).reference.loss
    found = trial.observed(shape).loss.astype(np.float64)
    judged = np.isfinite(exact) & np.isfinite(found)
    if judged.sum() < _LINE:
        return False
    exact, found = exact[judged], found[judged]
    line = np.stack([exact, np.ones_like(exact)], axis=1)
    fitted, *_ = np.linalg.lstsq(line, found, rcond=None)
    unit = trial.runner.cell.format.unit_roundoff
    allowed = max(_TOLERANCE, _UNITS * unit) * max(1e-3, float(np.abs(found).max()))
    on_the_line = bool((np.abs(line @ fitted - found) <= allowed).all())
    return (on_the_line and bool(fitted[0] > 0)) or _keeps_its_factors(trial, shape)


def _keeps_its_factors(trial: Trial, shape: tuple[int, ...]) -> bool:
    """Whether a row's loss is the exact one times a factor that its logits do not change."""
    logits, targets = trial.rows(shape)
    cell = trial.runner.cell
    fed = targets.fed(logits.shape, logits.dtype)
    classes = shape[-1]
    other = (logits.reshape(-1, classes) / -2).astype(logits.dtype)
    factors = []
    for row in range(min(_LINE, len(other))):
        both = []
        for values in (logits.reshape(-1, classes)[row], other[row]):
            some = logits.copy()
            some.reshape(-1, classes)[row] = values
            exact = prepare_targets(some, targets, {}, cell.path.loss).reference.loss[row]
            both.append(float(trial.runner.run(some, fed).loss[row]) / exact)
        factors.append(both)
    before, after = np.array(factors).T
    allowed = max(_TOLERANCE, _UNITS * cell.format.unit_roundoff) * np.abs(before)
    return bool((before > 0).all() and (np.abs(after - before) <= 4 * allowed).all())


def _changes(
    trial: Trial, logits: NDArray[Any], fed: NDArray[Any]
) -> Iterator[tuple[int, str, NDArray[Any], NDArray[Any]]]:
    """The row that is changed, what of it, and the changed batch."""
    target = trial.runner.cell.path.loss.target
    classes = logits.shape[-1]
    count = logits.size // classes
    for row in range(min(_CHANGED, count)):
        other = logits.copy()
        flat = other.reshape(-1, classes)
        flat[row] = -flat[row] / 2 + 1
        yield row, "a logit", other, fed
        if target == NONE or (classes == 1 and target not in BY_CLASS):
            continue
        given = fed.copy()
        if target in (INDEX, IGNORABLE):
            labels = given.reshape(-1)
            labels[row] = 1 if labels[row] == 0 else 0
        else:
            weights = given.reshape(-1, classes)
            weights[row] = 1 - weights[row] if target in BY_CLASS else np.roll(weights[row], 1)
        yield row, "the target", logits, given


def _turned(array: NDArray[Any], last_axes: int) -> NDArray[Any]:
    """The rows in reverse order."""
    rows = array.reshape(-1, *array.shape[array.ndim - last_axes :])
    return np.ascontiguousarray(rows[::-1]).reshape(array.shape)
