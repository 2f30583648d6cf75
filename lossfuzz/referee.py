"""The references against each other, on rows of every family and format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formats import BINARY32, FORMATS, TRAINING_FORMATS, FloatFormat
from lossfuzz.harness.reference.arb import arb_rounded_row
from lossfuzz.harness.reference.exact import RoundedRow, correctly_rounded_row
from lossfuzz.harness.reference.judge import Reference, reference_of
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHAPES = ((64, 1), (64, 2), (64, 3), (48, 10), (16, 33), (2, 257))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the references compared on the rows of one family, in all formats.

    Attributes:
        family: its name.
        rows: rows compared, those without an exact value left out.
        values: losses and gradient components in them.
        arb: rows on which mpmath and Arb differ, in any format.
        kernel: rows on which the kernel with its judge and mpmath differ.
        examples: the first rows that differ, as text.
    """

    family: str
    rows: int
    values: int
    arb: int
    kernel: int
    examples: tuple[str, ...]


def compare(rows: int, seed: int) -> Iterator[Verdict]:
    """Compare the references on at least so many rows, family by family."""
    each = -(-rows // len(FAMILIES) // len(TRAINING_FORMATS)) + 8  # some rows have no exact value
    for family in FAMILIES:
        counts = np.zeros(4, np.int64)
        examples: list[str] = []
        for fmt in TRAINING_FORMATS:
            for recipe in planned_recipes(
                families=[family], fmt=fmt, shapes=_SHAPES, rows=each, seed=seed
            ):
                counts += _compare_batch(expand(recipe).rows, expand(recipe).row_labels, examples)
        count, values, arb, kernel = counts.tolist()
        yield Verdict(
            family=family,
            rows=count,
            values=values,
            arb=arb,
            kernel=kernel,
            examples=tuple(examples[:3]),
        )


def _compare_batch(logits: Any, labels: Any, examples: list[str]) -> Any:
    fmt = next(one for one in TRAINING_FORMATS if one.dtype == logits.dtype)
    reference = reference_of(logits, labels, (fmt, BINARY32))
    counts = np.zeros(4, np.int64)
    for row in np.flatnonzero(reference.judged):
        values, label = logits[row].astype(np.float64), int(labels[row])
        exact = correctly_rounded_row(values, label, FORMATS)
        arb_differs = not _same(exact, arb_rounded_row(values, label, FORMATS))
        kernel_differs = not _kernel_agrees(reference, exact, fmt, int(row))
        counts += [1, 1 + values.size, arb_differs, kernel_differs]
        if arb_differs or kernel_differs:
            examples.append(f"{fmt.name} label {label} logits {values.tolist()}")
    return counts


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
