"""Which operation loses a program's exact value: the first that makes NaN of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flint import ctx

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.balls import Balls
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.program import Operation, Program, ProgramError
from lossfuzz.harness.programs.tape import Tape, Variable

if TYPE_CHECKING:
    from collections.abc import Sequence


def reason_of(
    program: Program, arrays: Sequence[Any], wrt: Sequence[int], row: int | None, precision: int
) -> str:
    """One line on why a program has no exact value or derivative at some inputs.

    Args:
        program: the program.
        arrays: its inputs, as `Program.accepted` makes them.
        wrt: by which inputs to differentiate.
        row: one that has none, or None for the whole.
        precision: in bits.
    """
    where = "" if row is None else f" in row {row}"
    for one, array in zip(program.inputs, arrays, strict=True):
        if one.type.is_real and np.isnan(array).any():
            return f"input {one.name} holds NaN"
    first: list[Operation] = []

    def watch(operation: Operation, operands: list[Any], results: tuple[Any, ...]) -> None:
        if not first and _is_nan(results) and not _is_nan(operands):
            first.append(operation)

    tape = Tape(Balls(), rewrites=True)
    tape.watches = True
    try:
        with ctx.workprec(precision):
            given = prepared(tape, program, arrays, wrt)
            (result,) = carried_out(program, tape, given, watch)
            if not first:
                tape.gradients(result, [given[place] for place in wrt])
    except (UndecidedError, ProgramError):
        return f"undecided at {precision} bits{where}"
    if first:
        return f"no exact value{where}: {first[0]} takes numbers outside its domain"
    if tape.lost is not None:
        return f"no derivative{where}: that of {tape.lost} does not exist"
    return f"open at {precision} bits{where}"


def _is_nan(values: Sequence[Any]) -> bool:
    return any(
        isinstance(one, Variable)
        and any(ball is not None and ball.is_nan() for ball in one.value.ravel())
        for one in values
    )
