"""The references against each other, on rows of every family and format.

Softmax cross-entropy with an integer label has correctly rounded references, which must agree in
every bit. Every loss has enclosures, whose stated bounds must hold against Arb's balls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.exact.arb import arb_rounded_row
from lossfuzz.harness.exact.enclosed import evaluate_rows, reference_by_enclosures
from lossfuzz.harness.exact.judge import Reference, reference_of
from lossfuzz.harness.exact.kernel import ABSOLUTE_BOUND
from lossfuzz.harness.exact.numbers import FLOAT64
from lossfuzz.harness.exact.rounded import RoundedRow, correctly_rounded_row
from lossfuzz.harness.exact.series import is_outside, textbook_row
from lossfuzz.harness.losses.table import LOSSES, losses_matching
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.numbers.formats import BINARY32, FORMATS, TRAINING_FORMATS, FloatFormat
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.strategies.recipes import Batch

_EXAMPLES = 3

_MOST_COMPONENTS = 33

DEFAULT_SHAPES = ((64, 1), (64, 2), (64, 3), (48, 10), (16, 33), (2, 257))

LOSS_SHAPES = ((12, 3), (12, 10), (3, 33), (12, 2), (12, 1))
"""Of the batches on which every loss is compared with Arb."""

ROW_LOSSES = tuple(spec for spec in LOSSES if spec.reduction is None)
"""The losses that are compared; reductions are made of them."""


@dataclass(slots=True, kw_only=True)
class Verdict:
    """How the references compared on the rows of one family or of one loss, in all formats.

    Attributes:
        name: of the family or the loss.
        rows: rows compared, those without an exact value left out.
        values: losses and gradient components in them.
        extended: rows that float64 left undecided.
        by_mpmath: rows that extended precision left undecided as well.
        arb: of a family, rows on which mpmath and Arb differ, in any format; of a loss, values
            that Arb places outside the reference's stated bounds.
        float64: of a family, rows on which the kernel with its judge and mpmath differ; of a loss,
            values whose enclosure in float64 has no number in common with Arb's ball.
        examples: the first disagreements, as text.
    """

    name: str
    rows: int = 0
    values: int = 0
    extended: int = 0
    by_mpmath: int = 0
    arb: int = 0
    float64: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def counts(self) -> tuple[int, ...]:
        """The figures, in the order of the fields."""
        return self.rows, self.values, self.extended, self.by_mpmath, self.arb, self.float64


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
        verdict = Verdict(name=family)
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
        verdict.float64 += differs[1]
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


def row_losses_matching(patterns: Iterable[str]) -> list[LossSpec]:
    """The losses of a row that shell patterns choose; a reduction stands for its rows' loss.

    Raises:
        ValueError: a pattern matches nothing; the message lists the known names.
    """
    chosen = dict.fromkeys(spec.base or spec for spec in losses_matching(patterns))
    ours = [spec for spec in ROW_LOSSES if spec in chosen]
    return ours + [spec for spec in chosen if spec not in ROW_LOSSES]


def compare_loss(
    spec: LossSpec, rows: int, seed: int, *, shapes: Sequence[tuple[int, ...]] = LOSS_SHAPES
) -> Verdict:
    """Compare the enclosures of a loss with Arb on about so many rows.

    Args:
        spec: a loss of a row.
        rows: in all, over families and formats.
        seed: of the recipes.
        shapes: of the batches; of more classes the gradient is compared in 33 or 34.
    """
    verdict = Verdict(name=spec.name)
    for fmt in TRAINING_FORMATS:
        for recipe in planned_recipes(
            families=tuple(FAMILIES),
            fmt=fmt,
            shapes=shapes,
            rows=-(-rows // len(TRAINING_FORMATS)),
            seed=seed,
        ):
            _compare_with_textbook(expand(recipe), spec, verdict)
    return verdict


def _compare_with_textbook(batch: Batch, spec: LossSpec, verdict: Verdict) -> None:
    logits = batch.rows.astype(np.float64)
    targets = targets_of(spec.target, batch.rows, batch.row_labels)
    reference = reference_by_enclosures(spec, batch.rows, targets)
    enclosed = evaluate_rows(spec, batch.rows, targets, FLOAT64)
    values = np.column_stack([reference.loss, reference.gradient])
    middles = np.hstack([part.to_float64() for part in enclosed])
    radii = np.hstack([part.absolute() for part in enclosed])
    verdict.extended += reference.extended_rows
    verdict.by_mpmath += reference.mpmath_rows
    for row in np.flatnonzero(reference.judged).tolist():
        weights = targets.weights[row]
        columns = _components(logits.shape[1], int(targets.labels[row]))
        loss, slopes = textbook_row(spec, logits[row], weights, columns)
        verdict.rows += 1
        for place, exact in [(0, loss), *((1 + column, slopes[column]) for column in columns)]:
            value, radius = float(values[row, place]), float(radii[row, place])
            bound = reference.relative_bound * abs(value) + ABSOLUTE_BOUND
            outside = is_outside(value, bound, exact)
            missed = radius < np.inf and is_outside(float(middles[row, place]), radius, exact)
            verdict.values += 1
            verdict.arb += outside
            verdict.float64 += missed
            if (outside or missed) and len(verdict.examples) < _EXAMPLES:
                verdict.examples.append(
                    f"{spec.name}: {'gradient' if place else 'loss'} {value!r}, in float64 "
                    f"{middles[row, place]!r} within {radius!r}, but Arb's is {exact}, for logits "
                    f"{logits[row].tolist()} with targets {weights.tolist()}"
                )


def _components(classes: int, label: int) -> list[int]:
    """The classes to compare the gradient in: all, or evenly spread ones and the label."""
    spread = np.linspace(0, classes - 1, min(classes, _MOST_COMPONENTS)).astype(int).tolist()
    return sorted({label, *spread})
