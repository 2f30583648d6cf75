"""Entries of casts, constants, branches and loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from lossfuzz.harness.programs import selections, structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.program import ProgramError
from lossfuzz.harness.programs.tape import Truth, Variable

_MOST_ROUNDS = 100_000


@entry("StopGradient", "PreventGradient")
def _stop(call: Call, value: Any) -> Any:
    del call
    return structure.stopped(value) if isinstance(value, Variable) else value


@entry("Cast", source="between floats the identity; from integers exact")
def _cast(call: Call, value: Any) -> Any:
    if call.is_real:
        return call.real(value)
    if call.dtype == np.bool_:
        if isinstance(value, Variable):
            return selections.compared(value, call.tape.constant(0.0), np.not_equal)
        return call.truth(value) if isinstance(value, Truth) else call.whole(value) != 0
    if isinstance(value, Variable):
        step = selections.stepped(value, np.trunc)
        numbers, unsure = selections.known(step)
        return Truth(numbers != 0, unsure).decided() * 0 + numbers.astype(call.dtype)
    return call.whole(value).astype(call.dtype)


@entry("If", "StatelessIf")
def _if(call: Call, condition: Any, *given: Any) -> Any:
    if isinstance(condition, Variable):
        condition = selections.compared(condition, call.tape.constant(0.0), np.not_equal)
    holds = bool(np.all(call.whole(condition) != 0))
    return tuple(call.run(call.attribute("then_branch" if holds else "else_branch"), given))


@entry("Case", "StatelessCase")
def _case(call: Call, index: Any, *given: Any) -> Any:
    count = sum(1 for name in call.operation.attributes if name.startswith("branch_"))
    place = int(call.whole(index))
    place = place if 0 <= place < count else count - 1
    return tuple(call.run(call.attribute(f"branch_{place}"), given))


@entry("While", "StatelessWhile")
def _while(call: Call, *given: Any) -> Any:
    state = list(given)
    for _ in range(_MOST_ROUNDS):
        (condition,) = call.run(call.attribute("cond"), state)
        if not np.all(call.whole(condition)):
            return tuple(state)
        state = call.run(call.attribute("body"), state)
    raise ProgramError(f"{call.operation} does not end after {_MOST_ROUNDS} rounds")
