"""The second referee of every loss: its textbook formula over Arb balls, differentiated by Arb.

The definition is evaluated as it stands, with all its cancellation, in ball arithmetic (Johansson
2017, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic"). For the gradient
it is evaluated over truncated power series: with x_j + h for the logit x_j, modulo h**2, the
coefficient of h is dloss/dx_j (Taylor arithmetic: Griewank & Walther 2008, "Evaluating
derivatives", chapter 13). So neither a formula for a gradient, nor one without cancellation, nor
an error analysis is shared with the enclosures.

No logit is shifted and no exponential replaced: Arb's exponents are integers of any size, so
exp(x) keeps its relative accuracy for any x up to 16 * 3.4e38 in magnitude, once the precision
holds the 133 bits that x / log(2) has before the point. Where such numbers cancel, the ball of
their difference is wide, and the precision is raised.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb, arb_series, ctx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec

PRECISIONS = (256, 512, 1024, 2048, 4096, 8192)
"""In bits, each tried when the one before left a ball too wide."""

_LENGTH = 2  # of the power series: value and slope

_ACCURATE_BITS = 60
"""How many bits of a value are wanted: 20 more than the enclosures give."""

_ABSOLUTE_RADIUS = 2.0**-220
"""What is enough of a value that vanishes: 2**-20 of the enclosures' absolute bound."""


class UndecidedError(ArithmeticError):
    """Balls are too wide to tell which of two numbers is the larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BallArithmetic:
    """The operations of a textbook formula, over balls and over power series of balls.

    Attributes:
        columns: which classes of the row are not masked.
        classes: of the row, masked ones included.
    """

    columns: tuple[int, ...]
    classes: int

    def number(self, value: float) -> Any:
        """A float64, exactly."""
        return arb(value)

    def exp(self, value: Any) -> Any:
        """Exponential."""
        return value.exp()

    def log(self, value: Any) -> Any:
        """Natural logarithm."""
        return value.log()


def textbook_row(
    spec: LossSpec,
    logits: NDArray[np.float64],
    weights: NDArray[np.float64],
    components: Iterable[int] | None = None,
) -> tuple[arb, dict[int, arb]]:
    """The loss of one row and its derivatives, as balls that certainly hold them.

    Args:
        spec: a loss of a row.
        logits: shape ``[classes]``, finite or, where the loss masks, -inf; the row must be in the
            loss's domain.
        weights: shape ``[classes]``, the targets as weights.
        components: by which logits to differentiate; by default by each.

    Returns:
        The loss, and the gradient's components by class; of a masked class an exact 0.

    Raises:
        ArithmeticError: the highest precision leaves a ball too wide.
    """
    columns = range(logits.size) if components is None else list(components)
    unmasked = np.flatnonzero(~np.isneginf(logits))
    row, targets = logits[unmasked].tolist(), weights[unmasked].tolist()
    position = {column: place for place, column in enumerate(unmasked.tolist())}
    wanted = [column for column in columns if column in position] or [int(unmasked[0])]
    arithmetic = BallArithmetic(columns=tuple(position), classes=logits.size)
    for precision in PRECISIONS:
        with _taylor_arithmetic(precision):
            try:
                found = {
                    column: _value_and_slope(spec, row, targets, position[column], arithmetic)
                    for column in wanted
                }
            except UndecidedError:
                continue
            narrow = all(is_narrow(ball) for pair in found.values() for ball in pair)
        if narrow:
            loss, _ = found[wanted[0]]
            return loss, {
                column: found[column][1] if column in position else arb(0) for column in columns
            }
    raise ArithmeticError(
        f"Arb left the {spec.name} of logits {logits.tolist()} with targets {weights.tolist()} "
        f"undecided at {PRECISIONS[-1]} bits"
    )


def is_outside(value: float, bound: float, ball: arb) -> bool:
    """Whether a float64 is certainly further than a bound from every number of a ball."""
    if not math.isfinite(value):
        return True
    with ctx.workprec(PRECISIONS[0]):
        return bool(abs(ball - arb(value)) > arb(bound))


@contextmanager
def _taylor_arithmetic(precision: int) -> Iterator[None]:
    cap = ctx.cap
    ctx.cap = _LENGTH
    try:
        with ctx.workprec(precision):
            yield
    finally:
        ctx.cap = cap


def _value_and_slope(
    spec: LossSpec,
    logits: list[float],
    weights: list[float],
    position: int,
    arithmetic: BallArithmetic,
) -> tuple[arb, arb]:
    """The loss of unmasked classes, and its derivative by one of their logits."""
    variables: list[Any] = [arb(logit) for logit in logits]
    variables[position] = arb_series([variables[position], arb(1)], prec=_LENGTH)
    targets = [arb(weight) for weight in weights]
    series = spec.textbook(variables, targets, arithmetic)
    if isinstance(series, arb):  # it does not depend on this logit
        return series, arb(0)
    return series[0], series[1]


def is_narrow(ball: arb) -> bool:
    """Whether a ball holds a value more accurately than an enclosure must."""
    return bool(
        ball.is_finite()
        and (ball.rel_accuracy_bits() >= _ACCURATE_BITS or ball.rad() <= arb(_ABSOLUTE_RADIUS))
    )
