"""A row of logits with its target, as a value that can be compared and made simpler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.targets import Targets
from lossfuzz.harness.measuring.prepared import Prepared, prepare_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.results.findings import Finding

DENSE = (kinds.DISTRIBUTION, kinds.BINARY, kinds.PROBABILITY)
"""Targets of which the label does not say all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row.

    Attributes:
        logits: numbers of the cell's format.
        weights: as `Targets.weights` has them; of a label its one-hot row.
        label: the true class, or that of the largest weight.
    """

    logits: tuple[float, ...]
    weights: tuple[float, ...]
    label: int

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.logits)

    def with_columns(self, columns: Sequence[int], loss: LossSpec) -> Row:
        """Some classes only; what a distribution gave to those left out goes to the label."""
        label = columns.index(self.label)
        weights = [self.weights[k] for k in columns]
        if loss.target == kinds.DISTRIBUTION:
            weights[label] += 1 - sum(weights)
        return Row(
            logits=tuple(self.logits[k] for k in columns), weights=tuple(weights), label=label
        ).relabelled(loss)

    def relabelled(self, loss: LossSpec) -> Row:
        """With the label that dense weights have."""
        if loss.target not in DENSE:
            return self
        label = self.weights.index(max(self.weights))
        return Row(logits=self.logits, weights=self.weights, label=label)


def one_hot(label: int, classes: int) -> tuple[float, ...]:
    """A weight of 1 at the label."""
    return tuple(float(k == label) for k in range(classes))


def labelled(logits: Sequence[float], label: int, fmt: FloatFormat) -> Row:
    """A row whose target is a class, its logits rounded to the format."""
    rounded = fmt.cast(np.array(logits)).astype(np.float64)
    weights = one_hot(label, len(logits))
    return Row(logits=tuple(rounded.tolist()), weights=weights, label=label)


def row_of(finding: Finding) -> Row:
    """The row that a finding records."""
    weights = finding.target or one_hot(finding.label, len(finding.logits))
    return Row(logits=finding.logits, weights=weights, label=finding.label)


def rows_of(prepared: Prepared) -> list[Row]:
    """All rows of a batch."""
    return [
        Row(
            logits=tuple(logits),
            weights=tuple(prepared.targets.weights[k].tolist()),
            label=int(prepared.row_labels[k]),
        )
        for k, logits in enumerate(prepared.rows.astype(np.float64).tolist())
    ]


def fed_of(row: Row, loss: LossSpec) -> tuple[float, ...]:
    """What a row is fed beside its logits: its label alone, or its targets."""
    if loss.target not in (kinds.INDEX, kinds.IGNORABLE, kinds.NONE):
        return row.weights
    ignored = loss.target == kinds.IGNORABLE and not any(row.weights)
    return (float(kinds.IGNORED if ignored else row.label),)


def row_fed(logits: tuple[float, ...], fed: tuple[float, ...], loss: LossSpec) -> Row:
    """The row that is fed so."""
    if loss.target not in (kinds.INDEX, kinds.IGNORABLE, kinds.NONE):
        return Row(logits=logits, weights=fed, label=fed.index(max(fed)))
    label = int(fed[0])
    if label == kinds.IGNORED:
        return Row(logits=logits, weights=(0.0,) * len(logits), label=0)
    return Row(logits=logits, weights=one_hot(label, len(logits)), label=label)


def batch_of(
    rows: Sequence[Row],
    loss: LossSpec,
    fmt: FloatFormat,
    recipe: dict[str, Any],
    shape: tuple[int, ...] | None = None,
) -> Prepared:
    """A batch of rows of equally many classes, with its exact values.

    Args:
        rows: in their order.
        loss: whose values.
        fmt: of the logits.
        recipe: that the rows came from.
        shape: of the leading axes; by default one axis.
    """
    logits = np.array([row.logits for row in rows])
    targets = Targets(
        kind=loss.target,
        weights=np.array([row.weights for row in rows]),
        labels=np.array([row.label for row in rows], np.int64),
        masked=np.isneginf(logits),
    )
    cast = fmt.cast(logits)
    if shape is not None:
        cast = cast.reshape(*shape, logits.shape[1])
    return prepare_targets(cast, targets, recipe, loss)
