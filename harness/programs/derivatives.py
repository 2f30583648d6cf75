"""A second opinion on every derivative: the difference quotient of the value, in hundreds of bits.

For a step h along a direction v, ``(f(x + h v) - f(x - h v)) / 2h`` differs from the derivative
along v by a multiple of h^2. With h = 2^-240 in 1000 bits both the difference and what rounding
leaves of it are far below the bound of 2^-160: a wrong sign, factor or term shows wherever it is
not itself that small. No formula of a derivative is shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, ctx

from lossfuzz.harness.programs.balls import Balls
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.tape import Tape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.programs.program import Program

_BITS, _STEP_BITS, _BOUND_BITS = 1000, 240, 160


def slope_error(
    program: Program, inputs: Sequence[Any], *, wrt: int, seed: int = 0, rewrites: bool = True
) -> float:
    """How far a program's derivative is from its difference quotient, relative to their size.

    Args:
        program: with one real result.
        inputs: where it has a derivative.
        wrt: the input along which it is taken, in a random direction.
        seed: of the direction.
        rewrites: whether forms are used.

    Returns:
        0 where they agree to 160 bits, else the difference relative to the larger.
    """
    arrays = program.accepted(inputs)
    direction = np.random.default_rng(seed).choice([-1.0, 1.0, 0.5], arrays[wrt].shape)
    with ctx.workprec(_BITS):
        engine = Balls()
        step = arb(2) ** -_STEP_BITS
        centre, moves = engine.exactly(arrays[wrt]), engine.exactly(direction)
        ends = []
        for side in (1, -1):
            moved = list(arrays)
            moved[wrt] = engine.add(centre, engine.mul(moves, np.array(side * step, object)))
            ends.append(_total(_result(program, moved, wrt, rewrites=rewrites)[1].value))
        quotient = (ends[0] - ends[1]) / (2 * step)
        tape, result, given = _with_tape(program, arrays, wrt, rewrites=rewrites)
        (gradient,) = tape.gradients(result, [given[wrt]])
        terms = engine.mul(gradient, moves)
        along = _total(terms)
        size = _total(np.array([abs(one) for one in terms.ravel()], object)) + abs(quotient)
        difference = abs(along - quotient)
        if difference.abs_upper() <= size.abs_upper() * arb(2) ** -_BOUND_BITS:
            return 0.0
        return float(difference / size) if size > 0 else float("nan")


def _total(values: Any) -> arb:
    return sum(values.ravel().tolist(), arb(0))


def _with_tape(
    program: Program, arrays: Sequence[Any], wrt: int, *, rewrites: bool
) -> tuple[Tape, Any, list[Any]]:
    tape = Tape(Balls(), rewrites=rewrites)
    given = prepared(tape, program, arrays, [wrt])
    (result,) = carried_out(program, tape, given)
    return tape, result, given


def _result(
    program: Program, arrays: Sequence[Any], wrt: int, *, rewrites: bool
) -> tuple[Tape, Any]:
    tape, result, _ = _with_tape(program, arrays, wrt, rewrites=rewrites)
    return tape, result
