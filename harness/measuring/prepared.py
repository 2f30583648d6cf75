"""A batch with its targets and exact values, shared by all cells of one loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosed import finite_rows, has_exact_value
from lossfuzz.harness.exact.oracle import reduced_reference, row_reference
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.targets import Targets, targets_of
from lossfuzz.harness.measuring.conditions import Conditions, conditions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.spec import LossSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch, as the cells of one loss run it.

    Attributes:
        loss: the loss.
        logits: shape ``[..., classes]``.
        targets: of its rows.
        row_reference: exact values of the rows, before any reduction.
        reference: exact values of the loss.
        conditions: of its rows.
        recipe: where the batch came from, as JSON's types.
        documented_rows: name to each documented formula that a cell asked for, with its exact
            values of the rows.
        kinks: number of each row that was asked whether it lies on a kink of a user's formula, to
            its loss there, or None.
    """

    loss: LossSpec
    logits: NDArray[Any]
    targets: Targets
    row_reference: Reference
    reference: Reference
    conditions: Conditions
    recipe: dict[str, Any]
    documented_rows: dict[str, tuple[LossSpec, Reference]] = field(default_factory=dict)
    kinks: dict[int, float | None] = field(default_factory=dict, repr=False)
    _documented: dict[str, Reference] = field(default_factory=dict, repr=False)

    @property
    def rows(self) -> NDArray[Any]:
        """The logits as ``[rows, classes]``."""
        return self.logits.reshape(-1, self.logits.shape[-1])

    @property
    def row_labels(self) -> NDArray[np.int64]:
        """The labels as ``[rows]``."""
        return self.targets.labels

    @property
    def fed(self) -> NDArray[Any]:
        """What the paths are given beside the logits."""
        return self.targets.fed(self.logits.shape, self.logits.dtype)

    def documented(self, loss: LossSpec) -> Reference:
        """The exact values of another formula for the same rows, computed once.

        Its gradient is known to an absolute bound.
        """
        if loss is self.loss:
            return self.reference
        if loss.name not in self.documented_rows:
            rows = row_reference(loss, self.rows, self.targets, tight_gradient=False)
            self.documented_rows[loss.name] = loss, rows
            self._documented[loss.name] = reduced_reference(rows, loss)
        return self._documented[loss.name]


def prepare(
    logits: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    recipe: dict[str, Any],
    loss: LossSpec = SOFTMAX_CROSS_ENTROPY,
    *,
    whole: bool = True,
) -> Prepared:
    """Derive a batch's targets and compute its exact values.

    A reduced loss has no exact value if one of its rows has none: such rows are replaced by one
    that has, where there is one.

    Args:
        logits: shape ``[..., classes]``.
        labels: shape ``[...]``.
        recipe: of the batch.
        loss: that is measured.
        whole: whether rows without an exact value stay in the batch of a loss of each row; a
            user's loss may couple rows, and then they would spoil their neighbours.
    """
    classes = logits.shape[-1]
    rows, row_labels = logits.reshape(-1, classes), labels.reshape(-1)
    targets = targets_of(loss.target, rows, row_labels)
    if loss.reduction is not None:
        rows, targets = _with_exact_values(rows, targets, loss)
        return prepare_targets(rows.reshape(logits.shape), targets, recipe, loss)
    if whole:
        return prepare_targets(logits, targets, recipe, loss)
    valued = has_exact_value(loss, rows, targets)
    chosen = _replacing(valued)
    rows, targets = rows[chosen], targets.take(chosen)
    prepared = prepare_targets(rows.reshape(logits.shape), targets, recipe, loss)
    found = prepared.reference
    own = replace(found, judged=found.judged & valued)  # what replaces a row is no row of its own
    return replace(prepared, row_reference=own, reference=own)


def inputs_of(
    logits: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    kind: str,
    loss: LossSpec | None = None,
    *,
    masks: bool | None = None,
    needs_mass: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a path is given of a batch of a recipe: logits, and targets as `Targets.fed` has them.

    Args:
        logits: shape ``[..., classes]``.
        labels: shape ``[...]``.
        kind: of target, of `targets.KINDS`.
        loss: a reduced one, for which rows without an exact value are replaced.
        masks: of a user's own loss of each row, for which they are replaced too: whether -inf
            takes a class out; None of other losses.
        needs_mass: of a user's own loss, as `LossSpec` has it.
    """
    rows = logits.reshape(-1, logits.shape[-1])
    targets = targets_of(kind, rows, labels.reshape(-1))
    if loss is not None:
        rows, targets = _with_exact_values(rows, targets, loss)
    elif masks is not None:
        chosen = _replacing(finite_rows(rows, targets, masks=masks, needs_mass=needs_mass))
        rows, targets = rows[chosen], targets.take(chosen)
    return rows.reshape(logits.shape), targets.fed(logits.shape, logits.dtype)


def prepare_targets(
    logits: NDArray[Any], targets: Targets, recipe: dict[str, Any], loss: LossSpec
) -> Prepared:
    """The same for targets that are given."""
    rows = logits.reshape(-1, logits.shape[-1])
    found = row_reference(loss, rows, targets)
    reference = reduced_reference(found, loss)
    return Prepared(
        loss=loss,
        logits=logits,
        targets=targets,
        row_reference=found,
        reference=reference,
        conditions=conditions_of(rows, targets.labels, reference, loss, targets, found),
        recipe=recipe,
    )


def _replacing(judged: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Each row's own number, or that of the first row that is judged; their own if none is."""
    own = np.arange(len(judged))
    return np.where(judged, own, np.flatnonzero(judged)[0]) if judged.any() else own


def _with_exact_values(
    rows: NDArray[Any], targets: Targets, loss: LossSpec
) -> tuple[NDArray[Any], Targets]:
    judged = has_exact_value(loss, rows, targets)
    if loss.base is not None and loss.base.derived is not None:
        judged = row_reference(loss, rows, targets).judged
    chosen = _replacing(judged)
    return rows[chosen], targets.take(chosen)
