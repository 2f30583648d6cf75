"""Which rows of a result and its gradients depend on which rows of the inputs.

One row of the inputs is left out, and what then is absent depended on it. That follows from the
program and the integers among its inputs alone, up to the branches that the real numbers choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import ctx

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.balls import Balls, Partial
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.tape import Tape, Variable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.programs.program import Operation, Program

_BITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """What depends on what.

    Attributes:
        values: shape ``[rows, rows]``; whether the result's row i depends on the inputs' row j;
            all of it where the result has no rows.
        gradients: the same of the gradients' rows; coupled rows are those beside the diagonal.
        operation: the first that makes a row of another one, or None.
    """

    values: NDArray[np.bool_]
    gradients: NDArray[np.bool_]
    operation: Operation | None

    @property
    def coupled(self) -> bool:
        """Whether a row's gradient depends on another row."""
        apart = ~np.eye(len(self.gradients), dtype=bool)
        return bool((self.gradients & apart).any())


def dependent_rows(program: Program, inputs: Sequence[Any], *, wrt: Sequence[int]) -> Dependence:
    """What depends on what, of inputs whose first axis is that of rows.

    Args:
        program: with one real result.
        inputs: a few rows of ordinary numbers.
        wrt: by which inputs to differentiate.

    Raises:
        ProgramError: the inputs do not fit.
    """
    arrays = program.accepted(inputs)
    count = arrays[wrt[0]].shape[0]
    values, gradients = np.zeros((count, count), np.bool_), np.zeros((count, count), np.bool_)
    first: Operation | None = None
    with np.errstate(all="ignore"), ctx.workprec(_BITS):
        for row in range(count):
            found = _without(program, arrays, wrt, row)
            values[:, row], gradients[:, row] = found[0], found[1]
            first = first or found[2]
    return Dependence(values=values, gradients=gradients, operation=first)


def _without(
    program: Program, arrays: list[Any], wrt: Sequence[int], row: int
) -> tuple[Any, Any, Operation | None]:
    count = arrays[wrt[0]].shape[0]
    kept = np.arange(count) != row
    given = [
        Partial(array=array, rows=kept)
        if array.dtype == np.float64 and array.shape[:1] == (count,)
        else array
        for array in arrays
    ]
    coupling: list[Operation] = []

    def watch(operation: Operation, operands: list[Any], results: tuple[Any, ...]) -> None:
        del operands
        if not coupling and any(_reaches_others(one, kept) for one in results):
            coupling.append(operation)

    tape = Tape(Balls(partial=True))
    try:
        variables = prepared(tape, program, given, wrt)
        (result,) = carried_out(program, tape, variables, watch)
        slopes = tape.gradients(result, [variables[place] for place in wrt])
    except UndecidedError:  # a branch was chosen by what is absent
        every = np.ones(count, np.bool_)
        return every, every, tape.current
    value = _absent_rows(result.value, count)
    gradient = np.zeros(count, np.bool_)
    for slope in slopes:
        gradient |= _absent_rows(slope, count)
    return value, gradient, coupling[0] if coupling and gradient[kept].any() else None


def _absent_rows(values: Any, count: int) -> NDArray[np.bool_]:
    absent = np.array([one is None for one in values.ravel()], np.bool_).reshape(values.shape)
    if values.shape[:1] == (count,):
        return np.asarray(absent.reshape(count, -1).any(axis=1))
    return np.full(count, bool(absent.any()))


def _reaches_others(value: Any, kept: NDArray[np.bool_]) -> bool:
    if not isinstance(value, Variable):
        return False
    absent = [one is None for one in value.value.ravel()]
    if value.shape[:1] != kept.shape:
        return any(absent)
    rows = np.array(absent, np.bool_).reshape(len(kept), -1)
    return bool(rows[kept].any())
