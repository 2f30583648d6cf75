"""A program's evaluation, refined until every element is narrow or known to be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import ctx

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.balls import Balls, Partial
from lossfuzz.harness.programs.enclosures import Enclosures
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.program import Program, ProgramError
from lossfuzz.harness.programs.readings import Reading
from lossfuzz.harness.programs.tape import Tape, Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Reals = NDArray[np.float64]
    Flags = NDArray[np.bool_]

PRECISIONS = (128, 256, 512, 1024, 2048, 4096, 8192)
"""In bits, each tried when the one before left a ball too wide."""

TELLING = 1024
"""Bits at which what still is no number is taken to be none."""

_SAME = 2.0**-60
"""The two sides of a tie have the same value up to this, relatively and absolutely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One evaluation.

    Attributes:
        parts: the value first, then each gradient.
        sides: the same as if the first operand of every exact tie were below, and above.
    """

    parts: tuple[Reading, ...]
    sides: tuple[tuple[Reading, ...], ...] = ()


class _AbsentError(ArithmeticError):
    """Something that is wanted depends on rows that were left out."""


class Refinement:
    """The state of one evaluation.

    Attributes:
        parts: what is known: the value first, then each gradient.
        lower: of what is right of each: below it only at a kink.
        upper: the same above.
        open_at_first: how many rows float64 left open.
    """

    def __init__(self, program: Program, arrays: list[Any], wrt: Sequence[int]) -> None:
        self._program, self._arrays, self._wrt = program, arrays, wrt
        lengths = {arrays[place].shape[:1] or None for place in wrt}
        first = lengths.pop() if len(lengths) == 1 else None
        self._rows: int | None = first[0] if first else None
        self._whole = self._rows is None
        self.parts: list[Reading] = []
        self.lower: list[Reals] = []
        self.upper: list[Reals] = []
        self.open_at_first = 0

    def run(self) -> None:
        """Evaluate in float64, then over balls with rising precision.

        Raises:
            ProgramError: no precision decides which way the program goes.
        """
        self._in_float64()
        if self._is_finished(0):
            return
        for precision in PRECISIONS:
            with ctx.workprec(precision):
                found = self._over_balls()
            if found is not None:
                self._take(found)
                if self._is_finished(precision):
                    return
        if not self.parts:
            raise ProgramError(f"{self._program.name} cannot be decided at {PRECISIONS[-1]} bits")

    def first_unjudged_row(self) -> int | None:
        """Of the value or a gradient; None where there are no rows."""
        for part in self.parts:
            if part.middle.shape[:1] == (self._rows,) and not part.narrow.all():
                return int(_by_row(~part.narrow).argmax())
        return None

    def _is_finished(self, precision: int) -> bool:
        telling = precision >= TELLING
        return bool(self.parts) and all(
            bool((part.narrow | (part.lost & telling)).all()) for part in self.parts
        )

    def _in_float64(self) -> None:
        try:
            found = self._evaluated(Enclosures(), self._arrays)
        except UndecidedError:
            return
        self.parts = list(found.parts)
        self.lower = [part.middle for part in self.parts]
        self.upper = list(self.lower)
        open_rows = self._open_rows()
        self.open_at_first = 0 if open_rows is None else int(open_rows.sum())

    def _open_rows(self) -> Flags | None:
        """Which rows are open; None where that is not a matter of rows."""
        if not self.parts or self._rows is None:
            return None
        found = np.zeros(self._rows, np.bool_)
        for part in self.parts:
            is_open = ~part.narrow & ~part.lost
            if is_open.any():
                if part.middle.shape[:1] != (self._rows,):
                    return None
                found |= _by_row(is_open)
        return found

    def _over_balls(self) -> Evaluated | None:
        """Some rows, or where they do not stand alone, all; None where it is undecided."""
        rows = None if self._whole else self._open_rows()
        if rows is not None and rows.any() and not rows.all():
            try:
                return self._of_rows(rows)
            except (UndecidedError, _AbsentError):
                self._whole = True
        try:
            return self._evaluated(Balls(), self._arrays)
        except UndecidedError:
            return None

    def _of_rows(self, rows: Flags) -> Evaluated:
        arrays = [
            Partial(array=array, rows=rows)
            if array.dtype == np.float64 and array.shape[:1] == rows.shape
            else array
            for array in self._arrays
        ]
        found = self._evaluated(Balls(partial=True), arrays)
        for known, part in zip(self.parts, found.parts, strict=True):
            wanted = ~known.narrow & ~known.lost
            if (part.absent & wanted).any():
                raise _AbsentError
        return found

    def _evaluated(self, engine: Any, arrays: list[Any]) -> Evaluated:
        found, tied = self._once(engine, arrays, 0)
        sides = []
        if tied and engine.decides:
            for side in (-1, 1):
                try:
                    other, _ = self._once(engine, arrays, side)
                except UndecidedError:
                    continue
                sides.append(other)
        return Evaluated(parts=found, sides=tuple(sides))

    def _once(self, engine: Any, arrays: list[Any], tie: int) -> tuple[tuple[Reading, ...], bool]:
        tape = Tape(engine, tie=tie)
        given = prepared(tape, self._program, arrays, self._wrt)
        (result,) = carried_out(self._program, tape, given)
        if not isinstance(result, Variable):
            raise ProgramError(f"{self._program.name} returns no real numbers")
        gradients = tape.gradients(result, [given[place] for place in self._wrt])
        parts = [Reading.of(engine, one) for one in (result.value, *gradients)]
        return tuple(parts), tape.tied

    def _take(self, found: Evaluated) -> None:
        """Take in what is new, and the other sides of ties where the value is the same."""
        if not self.parts:
            self.parts = [Reading.unknown(part.middle.shape) for part in found.parts]
            self.lower = [part.middle for part in self.parts]
            self.upper = list(self.lower)
        before = [part.narrow for part in self.parts]
        pairs = zip(self.parts, found.parts, strict=True)
        self.parts = [old.updated(new) for old, new in pairs]
        for place, part in enumerate(self.parts):
            self.lower[place] = np.where(before[place], self.lower[place], part.middle)
            self.upper[place] = np.where(before[place], self.upper[place], part.middle)
        for side in found.sides:
            same = _same(side[0], found.parts[0])
            for place in range(1, len(self.parts)):
                usable = side[place].narrow & ~before[place] & _spread(same, side[place])
                self._widen(place, np.where(usable, side[place].middle, np.nan))

    def _widen(self, place: int, other: Reals) -> None:
        self.lower[place] = np.fmin(self.lower[place], other)
        self.upper[place] = np.fmax(self.upper[place], other)


def _by_row(flags: Flags) -> Flags:
    return np.asarray(flags.reshape(len(flags), -1).any(axis=1))


def _same(side: Reading, value: Reading) -> Flags:
    gap = np.abs(side.middle - value.middle)
    return np.asarray(~(gap > _SAME * (1 + np.abs(value.middle))))


def _spread(same: Flags, part: Reading) -> Flags:
    """Whether the value is the same, for every element of a gradient."""
    shape = part.middle.shape
    if same.shape[:1] == shape[:1] and same.ndim:
        rows = ~_by_row(~same)
        return np.broadcast_to(rows.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return np.broadcast_to(np.asarray(same.all()), shape)
