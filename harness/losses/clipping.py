"""Probabilities as Keras clips them before it takes their logarithm.

A clip hides the gradient outside its bounds. Where an enclosure contains a bound, the gradient
could be either of two, so nothing is known of it: its radius becomes infinite, and whoever asked
goes on to a higher precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import Arithmetic

CLIP_EPSILON = 1e-7
"""``keras.config.epsilon()``, and the epsilon of ``tf.compat.v1.losses.log_loss``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """Probabilities p, clipped to [clip_epsilon, 1 - clip_epsilon], to full relative accuracy.

    Attributes:
        values: c, the clipped probabilities.
        complements: 1 - c.
        inside: where p is certainly inside the bounds, so that a gradient passes.
        undecided: where that cannot be told.
    """

    values: Enclosure
    complements: Enclosure
    inside: NDArray[np.bool_]
    undecided: NDArray[np.bool_]

    @classmethod
    def of(cls, probabilities: Enclosure, complements: Enclosure) -> Clipped:
        """Clip on both sides.

        Args:
            probabilities: p.
            complements: 1 - p, which decides the upper bound without cancellation.
        """
        low = probabilities.constant(CLIP_EPSILON)
        below, above = probabilities.certainly_below(low), complements.certainly_below(low)
        inside = low.certainly_below(probabilities) & low.certainly_below(complements)
        high = 1.0 - low
        return cls(
            values=low.where(below, high.where(above, _within(probabilities, inside, low, high))),
            complements=low.where(
                above, high.where(below, _within(complements, inside, low, high))
            ),
            inside=inside,
            undecided=~(below | above | inside),
        )

    @classmethod
    def from_below(cls, probabilities: Enclosure, complements: Enclosure) -> Clipped:
        """Clip to [clip_epsilon, 1]: no probability is above."""
        low, one = probabilities.constant(CLIP_EPSILON), probabilities.constant(1.0)
        below, inside = probabilities.certainly_below(low), low.certainly_below(probabilities)
        return cls(
            values=low.where(below, _within(probabilities, inside, low, one)),
            complements=(1.0 - low).where(below, complements),
            inside=inside,
            undecided=~(below | inside),
        )

    @classmethod
    def unclipped(cls, probabilities: Enclosure, complements: Enclosure) -> Clipped:
        """As they are, for formulas that add an epsilon instead."""
        everywhere = np.ones(probabilities.middle.shape, np.bool_)
        return cls(
            values=probabilities,
            complements=complements,
            inside=everywhere,
            undecided=~everywhere,
        )

    def complementary(self) -> Clipped:
        """The same with p and 1 - p exchanged."""
        return Clipped(
            values=self.complements,
            complements=self.values,
            inside=self.inside,
            undecided=self.undecided,
        )

    def at(self, columns: NDArray[np.int64]) -> Clipped:
        """One of every row, by its column; shape ``[rows, 1]``."""
        index = columns[:, None]
        return Clipped(
            values=self.values.at(columns),
            complements=self.complements.at(columns),
            inside=np.take_along_axis(self.inside, index, axis=1),
            undecided=np.take_along_axis(self.undecided, index, axis=1),
        )

    def logarithm(self, added: float = 0.0) -> Enclosure:
        """log(c + added), from the complement where c is near 1."""
        near_one = np.asarray(self.complements.middle < 1 / 2, np.bool_)
        shifted = self.values + added if added else self.values
        missing = added - self.complements if added else -self.complements
        return (
            missing.where(near_one, 0.0)
            .log1p()
            .where(near_one, shifted.where(~near_one, 1.0).log())
        )

    def settled(self, gradient: Enclosure) -> Enclosure:
        """A gradient, of which nothing is known in rows that the clip leaves undecided."""
        rows = self.undecided.any(axis=1, keepdims=True)
        return Enclosure(
            gradient.middle, np.where(rows, np.inf, gradient.radius), gradient.numbers
        )


def _within(
    numbers: Enclosure, inside: NDArray[np.bool_], low: Enclosure, high: Enclosure
) -> Enclosure:
    """As they are where they are inside, for a bound's own rounding would blur small ones."""
    return numbers.where(inside, numbers.clip(low, high))


def textbook_clip(probability: Any, arithmetic: Arithmetic, *, above: bool = True) -> Any:
    """A probability clipped, in a textbook formula.

    The numbers must be comparable, or power series whose constant terms are. Where a bound
    holds, the slope is 0; the term with the factor 0 keeps the number of its kind.
    """
    low = arithmetic.number(CLIP_EPSILON)
    high = arithmetic.number(1) - low
    value = probability[0] if hasattr(probability, "__getitem__") else probability
    if value < low:
        return low + arithmetic.number(0) * probability
    if above and value > high:
        return high + arithmetic.number(0) * probability
    return probability
