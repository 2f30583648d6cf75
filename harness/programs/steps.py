"""Steps: functions that are constant between their jumps, such as the floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.series import UndecidedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def steps(
    engine: Any, value: Any, function: Callable[[Any], Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A step's values, and where a jump may lie inside an enclosure.

    Args:
        engine: of the numbers.
        value: the numbers.
        function: constant between multiples of one half, of float64 numbers.

    Raises:
        UndecidedError: a ball holds a jump.
    """
    if engine.decides:
        flat = [_step(ball, function) for ball in value.ravel()]
        found = np.array([np.nan if one is None else one for one in flat], np.float64)
        absent = np.array([one is None for one in flat], np.bool_).reshape(value.shape)
        return np.nan_to_num(found).reshape(value.shape), absent if absent.any() else None
    found = np.asarray(function(value.middle), np.float64)
    if value.radius is None:
        return found, None
    low = function(value.middle - 2 * value.radius)
    high = function(value.middle + 2 * value.radius)
    unsure = ~((low == found) & (high == found))
    return found, unsure if unsure.any() else None


def _step(ball: Any, function: Callable[[Any], Any]) -> float | None:
    if ball is None:
        return None
    twice = 2 * ball
    if twice.is_exact() and twice.is_integer():
        return float(function(float(ball.mid())))
    below = twice.floor().unique_fmpz()
    if below is None:
        raise UndecidedError("a ball holds a jump")
    # inside a half-open interval of halves the step is that of its centre
    return float(function(int(below) / 2 + 0.25))
