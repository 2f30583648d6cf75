"""The one door to a program's exact value and gradient.

The whole batch is evaluated over float64 enclosures. Rows that stay open are evaluated again over
Arb's balls with rising precision, and only those rows: the others' elements are absent, and what
needs an absent element says so, whereupon the whole batch is evaluated. At an exact tie, such as
a clip's end, the derivative is taken on both sides; every value between the two is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.reasons import reason_of
from lossfuzz.harness.programs.refinement import TELLING, Refinement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.programs.program import Program

    Reals = NDArray[np.float64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramValues:
    """The exact value of a program and its derivatives.

    Attributes:
        value: the result, infinite where the exact one is, NaN where there is none.
        bound: of its absolute error.
        judged: where it has an exact value that was found.
        gradients: the derivative of the sum of the result by each of the chosen inputs.
        lower: of what is right: below the gradient only at a kink.
        upper: the same above.
        bounds: of the gradients' absolute errors.
        gradients_judged: where they exist and were found.
        reason: which operation loses the exact value, where one does; in one line.
        open_rows: how many rows float64 left open.
    """

    value: Reals
    bound: Reals
    judged: Flags
    gradients: tuple[Reals, ...]
    lower: tuple[Reals, ...]
    upper: tuple[Reals, ...]
    bounds: tuple[Reals, ...]
    gradients_judged: tuple[Flags, ...]
    reason: str = ""
    open_rows: int = 0


def exact_values(program: Program, inputs: Sequence[Any], *, wrt: Sequence[int]) -> ProgramValues:
    """The exact value and gradient of a program.

    Args:
        program: with one real result.
        inputs: one array for each of the program's inputs.
        wrt: by which inputs to differentiate.

    Raises:
        ProgramError: the inputs do not fit the program, or nothing could be decided.
    """
    arrays = program.accepted(inputs)
    with np.errstate(all="ignore"):
        refinement = Refinement(program, arrays, wrt)
        refinement.run()
        parts = refinement.parts
        reason = ""
        if not all(one.narrow.all() for one in parts):
            row = refinement.first_unjudged_row()
            reason = reason_of(program, arrays, wrt, row, TELLING)
    return ProgramValues(
        value=parts[0].middle,
        bound=parts[0].bound,
        judged=parts[0].narrow,
        gradients=tuple(one.middle for one in parts[1:]),
        lower=tuple(refinement.lower[1:]),
        upper=tuple(refinement.upper[1:]),
        bounds=tuple(one.bound for one in parts[1:]),
        gradients_judged=tuple(one.narrow for one in parts[1:]),
        reason=reason,
        open_rows=refinement.open_at_first,
    )
