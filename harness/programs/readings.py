"""What an evaluation found, as float64 numbers with bounds: element by element, narrow or open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.series import is_narrow

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 2.0**-40
"""The relative bound at which a float64 enclosure is narrow."""

_LEAST = 2.0**-1000
"""The absolute bound at which one is: every float format's smallest number but float64's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Float64 numbers near the exact ones.

    Attributes:
        middle: the numbers; infinite where the exact value is.
        bound: of each one's absolute error.
        narrow: whether it is accurate enough.
        lost: whether it is no number: its operands have no exact result.
        absent: whether it was left out.
    """

    middle: NDArray[np.float64]
    bound: NDArray[np.float64]
    narrow: NDArray[np.bool_]
    lost: NDArray[np.bool_]
    absent: NDArray[np.bool_]

    @classmethod
    def of(cls, engine: Any, value: Any) -> Reading:
        """Read an engine's numbers."""
        return _of_balls(value) if engine.decides else _of_enclosures(value)

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> Reading:
        """Nothing is known yet."""
        return cls(
            middle=np.full(shape, np.nan),
            bound=np.full(shape, np.inf),
            narrow=np.zeros(shape, np.bool_),
            lost=np.zeros(shape, np.bool_),
            absent=np.ones(shape, np.bool_),
        )

    def updated(self, other: Reading) -> Reading:
        """With what the other one knows of elements that are open here."""
        takes = ~self.narrow & (other.narrow | other.lost)
        return Reading(
            middle=np.where(takes, other.middle, self.middle),
            bound=np.where(takes, other.bound, self.bound),
            narrow=self.narrow | (other.narrow & takes),
            lost=np.where(takes, other.lost, self.lost),
            absent=self.absent & other.absent,
        )


def _of_enclosures(value: Any) -> Reading:
    middle = np.array(value.middle, np.float64)
    if value.radius is None:
        bound = np.zeros(middle.shape)
    else:
        bound = 2 * np.broadcast_to(value.radius, middle.shape)
    with np.errstate(invalid="ignore"):
        narrow = (bound <= TOLERANCE * np.abs(middle)) | (bound <= _LEAST)
    narrow &= np.isfinite(middle) | (bound == 0)
    narrow &= ~np.isnan(middle)
    nowhere = np.zeros(middle.shape, np.bool_)
    return Reading(middle=middle, bound=bound, narrow=narrow, lost=nowhere, absent=nowhere)


def _of_balls(value: NDArray[Any]) -> Reading:
    shape = value.shape
    found = [_of_ball(ball) for ball in value.ravel()]
    columns = list(zip(*found, strict=True)) if found else [(), (), (), ()]
    return Reading(
        middle=np.array(columns[0], np.float64).reshape(shape),
        bound=np.array(columns[1], np.float64).reshape(shape),
        narrow=np.array(columns[2], np.bool_).reshape(shape),
        lost=np.array(columns[3], np.bool_).reshape(shape),
        absent=np.array([ball is None for ball in value.ravel()], np.bool_).reshape(shape),
    )


def _of_ball(ball: Any) -> tuple[float, float, bool, bool]:
    if ball is None:
        return np.nan, np.inf, False, False
    if ball.is_nan():
        return np.nan, np.inf, False, True
    middle = float(ball.mid())
    if not ball.is_finite():
        exact = ball.is_exact()
        return (middle if exact else np.nan), (0.0 if exact else np.inf), exact, False
    bound = float(ball.rad()) + abs(middle) * 2.0**-53 + 2.0**-1074 * (not ball.is_zero())
    return middle, bound, is_narrow(ball), False
