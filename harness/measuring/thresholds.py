"""Finding cliffs: walking along a margin, number by number of the format where it matters.

A grid of margins is run first: every half from 0 to 127.5, and evenly many of each magnitude up to
the format's end. Between the last margin that does not show a kind and the first one that does,
ever narrower ranges of numbers are run until the two are neighbours in the format, some five
batches for a float32 logit. All batches have one shape, so nothing is compiled twice. Where a kind
comes and goes along the margin, the one found is the first that the grid saw.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as target_kinds
from lossfuzz.harness.losses.reduced import row_factors
from lossfuzz.harness.losses.targets import Targets
from lossfuzz.harness.measuring.measure import Measurement, measure
from lossfuzz.harness.measuring.prepared import Prepared, prepare_targets
from lossfuzz.harness.numbers.formats import FloatFormat, from_ordinals, ordinals
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import (
    CLIFF_KINDS,
    LOSES,
    ONE_LOSES,
    ONE_WINS,
    UNLABELLED,
    WINS,
    ZERO_GRADIENT,
    ZERO_LOSES,
    ZERO_WINS,
    Cliff,
    Edge,
)
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.running.execution import Runner

    Positions = NDArray[np.int64]
    Flags = NDArray[np.bool_]

ROWS = 256
"""Margins of a batch, which is a round."""

_ROWS_ALONE = 8
"""Margins of a round of a loss that is reduced over its batch, where each is a batch alone."""

_STEP = 0.5
_NEGATIVE = (ZERO_WINS, ONE_LOSES)
_ONES = (ONE_LOSES, ONE_WINS)


def sides_of(loss: LossSpec) -> tuple[str, ...]:
    """The sides on which a loss has margins."""
    if not loss.masks:
        return ZERO_LOSES, ONE_LOSES, ZERO_WINS, ONE_WINS
    return (UNLABELLED,) if loss.target == target_kinds.NONE else (LOSES, WINS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Rows of one loss and format that differ in their margin alone, with their exact values.

    Attributes:
        loss: of the rows; of a reduced loss, each row is a batch.
        format: of the logits.
        side: one of `cliffs.SIDES`.
        classes: of a row; 1 for binary losses.
    """

    loss: LossSpec
    format: FloatFormat
    side: str
    classes: int

    @property
    def alone(self) -> bool:
        """Whether every row is a batch of its own."""
        return self.loss.reduction is not None

    @property
    def factor(self) -> float:
        """What the reduction multiplies a batch of one row with; a power of two."""
        return float(row_factors(self.loss.reduction, 1)[0]) if self.loss.reduction else 1.0

    def grid(self) -> Positions:
        """Ordinals of the margins that are run first, ascending."""
        count = ROWS // 4 if self.alone else ROWS
        linear = self.format.cast(_STEP * (ROWS / count) * np.arange(count))
        even = np.linspace(1, self.format.infinity_ordinal - 1, count).astype(np.int64)
        return np.unique(np.concatenate([ordinals(linear, self.format), even]))

    def logits(self, positions: Positions) -> NDArray[Any]:
        """The rows of some margins, shape ``[rows, classes]``."""
        margins = from_ordinals(positions, self.format).astype(np.float64)
        rows = np.zeros((len(positions), self.classes))
        if self.side in (LOSES, UNLABELLED):
            rows[:, 1:] = margins[:, None]
        else:
            rows[:, 0] = -margins if self.side in _NEGATIVE else margins
        return self.format.cast(rows)

    def prepared(self, positions: Positions) -> Prepared:
        """The rows of some margins and their exact values, before any reduction."""
        return _prepared(self, tuple(positions.tolist()))

    def targets(self, rows: int) -> Targets:
        """The targets of so many rows."""
        weights = np.zeros((rows, self.classes))
        if self.side in (LOSES, WINS, *_ONES):
            weights[:, 0] = 1.0
        return Targets(
            kind=self.loss.target,
            weights=weights,
            labels=np.zeros(rows, np.int64),
            masked=np.zeros((rows, self.classes), np.bool_),
        )


@functools.lru_cache(maxsize=512)
def _prepared(slope: Slope, positions: tuple[int, ...]) -> Prepared:
    """Kept, since paths of one loss mostly break at the same margins."""
    logits = slope.logits(np.array(positions, np.int64))
    loss = slope.loss.base or slope.loss
    return prepare_targets(logits, slope.targets(len(logits)), {}, loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What a cell returned for some margins, a row each, and what that measures."""

    positions: Positions
    prepared: Prepared
    loss: NDArray[np.float64]
    gradient: NDArray[np.float64]
    measured: Measurement


def cliffs_of(runner: Runner, *, classes: int = 2, sides: Sequence[str] = ()) -> list[Cliff]:
    """The cliffs of a cell, side by side, in the order of `CLIFF_KINDS`.

    Args:
        runner: of the cell.
        classes: of the rows; binary losses have one logit whatever this says.
        sides: where to look; all of the loss's by default.

    Raises:
        UnavailableError: the path refused a batch.
        ValueError: there are fewer than two classes, or the loss has no such side.
    """
    loss = runner.cell.path.loss
    if classes < 2:
        raise ValueError(f"a margin needs two classes or more, got {classes}")
    known = sides_of(loss)
    for side in sides:
        if side not in known:
            raise ValueError(f"{loss.name} has no side {side!r}; it has: {', '.join(known)}")
    return [
        cliff
        for side in sides or known
        for cliff in _Walk(
            runner,
            Slope(
                loss=loss,
                format=runner.cell.format,
                side=side,
                classes=classes if loss.masks else 1,
            ),
        ).cliffs()
    ]


class _Walk:
    """A cell on one slope; every batch is run once."""

    def __init__(self, runner: Runner, slope: Slope) -> None:
        self._runner, self._slope = runner, slope
        self._seen: dict[bytes, _Seen] = {}
        self._plateau = np.nan

    def cliffs(self) -> Iterator[Cliff]:
        """Every kind's first margin."""
        grid = self._slope.grid()
        parts = [grid[start : start + ROWS] for start in range(0, len(grid), ROWS)]
        seen = [self._at(part) for part in parts]
        self._plateau = _plateau(seen)
        for kind in CLIFF_KINDS:
            if self._slope.side == UNLABELLED and kind == kinds.LABEL_GRADIENT_COLLAPSE:
                continue
            shown = np.concatenate([self._shows(kind, one) for one in seen])
            if shown.any():
                first = int(shown.argmax())
                yield self._cliff(kind, grid, first)

    def _cliff(self, kind: str, positions: Positions, first: int) -> Cliff:
        """Narrow down to neighbours, from a margin that shows a kind after one that does not."""
        while first > 0 and positions[first] - positions[first - 1] > 1:
            positions = self._between(int(positions[first - 1]), int(positions[first]))
            shown = self._shows(kind, self._at(positions))
            shown[-1] = True  # as it was when the range was chosen
            first = max(1, int(shown.argmax()))
        at = int(positions[first])
        pair = np.array([at - 1, at] if first else [at], np.int64)
        seen = self._at(np.resize(pair, _ROWS_ALONE if self._slope.alone else ROWS))
        again = self._shows(kind, seen)
        expected = np.resize([False, True] if first else [True], len(again))
        row = len(pair) - 1
        defect = self._is_defect(kind, seen, row)
        return Cliff(
            kind=kind,
            tier=DEFECT if defect else INACCURACY,
            side=self._slope.side,
            classes=self._slope.classes,
            at=self._edge(seen, row),
            below=self._edge(seen, 0) if first else None,
            confirmed=bool((again == expected).all()),
        )

    def _between(self, low: int, high: int) -> Positions:
        """Ordinals from one to another, both included, as many as a batch has."""
        count = min(_ROWS_ALONE if self._slope.alone else ROWS, high - low + 1)
        return low + np.arange(count, dtype=np.int64) * (high - low) // (count - 1)

    def _at(self, positions: Positions) -> _Seen:
        key = positions.tobytes()
        if key not in self._seen:
            self._seen[key] = self._run(positions)
        return self._seen[key]

    def _run(self, positions: Positions) -> _Seen:
        slope = self._slope
        prepared = slope.prepared(positions)
        rows = prepared.rows
        fed = slope.targets(len(rows)).fed(rows.shape, rows.dtype)
        if slope.alone:
            parts = [self._runner.run(rows[k : k + 1], fed[k : k + 1]) for k in range(len(rows))]
            loss = np.concatenate([one.loss for one in parts])
            gradient = np.concatenate([one.gradient for one in parts])
        else:
            padded = np.minimum(np.arange(ROWS), len(rows) - 1)
            observed = self._runner.run(rows[padded], fed[padded])
            loss, gradient = observed.loss[: len(rows)], observed.gradient[: len(rows)]
        measured = measure(
            (loss / slope.factor).astype(loss.dtype),
            (gradient / slope.factor).astype(gradient.dtype),
            prepared.reference,
            prepared.row_labels,
            prepared.conditions,
            users=self._runner.cell.path.own,
        )
        return _Seen(
            positions=positions,
            prepared=prepared,
            loss=loss.astype(np.float64),
            gradient=gradient.astype(np.float64),
            measured=measured,
        )

    def _shows(self, kind: str, seen: _Seen) -> Flags:
        """Which rows show a kind, in whatever tier; only those with an exact value."""
        measured, reference = seen.measured, seen.prepared.reference
        tiniest = self._slope.format.smallest_subnormal / 2
        if kind == ZERO_GRADIENT:
            exact = np.abs(reference.gradient).max(axis=1)
            shown = measured.zero_gradient & (exact > tiniest)
        elif kind == kinds.LABEL_GRADIENT_COLLAPSE:
            shown = (seen.gradient[:, 0] == 0) & (np.abs(reference.gradient[:, 0]) > tiniest)
        elif kind == kinds.SATURATION:
            shown = seen.loss == self._plateau
        elif kind == kinds.LOSS_COLLAPSE:
            shown = measured.defects[kind] | measured.inaccuracies[kind]
        else:
            shown = measured.defects[kind].copy()
        return np.asarray(shown & measured.judged, np.bool_)

    def _is_defect(self, kind: str, seen: _Seen, row: int) -> bool:
        if kind == kinds.SATURATION:
            return True
        defects = seen.measured.defects
        names = {
            ZERO_GRADIENT: (kinds.GRADIENT_COLLAPSE,),
            kinds.LABEL_GRADIENT_COLLAPSE: (kind, kinds.GRADIENT_COLLAPSE),
        }.get(kind, (kind,))
        return any(bool(defects[name][row]) for name in names)

    def _edge(self, seen: _Seen, row: int) -> Edge:
        reference, factor = seen.prepared.reference, self._slope.factor
        margin = from_ordinals(seen.positions[row], self._slope.format)
        return Edge(
            margin=float(margin),
            loss=float(seen.loss[row]),
            exact_loss=float(reference.loss[row] * factor),
            label_gradient=float(seen.gradient[row, 0]),
            exact_label_gradient=float(reference.gradient[row, 0] * factor),
            largest_gradient=float(np.abs(seen.gradient[row]).max()),
            exact_largest_gradient=float(np.abs(reference.gradient[row]).max() * factor),
        )


def _plateau(seen: Sequence[_Seen]) -> float:
    """The smallest loss at which a cell stops growing; NaN if it never does."""
    stopped = [one.loss[one.measured.defects[kinds.SATURATION]] for one in seen]
    losses = np.concatenate(stopped)
    return float(losses.min()) if losses.size else np.nan
