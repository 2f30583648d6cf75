"""Rows on a kink of a user's formula, where it has a value but no derivative.

There every number between the one-sided derivatives is a right gradient, and NaN is none: a
training step that meets a zero vector or a tie must go on. A row counts as one on a kink if its
loss is a number, the same on both sides of every tie, and the gradients nearby stay bounded as
they are taken ever nearer; where these grow without bound, as those of a square root at 0 do, an
infinite or undefined gradient is the truth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import Derived

_DISTANCES = (2.0**-24, 2.0**-44)
"""Relative to the row's largest logit, or to 1."""

_DIRECTIONS = 4
_BOUNDED = 4.0
"""By how much the steepest gradient may grow from the first distance to the second."""

_SEED = 24


def loss_at_a_kink(
    derived: Derived, logits: NDArray[np.float64], weights: NDArray[np.float64]
) -> float | None:
    """The loss of a row ``[classes]`` on a kink, to float64; None of any other row.

    Args:
        derived: of the formula.
        logits: finite numbers.
        weights: of the row's targets.
    """
    generator = np.random.default_rng(_SEED)
    size = max(1.0, float(np.abs(logits).max()))
    steepest, losses = [], []
    for distance in _DISTANCES:
        largest = 0.0
        for _ in range(_DIRECTIONS):
            step = generator.choice([-1.0, 1.0], logits.shape) * generator.uniform(
                0.5, 1.0, logits.shape
            )
            found = derived.exact_row(logits + distance * size * step, weights)
            if found is None:
                return None
            losses.append(found[0])
            largest = max(largest, float(np.abs(found[1]).max()))
        steepest.append(largest)
    if steepest[1] > _BOUNDED * max(steepest[0], 1e-30):
        return None
    near = losses[_DIRECTIONS:]
    middle = math.fsum(near) / len(near)
    apart = max(abs(one - middle) for one in near)
    allowed = 4 * _DISTANCES[1] * size * steepest[1] * len(logits)
    return middle if apart <= allowed + 2.0**-45 * abs(middle) else None
