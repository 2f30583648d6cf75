"""The references against each other, on rows of every family and format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.formats import BINARY32, FORMATS, TRAINING_FORMATS, FloatFormat
from lossfuzz.harness.reference.arb import arb_rounded_row
from lossfuzz.harness.reference.exact import RoundedRow, correctly_rounded_row
from lossfuzz.harness.reference.judge import Reference, reference_of
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.strategies.recipes import Batch

_EXAMPLES = 3

DEFAULT_SHAPES = ((64, 1), (64, 2), (64, 3), (48, 10), (16, 33), (2, 257))


@dataclass(slots=True, kw_only=True)
class Verdict:
    """How the references compared on the rows of one family, in all formats.

    Attributes:
        family: its name.
        rows: rows compared, those without an exact value left out.
        values: losses and gradient components in them.
        extended: rows that the float64 kernel left undecided.
        by_mpmath: rows that extended precision left undecided as well.
        arb: rows on which mpmath and Arb differ, in any format.
        kernel: rows on which the kernel with its judge and mpmath differ.
        examples: the first rows that differ, as text.
    """

    family: str
    rows: int = 0
    values: int = 0
    extended: int = 0
    by_mpmath: int = 0
    arb: int = 0
    kernel: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """The figures, in the order of the fields."""
        return self.rows, self.values, self.extended, self.by_mpmath, self.arb, self.kernel


def compare(
    rows: int,
    seed: int,
    *,
    shapes: Sequence[tuple[int, ...]] = DEFAULT_SHAPES,
    with_arb: bool = True,
) -> Iterator[Verdict]:
    """Compare the references on at least so many rows, family by family.

    Args:
        rows: in all, over families and formats.
        seed: of the recipes.
        shapes: of the batches.
        with_arb: whether Arb takes part; without it only kernel and mpmath are compared.
    """
    each = -(-rows // len(FAMILIES) // len(TRAINING_FORMATS)) + 8  # some rows have no exact value
    for family in FAMILIES:
        verdict = Verdict(family=family)
        for fmt in TRAINING_FORMATS:
            for recipe in planned_recipes(
                families=[family], fmt=fmt, shapes=shapes, rows=each, seed=seed
            ):
                _compare_batch(expand(recipe), fmt, verdict, with_arb=with_arb)
        yield verdict


def _compare_batch(batch: Batch, fmt: FloatFormat, verdict: Verdict, *, with_arb: bool) -> None:
    logits, labels = batch.rows, batch.row_labels
    formats = FORMATS if with_arb else (fmt, BINARY32)
    reference = reference_of(logits, labels, (fmt, BINARY32))
    verdict.extended += reference.extended_rows
    verdict.by_mpmath += reference.mpmath_rows
    for row in np.flatnonzero(reference.judged).tolist():
        values, label = logits[row].astype(np.float64), int(labels[row])
        exact = correctly_rounded_row(values, label, formats)
        differs = [
            with_arb and not _same(exact, arb_rounded_row(values, label, formats)),
            not _kernel_agrees(reference, exact, fmt, row),
        ]
        verdict.rows += 1
        verdict.values += 1 + values.size
        verdict.arb += differs[0]
        verdict.kernel += differs[1]
        if any(differs) and len(verdict.examples) < _EXAMPLES:
            verdict.examples.append(f"{fmt.name} label {label} logits {values.tolist()}")


def _same(left: RoundedRow, right: RoundedRow) -> bool:
    return left.loss == right.loss and all(
        np.array_equal(left.gradient[fmt], right.gradient[fmt]) for fmt in FORMATS
    )


def _kernel_agrees(reference: Reference, exact: RoundedRow, fmt: FloatFormat, row: int) -> bool:
    return (
        reference.rounded_loss(fmt)[row] == exact.loss[fmt]
        and reference.rounded_loss(BINARY32)[row] == exact.loss[BINARY32]
        and np.array_equal(reference.rounded_gradient(fmt)[row], exact.gradient[fmt])
    )
