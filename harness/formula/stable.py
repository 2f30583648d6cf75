"""A formula over enclosures whose softmax and sigmoid lose nothing.

The softmax and its relatives are evaluated at the middles of what they are given, without
cancellation (`losses.softmax`), and what they are given may be wrong by r in every component:

    log-sum-exp moves by at most r,
    L_j = -log p_j by at most min(2r, L_j (exp(2r) - 1))     |dL_j| <= 2r (1 - p_j) <= 2r L_j
    p_j and 1 - p_j by at most min(1, min(p_j, 1 - p_j) (exp(2r) - 1)),
                                                  |dlog p_j|, |dlog(1 - p_j)| <= 2r

(the mean value theorem; the 1-norm of the gradient of L_j is 2 (1 - p_j)), and likewise softplus s
by at most min(r, s (exp(r) - 1)), and the sigmoid as p_j with r for 2r. So no
radius is infinite unless what was given had an infinite one. Adjoints:

    log_softmax:  g_j (1 - p_j) - p_j sum over k != j of g_k
    softmax:      p_j (g_j (1 - p_j) - sum over k != j of g_k p_k)

The sums leave one class out instead of subtracting it: nothing cancels when only the label's
adjoint is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.formula.adjoints import broadcast, times
from lossfuzz.harness.formula.enclosures import EnclosureTape
from lossfuzz.harness.losses.softmax import Softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.formula.terms import Term
    from lossfuzz.harness.losses.targets import Targets

    Reals = NDArray[np.float64]

_UP = 1 + 1e-12
"""Rounds a radius up."""

_LARGEST_EXPONENT = 700.0
"""Of float64's exponential, with some room."""


class StableTape(EnclosureTape):
    """An `EnclosureTape` with functions of a softmax and of sigmoids as primitives."""

    def __init__(self, logits: Enclosure, targets: Targets) -> None:
        super().__init__(logits, targets)
        self._softmaxes: dict[int, tuple[Term, Softmax, Reals]] = {}

    def _softmax(self, vector: Term) -> tuple[Softmax, Reals]:
        """At the middles, and the radius r of what it is given; computed once for each vector."""
        if id(vector) not in self._softmaxes:
            value = broadcast(vector.value, self.kept.shape)
            exact = Enclosure(value.middle, np.zeros(self.kept.shape), value.numbers)
            spread = np.where(self.kept, value.radius, 0.0).max(axis=1, keepdims=True)
            self._softmaxes[id(vector)] = vector, Softmax.of(exact, ~self.kept), spread
        _, softmax, spread = self._softmaxes[id(vector)]
        return softmax, spread

    def logsumexp(self, vector: Any) -> Term:
        term = self._vector(vector, "logsumexp")
        softmax, spread = self._softmax(term)
        return self.record(
            _widened(softmax.winner + softmax.log_sum, spread),
            (term, lambda adjoint: self._kept(times(adjoint, self._probabilities(term)))),
            vector=False,
        )

    def log_softmax(self, vector: Any) -> Term:
        term = self._vector(vector, "log_softmax")
        softmax, spread = self._softmax(term)
        value = softmax.differences - softmax.log_sum
        moves = np.minimum(2 * spread, _relative(value, 2 * spread))

        def back(adjoint: Enclosure) -> Enclosure:
            whole = broadcast(adjoint, self.kept.shape).where(self.kept, 0.0)
            own = times(whole, self._complements(term))
            return self._kept(own - self._probabilities(term) * others(whole))

        return self.record(_widened(value, moves), (term, back), vector=True)

    def softmax(self, vector: Any) -> Term:
        term = self._vector(vector, "softmax")
        probabilities, complements = self._probabilities(term), self._complements(term)

        def back(adjoint: Enclosure) -> Enclosure:
            whole = broadcast(adjoint, self.kept.shape).where(self.kept, 0.0)
            rest = others(times(whole, probabilities))
            return self._kept(probabilities * (times(whole, complements) - rest))

        return self.record(probabilities, (term, back), vector=True, complement=complements)

    def _kept(self, values: Enclosure) -> Enclosure:
        return broadcast(values, self.kept.shape).where(self.kept, 0.0)

    def _probabilities(self, vector: Term) -> Enclosure:
        softmax, spread = self._softmax(vector)
        return _share(softmax.probabilities, softmax.complements, 2 * spread)

    def _complements(self, vector: Term) -> Enclosure:
        softmax, spread = self._softmax(vector)
        return _share(softmax.complements, softmax.probabilities, 2 * spread)

    def softplus(self, value: Any) -> Term:
        term = self.lift(value)
        return self.record(
            softplus(term.value),
            (term, lambda adjoint: times(adjoint, sigmoid(term.value))),
            vector=term.vector,
        )

    def sigmoid(self, value: Any) -> Term:
        term = self.lift(value)
        share, complement = sigmoid(term.value), sigmoid(-term.value)
        return self.record(
            share,
            (term, lambda adjoint: times(adjoint, share * complement)),
            vector=term.vector,
            complement=complement,
        )

    def tanh(self, value: Any) -> Term:
        term = self.lift(value)
        positive = np.asarray(term.value.middle > 0, np.bool_)
        decay = (-2.0 * term.value.where(positive, -term.value)).expm1()
        found = -decay / (decay + 2.0)
        doubled = 2.0 * term.value
        slope = sigmoid(doubled) * sigmoid(-doubled) * 4.0
        return self.record(
            found.where(positive, -found),
            (term, lambda adjoint: times(adjoint, slope)),
            vector=term.vector,
        )


def softplus(value: Enclosure) -> Enclosure:
    """``log(1 + exp(v))``, of widened middles."""
    positive = np.asarray(value.middle > 0, np.bool_)
    exact = Enclosure(value.middle, np.zeros(value.middle.shape), value.numbers)
    magnitude = exact.where(positive, -exact)
    found = exact.where(positive, 0.0) + (-magnitude).exp().log1p()
    return _widened(found, np.minimum(value.radius, _relative(found, value.radius)))


def sigmoid(value: Enclosure) -> Enclosure:
    """``1 / (1 + exp(-v))``, of widened middles."""
    positive = np.asarray(value.middle > 0, np.bool_)
    exact = Enclosure(value.middle, np.zeros(value.middle.shape), value.numbers)
    decay = (-exact.where(positive, -exact)).exp()
    one = exact.constant(1.0)
    share = one.where(positive, decay) / (decay + 1.0)
    return _share(share, decay.where(positive, one) / (decay + 1.0), value.radius)


def others(values: Enclosure) -> Enclosure:
    """For every class the sum over the other ones.

    By sums from the left and from the right, each of which errs by at most n u times the sum of
    its terms' magnitudes (Higham 2002, section 4.2).
    """
    count = values.middle.shape[-1]
    slack = np.abs(values.to_float64()) * ((count + 1) * values.numbers.unit_roundoff)
    sides = [_before(part) for part in (values.middle, values.radius + slack)]
    back = [
        np.flip(_before(np.flip(part, -1)), -1) for part in (values.middle, values.radius + slack)
    ]
    return Enclosure(sides[0] + back[0], sides[1] + back[1], values.numbers)


def _before(terms: NDArray[Any]) -> NDArray[Any]:
    """For every class the sum over those before it."""
    summed = np.zeros_like(terms)
    np.cumsum(terms[..., :-1], axis=-1, out=summed[..., 1:])
    return summed


def _widened(value: Enclosure, spread: Reals) -> Enclosure:
    return Enclosure(value.middle, value.radius + spread * _UP, value.numbers)


def _share(value: Enclosure, complement: Enclosure, spread: Reals) -> Enclosure:
    """A number in [0, 1]; its logarithm and its complement's may be wrong by the spread."""
    moves = np.minimum(_relative(value, spread), _relative(complement, spread))
    return _widened(value, np.minimum(1.0, moves))


def _relative(value: Enclosure, spread: Reals) -> Reals:
    """What a logarithm that is wrong by the spread does to a number."""
    grown = np.abs(value.to_float64()) + value.radius  # which is never 0 after an operation
    with np.errstate(over="ignore", invalid="ignore"):
        moved = grown * np.expm1(np.minimum(spread, _LARGEST_EXPONENT))
    # a number that underflowed may be anything beyond that
    return np.asarray(np.where(spread <= _LARGEST_EXPONENT, moved, np.inf))
