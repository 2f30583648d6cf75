"""Softmax, sigmoid and their relatives, to full relative accuracy, with their adjoints.

With w any class, in float64 the largest, d_k = x_k - x_w, e_k = exp(d_k), S the sum of e_k over
k != w (see `losses.softmax`):

    log p_k = d_k - log1p(S),  p_k = e_k / (1 + S),  1 - p_k = (S - e_k + 1) / (1 + S),
    1 - p_w = S / (1 + S)

The float64 numbers are evaluated at the middles of what they are given, and widened by what the
radius r may move (see `formula.stable`): log-sum-exp by r, log p_k by 2r, p_k and 1 - p_k by at
most min(p_k, 1 - p_k) (exp(2r) - 1). Adjoints leave one class out instead of subtracting it:

    log_softmax:  g_j (1 - p_j) - p_j sum over k != j of g_k
    softmax:      p_j (g_j (1 - p_j) - sum over k != j of g_k p_k)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic
from lossfuzz.harness.programs.sums import other_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.programs.tape import Variable

_LARGEST_EXPONENT = 700.0


class Shares:
    """The softmax of numbers along an axis, computed once and kept with them.

    Attributes:
        differences: log p, before `log_sum` is taken off.
        log_sum: log1p(S), of length 1 along the axis.
        winner: x_w.
        masked: where the numbers are -inf, or None.
    """

    __slots__ = ("_engine", "_others", "_parts", "_total", "_weights", "differences", "log_sum",
                 "masked", "spread", "winner")  # fmt: skip

    def __init__(self, engine: Any, value: Any, axis: int) -> None:
        numbers, spread = engine.split(value)
        middles = engine.middles(numbers)
        masked = np.isneginf(middles)
        some = bool(masked.any())
        self._engine = engine
        self._parts: dict[str, Any] = {}
        self.masked = masked if some else None
        column = np.expand_dims(np.where(np.isnan(middles), -np.inf, middles).argmax(axis), axis)
        places = np.arange(middles.size).reshape(middles.shape)
        winner = engine.take(numbers, np.take_along_axis(places, column, axis))
        differences = engine.add(numbers, engine.neg(winner))
        zero = engine.exactly(0.0)
        if some:
            differences = engine.where(masked, zero, differences)
        weights = engine.exp(differences)
        if some:
            weights = engine.where(masked, zero, weights)
        ends = [1] * middles.ndim
        ends[axis] = middles.shape[axis]
        wins = np.arange(middles.shape[axis]).reshape(ends) == column
        tail = engine.sum(engine.where(wins, zero, weights), (axis % max(1, middles.ndim),))
        self.winner, self.differences = winner, differences
        self.log_sum = engine.log1p(tail)
        self.spread = None
        if spread is not None:
            kept = (
                np.where(masked, 0.0, spread) if some else np.broadcast_to(spread, middles.shape)
            )
            self.spread = kept.max(axis=axis, keepdims=True)
        self._weights, self._total = weights, engine.add(tail, engine.exactly(1.0))
        self._others = (wins, tail)

    def probabilities(self) -> Any:
        """p_k."""
        return self._part("p")

    def complements(self) -> Any:
        """1 - p_k."""
        return self._part("q")

    def _part(self, name: str) -> Any:
        if not self._parts:
            engine, (wins, tail) = self._engine, self._others
            rest = engine.add(engine.add(tail, engine.neg(self._weights)), engine.exactly(1.0))
            rest = engine.where(wins, tail, rest)
            if self.masked is not None:
                rest = engine.where(self.masked, self._total, rest)
            p = engine.div(self._weights, self._total)
            q = engine.div(rest, self._total)
            if self.masked is not None:
                q = engine.where(self.masked, engine.exactly(1.0), q)
            if self.spread is not None:
                moves = np.minimum(
                    moved_by(engine, p, 2 * self.spread), moved_by(engine, q, 2 * self.spread)
                )
                moves = np.minimum(moves, 1.0)
                if self.masked is not None:
                    moves = np.where(self.masked, 0.0, moves)
                p, q = engine.widened(p, moves), engine.widened(q, moves)
            self._parts = {"p": p, "q": q}
        return self._parts[name]

    def log_probabilities(self) -> Any:
        """Log p_k; -inf where masked."""
        engine = self._engine
        found = engine.add(self.differences, engine.neg(self.log_sum))
        if self.spread is not None:
            moves = np.minimum(2 * self.spread, moved_by(engine, found, 2 * self.spread))
            found = engine.widened(found, moves)
        if self.masked is not None:
            found = engine.where(self.masked, engine.exactly(-np.inf), found)
        return found


def moved_by(engine: Any, value: Any, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a logarithm that is wrong by the spread does to a number."""
    grown = engine.magnitude(value)
    with np.errstate(over="ignore", invalid="ignore"):
        moved = grown * np.expm1(np.minimum(spread, _LARGEST_EXPONENT))
    return np.asarray(np.where(spread <= _LARGEST_EXPONENT, moved, np.inf))


def shares(value: Variable, axis: int) -> Shares:
    """The softmax's parts, which a softmax, its logarithm and a log-sum-exp have in common."""
    known = value.tape.kept
    key = id(value), axis % max(1, len(value.shape))
    if key not in known:
        known[key] = value, Shares(value.tape.engine, value.value, key[1])
    found: Shares = known[key][1]
    return found


def softmax(value: Variable, axis: int = -1) -> Variable:
    """exp(x) / sum(exp(x))."""
    engine, parts = value.tape.engine, shares(value, axis)
    probabilities = parts.probabilities()
    return value.tape.record(
        probabilities,
        (value, lambda adjoint: _softmax_back(engine, parts, adjoint, axis)),
        forms={
            "log": lambda: log_softmax(value, axis),
            "complement": lambda: _complement(value, axis),
        },
        origin=("softmax", axis % max(1, len(value.shape))),
    )


def _softmax_back(engine: Any, parts: Shares, adjoint: Any, axis: int) -> Any:
    probabilities = parts.probabilities()
    rest = other_sums(engine, engine.times(adjoint, probabilities), axis)
    own = engine.times(adjoint, parts.complements())
    return engine.times(engine.add(own, engine.neg(rest)), probabilities)


def _complement(value: Variable, axis: int) -> Variable:
    engine, parts = value.tape.engine, shares(value, axis)
    return value.tape.record(
        parts.complements(),
        (value, lambda adjoint: engine.neg(_softmax_back(engine, parts, adjoint, axis))),
        forms={"complement": lambda: softmax(value, axis)},
    )


def log_softmax(value: Variable, axis: int = -1) -> Variable:
    """X - log(sum(exp(x)))."""
    engine, parts = value.tape.engine, shares(value, axis)

    def back(adjoint: Any) -> Any:
        rest = other_sums(engine, adjoint, axis)
        own = engine.times(adjoint, parts.complements())
        return engine.add(own, engine.neg(engine.times(rest, parts.probabilities())))

    return value.tape.record(
        parts.log_probabilities(),
        (value, back),
        forms={"exp": lambda: softmax(value, axis)},
    )


def logsumexp(value: Variable, axis: int) -> Variable:
    """log(sum(exp(x))) along an axis, which stays with length 1."""
    engine, parts = value.tape.engine, shares(value, axis)
    found = engine.add(parts.winner, parts.log_sum)
    return value.tape.record(
        engine.widened(found, parts.spread),
        (value, lambda adjoint: engine.times(adjoint, parts.probabilities())),
    )


def softplus(value: Variable) -> Variable:
    """log(1 + exp(x))."""
    engine = value.tape.engine
    numbers, spread = engine.split(value.value)
    above = np.asarray(engine.middles(numbers) > 0)
    zero = engine.exactly(0.0)
    size = engine.where(above, engine.neg(numbers), numbers)
    found = engine.add(engine.where(above, numbers, zero), engine.log1p(engine.exp(size)))
    if spread is not None:
        found = engine.widened(found, np.minimum(spread, moved_by(engine, found, spread)))
    return value.tape.record(
        found,
        (value, lambda adjoint: engine.times(adjoint, sigmoid_numbers(engine, value.value))),
        forms={"negated_exp": lambda: sigmoid(arithmetic.negate(value))},
    )


def sigmoid(value: Variable) -> Variable:
    """1 / (1 + exp(-x))."""
    engine = value.tape.engine
    share = sigmoid_numbers(engine, value.value)

    def back(adjoint: Any) -> Any:
        rest = sigmoid_numbers(engine, engine.neg(value.value))
        return engine.times(adjoint, engine.mul(share, rest))

    return value.tape.record(
        share,
        (value, back),
        forms={
            "log": lambda: arithmetic.negate(softplus(arithmetic.negate(value))),
            "complement": lambda: sigmoid(arithmetic.negate(value)),
        },
    )


def sigmoid_numbers(engine: Any, value: Any) -> Any:
    """The sigmoid of numbers of an engine, without cancellation on either side."""
    numbers, spread = engine.split(value)
    above = np.asarray(engine.middles(numbers) > 0)
    one = engine.exactly(1.0)
    decay = engine.exp(engine.where(above, engine.neg(numbers), numbers))
    sum_ = engine.add(decay, one)
    share = engine.div(engine.where(above, one, decay), sum_)
    if spread is None:
        return share
    rest = engine.div(engine.where(above, decay, one), sum_)
    moves = np.minimum(moved_by(engine, share, spread), moved_by(engine, rest, spread))
    return engine.widened(share, np.minimum(moves, 1.0))
