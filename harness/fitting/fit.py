"""On which shapes a user's loss is measured: what it takes is found out on tame batches.

A loss may take rank 2 only, one number of classes only, or return a loss of every element. The
trial finds that out, and the shapes are changed so that the loss is judged as it is used.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.fitting.arguments import other_arguments
from lossfuzz.harness.fitting.coupling import coupling_of, is_right_but_for_the_batch
from lossfuzz.harness.fitting.ranks import takes_rows_only
from lossfuzz.harness.fitting.unreduced import is_of_elements
from lossfuzz.harness.fitting.whole_batch import is_of_the_whole_batch
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.targets import BY_CLASS
from lossfuzz.harness.paths.keras_own import wants_probabilities
from lossfuzz.harness.paths.own import loss_of
from lossfuzz.harness.paths.own_call import (
    ONE_AXIS_TOO_MANY,
    ONE_FOR_EACH_CLASS,
    ONE_FOR_THE_BATCH,
)
from lossfuzz.harness.running.execution import UnavailableError
from lossfuzz.harness.running.trial import try_twice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.running.trial import Trial

    Shape = tuple[int, ...]

_FEW_ROWS = (8, 16, 64)
_FEWEST_ROWS = (2, 3, 5, 8)
_COUNTS = tuple(range(1, 11))
_MOST_CLASSES = 4096
_MOST_NAMED = 16
_FLAT = 2
_USUAL = 10
_EXAMPLE = "shapes=[(64, 4)] or --shapes 64x4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What was found out of one loss.

    Attributes:
        shapes: on which it is measured.
        notes: what was found and how it is judged therefore, a sentence each.
        refusal: why it cannot be measured so; empty if it can.
    """

    shapes: tuple[Shape, ...]
    notes: tuple[str, ...] = ()
    refusal: str = ""


def fit_of(trial: Trial, shapes: Sequence[Shape], *, chosen: bool) -> Fit:
    """Find out what a user's loss takes.

    Args:
        trial: of a cell of the loss.
        shapes: on which it is to run.
        chosen: whether the user chose them; then the loss must take each of them, but for a
            shape [batch, time, classes] beside one [rows, classes].

    Returns:
        The shapes on which it is measured, or why it is not. What is wrong with a loss whatever
        the shape is left to those who run it.
    """
    return _Fitting(trial, tuple(shapes), chosen=chosen).fit()


class _Fitting:
    """The state of fitting one loss."""

    def __init__(self, trial: Trial, shapes: tuple[Shape, ...], *, chosen: bool) -> None:
        self.trial, self.shapes, self.chosen = trial, shapes, chosen
        self.notes: list[str] = []
        self.path = trial.runner.cell.path
        self.name = self.path.written

    def fit(self) -> Fit:
        """Rank first, then elements, then the number of classes; then what the rows say."""
        keras = wants_probabilities(loss_of(self.path))
        if keras and (self.path.loss.base or self.path.loss).derived is None:
            return self._refused(keras)
        refusal = self._flattened() or self._by_element() or self._of_classes()
        taken = [shape for shape in self.shapes if self.trial.takes(shape)]
        if not refusal and taken:
            refusal = self._of_rows(self._small(taken))
        elif refusal or not taken:
            refusal = self._otherwise() or self._of_the_batch() or refusal
        return self._refused(refusal)

    def _refused(self, refusal: str) -> Fit:
        return Fit(shapes=self.shapes, notes=tuple(self.notes), refusal=refusal)

    def _flattened(self) -> str:
        """Turn shapes of a higher rank to rank 2 for a loss that only takes that."""
        deep = [shape for shape in self.shapes if len(shape) > _FLAT]
        high = [shape for shape in deep if takes_rows_only(self.trial, shape)]
        if not high:
            return ""
        flat = {shape: (math.prod(shape[:-1]), shape[-1]) for shape in high}
        only = f"{self.name} takes [rows, classes] only"
        if self.chosen and all(shape in high for shape in self.shapes):
            return (
                f"{only}: of logits {list(high[0])} it {self._fault(high[0])}; its form of them "
                f"is shapes=[{', '.join(map(str, flat.values()))}]"
            )
        self.shapes = tuple(dict.fromkeys(flat.get(shape, shape) for shape in self.shapes))
        pairs = ", ".join(f"{list(new)} in place of {list(old)}" for old, new in flat.items())
        self.notes.append(f"{only}: judged on {pairs}")
        return ""

    def _fault(self, shape: Shape) -> str:
        told = self.trial.refusal(shape)
        return f"says {told}" if told else "computes other losses than of the same rows"

    def _by_element(self) -> str:
        """Take every element for a row of one class, where the loss returns one for each."""
        if self.path.loss.target not in BY_CLASS or self.path.loss.reduction:
            return ""
        wide = [shape for shape in self.shapes if shape[-1] > 1]
        if not wide or self.trial.takes(wide[0]):
            return ""
        if not all(is_of_elements(self.trial, shape) for shape in wide):
            return ""
        self.shapes = tuple(dict.fromkeys((math.prod(shape), 1) for shape in self.shapes))
        self.notes.append(
            f"{self.name} returns a loss for every element: each is judged as a row of one class, "
            f"on {', '.join(str(list(shape)) for shape in self.shapes)}"
        )
        return ""

    def _of_classes(self) -> str:
        """Judge a loss of one number of classes there; else say what it does not take."""
        refused = [shape for shape in self.shapes if not self.trial.takes(shape)]
        kept = [shape for shape in self.shapes if shape not in refused]
        told = self.trial.refusal(refused[0]) or "" if refused else ""
        if not refused or ONE_FOR_EACH_CLASS in told or ONE_AXIS_TOO_MANY in told:
            return told  # of one class alone that is no fault, and says nothing
        if self.chosen:
            return f"{told}; {_left_out(refused, kept)}" if kept else ""
        counts = self._counts(refused)
        if len(counts) == 1:
            return self._of_one_count(counts[0])
        if counts:
            return f"{told}; {self._choice(counts, refused[0][-1])}"
        if kept:
            return f"{told}; {_left_out(refused, kept)}"
        return f"{told}; if it takes other shapes only, say them: {_EXAMPLE}" * _raised(told)

    def _of_one_count(self, count: int) -> str:
        """Judge on so many classes."""
        shapes = tuple(dict.fromkeys((*shape[:-1], count) for shape in self.shapes))
        taken = tuple(shape for shape in shapes if self.trial.takes(shape))
        if not taken:
            return self.trial.refusal(shapes[0]) or ""
        self.shapes = taken
        only = f"{_classes(count)} only, of the class counts that were tried"
        shown = ", ".join(str(list(shape)) for shape in taken)
        self.notes.append(f"{self._takers()} {only}: judged on {shown}")
        return ""

    def _choice(self, counts: Sequence[int], refused: int) -> str:
        """What there is to choose from, of several class counts that it takes."""
        count = min(counts, key=lambda one: abs(one - _USUAL))
        which = f"of the class counts that were tried it takes {', '.join(map(str, counts))}"
        if refused in counts:
            count, which = refused, "it takes as many classes in batches of other rows"
        rows = next(rows for rows in _FEW_ROWS if self._takes_few(rows, count))
        return (
            f"{which}: say the shapes to check, such as shapes=[({rows}, {count})] or "
            f"--shapes {rows}x{count}"
        )

    def _takers(self) -> str:
        """Who takes some shapes only: the loss, or it beside the formula it is held against."""
        if (self.path.loss.base or self.path.loss).derived is None:
            return f"{self.name} takes"
        return f"{self.name} and {self.path.loss.name} together take"

    def _counts(self, refused: Sequence[Shape]) -> list[int]:
        """The class counts that it takes, of the shapes', of small ones, and of those it named."""
        named = [
            int(number)
            for shape in refused
            for number in re.findall(r"\d+", self.trial.refusal(shape) or "")[:_MOST_NAMED]
        ]
        counts = {*_COUNTS, *(shape[-1] for shape in self.shapes)}
        counts |= {number for number in named if 1 <= number <= _MOST_CLASSES}
        return [
            count
            for count in sorted(counts)
            if any(self._takes_few(rows, count) for rows in _FEW_ROWS)
        ]

    def _takes_few(self, rows: int, count: int) -> bool:
        """Whether it takes a small batch of so many classes, of the rank of its shapes."""
        rank = [1] * (min(map(len, self.shapes)) - _FLAT)
        return self.trial.takes((*rank, rows, count))

    def _small(self, taken: Sequence[Shape]) -> Shape:
        """A small batch that it takes: few rows show best what each of them does."""
        least = min(taken, key=math.prod)
        few = [(*(1 for _ in least[2:]), rows, least[-1]) for rows in _FEW_ROWS]
        return next((shape for shape in few if self.trial.takes(shape)), least)

    def _of_rows(self, shape: Shape) -> str:
        """What ordinary rows say of a loss that runs."""
        try:
            try_twice(self.trial.runner, shape)
            other = other_arguments(self.trial, shape)
            if other:
                return f"{self.name} {other}"
            coupling = "" if self.path.loss.reduction else coupling_of(self.trial, shape)
            of_the_batch = bool(coupling) and is_right_but_for_the_batch(self.trial, shape)
        except (UnavailableError, FormulaError):
            return ""  # told by whoever runs it
        told = f"{self.name} is no loss of each row: {coupling}"
        if not coupling:
            return ""
        if not of_the_batch:  # what else is wrong with it is a defect
            self.notes.append(told)
            return ""
        return (
            f"{told}; check a loss that is reduced over the batch (reduction='mean' or "
            "--reduction mean), or one whose rows stand alone"
        )

    def _otherwise(self) -> str:
        """How a loss wants to be called that refuses all shapes."""
        shape = (_FEW_ROWS[-1], min(shape[-1] for shape in self.shapes))
        other = other_arguments(self.trial, shape)
        return f"{self.name} {other}" if other else ""

    def _of_the_batch(self) -> str:
        """What there is to say of one number for the batch that is no reduction of its rows."""
        if not all(ONE_FOR_THE_BATCH in (self.trial.refusal(one) or "") for one in self.shapes):
            return ""
        least = min(self.shapes, key=lambda shape: shape[-1])
        few = [(*(1 for _ in least[2:]), rows, least[-1]) for rows in _FEWEST_ROWS]
        if not is_of_the_whole_batch(self.trial, few):
            return ""
        return (
            f"{self.name} returns one number for the batch, which on ordinary rows is neither the "
            f"mean nor the sum, weighted or not, of their {self.path.loss.name}; a loss of the "
            "whole batch that is no mean or sum of its rows cannot be stated yet"
        )


def _raised(told: str) -> bool:
    """Whether a refusal is an exception of the loss's or the formula's own."""
    return " raised " in told or told.startswith("formula ")


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def _left_out(refused: Sequence[Shape], kept: Sequence[Shape]) -> str:
    written = ", ".join(map(str, kept))
    return f"it does not take {', '.join(map(str, refused))}: shapes=[{written}] leaves that out"
