"""Rows on a kink of a user's formula, where it has a value but no derivative.

There every number between the one-sided derivatives is a right gradient, and NaN is none: a
training step that meets a zero vector or a tie must go on. A row counts as one on a kink if its
loss is a number, the same on both sides of every tie, and the gradients nearby stay bounded as
they are taken ever nearer; where these grow without bound, as those of a square root at 0 do, an
infinite or undefined gradient is the truth.
"""

from __future__ import annotations

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

_FLAT = 1e-30
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
    exact = derived.exact_loss(logits, weights)
    if exact is None:
        return None
    generator = np.random.default_rng(_SEED)
    size = max(1.0, float(np.abs(logits).max()))
    steepest = []
    for distance in _DISTANCES:
        largest = 0.0
        for _ in range(_DIRECTIONS):
            step = generator.choice([-1.0, 1.0], logits.shape)
            step *= generator.uniform(0.5, 1.0, logits.shape)
            found = derived.exact_row(logits + distance * size * step, weights)
            if found is None:
                return None
            largest = max(largest, float(np.abs(found[1]).max()))
        steepest.append(largest)
    return exact if steepest[1] <= _BOUNDED * max(steepest[0], _FLAT) else None
