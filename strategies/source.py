"""Where the families draw their numbers from: NumPy in campaigns, Hypothesis under ``@given``.

Both have the methods of `numpy.random.Generator` that the families use, and `sweep`. So every
family is written once: campaigns draw whole batches fast and as a pure function of a seed, and
property tests draw small rows each of whose numbers Hypothesis knows, and shrinks.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn
    from numpy.typing import ArrayLike, NDArray

    Size = int | tuple[int, ...] | None


class SeededSource(np.random.Generator):
    """NumPy's numbers, a pure function of the seed and the family's name."""

    def __init__(self, seed: int, family: str) -> None:
        super().__init__(np.random.PCG64([seed, zlib.crc32(family.encode())]))

    def sweep(self, low: float, high: float, rows: int) -> NDArray[np.float64]:
        """Evenly spaced numbers from ``low`` to ``high``."""
        return np.linspace(low, high, rows)


Source = SeededSource
"""What a family takes, whoever draws: NumPy's generator says best what its methods return."""


def drawn_source(draw: DrawFn) -> Source:
    """Numbers each of which Hypothesis draws, where a family expects NumPy's.

    Args:
        draw: of the strategy that is being drawn.
    """
    return cast("Source", _DrawnSource(draw))


class _DrawnSource:
    """The methods of `Source` that families use, over Hypothesis.

    They shrink towards the tamest row of a family: normal numbers to 0, uniform ones to the
    simplest number of their interval, choices to the first, and what happens with a probability
    no longer happens. Choices with probabilities are all alike, but for those that never occur.
    """

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def random(self, size: Size = None) -> Any:
        """Numbers in [0, 1); shrink to the largest, which none of the probabilities exceeds."""
        return self._filled(size, lambda: _LARGEST_BELOW_1 - self._draw(_SHARES))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Size = None) -> Any:
        """Numbers in [low, high]; shrink to the simplest of it."""
        numbers = st.floats(low, high, allow_subnormal=False)
        return self._filled(size, lambda: self._draw(numbers))

    def normal(self, loc: float = 0.0, scale: ArrayLike = 1.0, size: Size = None) -> Any:
        """Numbers within four scales of ``loc``; shrink to it."""
        return loc + scale * self._filled(size, lambda: self._draw(_DEVIATIONS))

    def integers(self, low: int, high: int, size: Size = None) -> Any:
        """Integers in [low, high); shrink towards 0."""
        numbers = st.integers(int(low), int(high) - 1)
        return self._filled(size, lambda: self._draw(numbers), np.int64)

    def choice(
        self, a: ArrayLike, size: Size = None, *, replace: bool = True, p: ArrayLike | None = None
    ) -> Any:
        """Members of ``a``; shrink to the first that has a probability."""
        members = np.arange(a) if isinstance(a, int) else np.asarray(a)
        if p is not None:
            members = members[np.asarray(p) > 0]
        if not replace:
            order = self._draw(st.permutations(range(len(members))))
            return members[
                np.array(order[: 1 if size is None else math.prod(np.atleast_1d(size))])
            ]
        places = st.integers(0, len(members) - 1)
        return members[self._filled(size, lambda: self._draw(places), np.int64)]

    def sweep(self, low: float, high: float, rows: int) -> NDArray[np.float64]:
        """A place for each row, drawn."""
        found: NDArray[np.float64] = self.uniform(low, high, rows)
        return found

    @staticmethod
    def _filled(size: Size, one: Callable[[], float], dtype: Any = np.float64) -> Any:
        if size is None:
            return dtype(one())
        shape = _shape(size)
        return np.array([one() for _ in range(math.prod(shape))], dtype).reshape(shape)


def _shape(size: int | tuple[int, ...]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else size


_LARGEST_BELOW_1 = 1 - 2.0**-53
_SHARES = st.floats(0, _LARGEST_BELOW_1, allow_subnormal=False)
_DEVIATIONS = st.floats(-4, 4, allow_subnormal=False)
"""Of a standard normal distribution: 1 in 16,000 is further away."""
