"""Programs carried out on a tape, operation by operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.operations import Call, table
from lossfuzz.harness.programs.program import Operation, Program, ProgramError
from lossfuzz.harness.programs.tape import Tape, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def carried_out(
    program: Program,
    tape: Tape,
    given: Sequence[Any],
    watch: Callable[[Operation, list[Any], tuple[Any, ...]], None] | None = None,
) -> list[Any]:
    """The values of a program's results.

    Args:
        program: what to evaluate.
        tape: what to record on.
        given: a `Variable`, a `Truth` or an array of integers for each input.
        watch: is told every operation with its operands and results.

    Raises:
        ProgramError: an operation has no entry, or its operands do not fit.
        UndecidedError: a comparison is open on which an integer depends.
    """
    values: dict[int, Any] = {
        one.value: value for one, value in zip(program.inputs, given, strict=True)
    }
    constants = program.constants
    entries: Mapping[str, Any] = table()

    def run(inner: Program, inputs: Sequence[Any]) -> list[Any]:
        return carried_out(inner, tape, list(inputs), watch)

    def value_of(key: int) -> Any:
        if key not in values:
            array = constants[key]
            real = array.dtype == np.float64
            values[key] = tape.constant(array) if real else array
        return values[key]

    for operation in program.operations:
        operands = [value_of(key) for key in operation.inputs]
        tape.current = operation
        found = entries.get(operation.kind)
        if found is None:
            raise ProgramError(f"{program.name}: {operation} has no entry in the table")
        try:
            results = found.apply(Call(tape=tape, operation=operation, run=run), *operands)
        except (UndecidedError, ProgramError):
            raise
        except (ValueError, TypeError, IndexError) as error:
            line = " ".join(str(error).split())
            raise ProgramError(f"{program.name}: {operation}: {line}") from error
        made = results if isinstance(results, tuple) else (results,)
        if watch is not None:
            watch(operation, operands, made)
        values.update(zip(operation.results, made, strict=False))
    return [value_of(key) for key in program.outputs]


def prepared(tape: Tape, program: Program, arrays: Sequence[Any], wrt: Sequence[int]) -> list[Any]:
    """Arrays as a tape's values: those to differentiate by are variables."""

    def value_of(place: int, array: Any) -> Any:
        if program.inputs[place].type.is_real:
            return tape.input(array) if place in wrt else tape.constant(array)
        return Truth(array) if array.dtype == np.bool_ else array

    return [value_of(place, array) for place, array in enumerate(arrays)]
