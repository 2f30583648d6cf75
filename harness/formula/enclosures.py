"""A formula over enclosures: all rows at once, differentiated in reverse.

Every operation is noted on a tape with the products that take the adjoint of its result to those
of its operands (Griewank & Walther 2008, "Evaluating derivatives", chapter 3). Values and adjoints
are enclosures, so both come with their bounds. An adjoint that is exactly 0 stays exactly 0,
whatever it meets: the branch that a `where` did not take sends nothing back, be it NaN.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.formula.adjoints import blurred, broadcast, plus, raised, same, times
from lossfuzz.harness.formula.algebra import Algebra
from lossfuzz.harness.formula.terms import Condition, Label, Term

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.targets import Targets

    Flags = NDArray[np.bool_]
    Backward = Callable[[Enclosure], Enclosure]


class EnclosureTape(Algebra):
    """The primitives over enclosures ``[rows, 1]`` and ``[rows, classes]``.

    Attributes:
        kept: shape ``[rows, classes]``; classes that are not masked.
        logits: the term that stands for them.
    """

    def __init__(self, logits: Enclosure, targets: Targets) -> None:
        self.rows, self.classes = logits.middle.shape
        self.kept: Flags = ~targets.masked
        self._numbers = logits.numbers
        self._tape: list[tuple[Term, list[tuple[Term, Backward]]]] = []
        self._adjoints: dict[int, Enclosure] = {}
        self.logits = Term(self, logits, vector=True, depends=True)

    # --- the tape ---

    def record(
        self,
        value: Enclosure,
        *parents: tuple[Term, Backward],
        vector: bool,
        complement: Enclosure | None = None,
    ) -> Term:
        """A result, and how its adjoint goes back to each operand."""
        live = [(parent, back) for parent, back in parents if parent.depends]
        term = Term(
            self,
            value,
            vector=vector,
            depends=bool(live),
            complement=complement,
        )
        if live:
            self._tape.append((term, live))
        return term

    def gradient(self, loss: Term) -> Enclosure:
        """The derivative of a loss ``[rows, 1]`` by every logit; 0 of masked classes."""
        self._adjoints = {id(loss): self.ones()}
        for term, parents in reversed(self._tape):
            adjoint = self._adjoints.pop(id(term), None)
            if adjoint is not None:
                for parent, back in parents:
                    self._accumulate(parent, term, back(adjoint))
        found = self._adjoints.pop(id(self.logits), self.exactly(0.0))
        return broadcast(found, self.kept.shape).where(self.kept, 0.0)

    def _accumulate(self, parent: Term, child: Term, part: Enclosure) -> None:
        if child.vector and not parent.vector:
            part = broadcast(part, self.kept.shape).where(self.kept, 0.0).sum()
        known = self._adjoints.get(id(parent))
        self._adjoints[id(parent)] = part if known is None else plus(known, part)

    def exactly(self, values: Any) -> Enclosure:
        """Float64 values without any error."""
        return Enclosure.exactly(values, self._numbers)

    def ones(self) -> Enclosure:
        """An adjoint of 1 for every row."""
        return self.exactly(np.ones((self.rows, 1)))

    def columns(self, label: Label) -> NDArray[np.intp]:
        """The label's class in every row."""
        return np.broadcast_to(np.asarray(label.column, np.intp), (self.rows,))

    def at_label(self, label: Label) -> Flags:
        """Where the label is, shape ``[rows, classes]``."""
        return np.asarray(np.arange(self.classes)[None, :] == self.columns(label)[:, None])

    # --- arithmetic ---

    def add(self, left: Term, right: Term) -> Term:
        return self.record(
            left.value + right.value,
            (left, same),
            (right, same),
            vector=left.vector or right.vector,
        )

    def subtract_from(self, left: Term, right: Term, given: Any) -> Term:
        if right.complement is not None and isinstance(given, int | float) and given == 1:
            return self.record(
                right.complement,
                (right, operator.neg),
                vector=right.vector,
                complement=right.value,
            )
        return self.add(left, self.negate(right))

    def negate(self, value: Term) -> Term:
        return self.record(-value.value, (value, operator.neg), vector=value.vector)

    def multiply(self, left: Term, right: Term) -> Term:
        return self.record(
            left.value * right.value,
            (left, lambda adjoint: times(adjoint, right.value)),
            (right, lambda adjoint: times(adjoint, left.value)),
            vector=left.vector or right.vector,
        )

    def divide(self, left: Term, right: Term) -> Term:
        quotient = left.value / right.value

        def to_divisor(adjoint: Enclosure) -> Enclosure:
            return -times(adjoint, quotient / right.value)

        return self.record(
            quotient,
            (left, lambda adjoint: times(adjoint, 1.0 / right.value)),
            (right, to_divisor),
            vector=left.vector or right.vector,
        )

    def power(self, base: Term, exponent: float) -> Term:
        def back(adjoint: Enclosure) -> Enclosure:
            return times(adjoint, raised(base.value, exponent - 1) * exponent)

        return self.record(raised(base.value, exponent), (base, back), vector=base.vector)

    def exponential(self, value: Term) -> Term:
        power = value.value.exp()
        return self.record(
            power,
            (value, lambda adjoint: times(adjoint, power)),
            vector=value.vector,
            complement=-value.value.expm1(),
        )

    def expm1(self, value: Any) -> Term:
        term = self.lift(value)
        return self.record(
            term.value.expm1(),
            (term, lambda adjoint: times(adjoint, term.value.exp())),
            vector=term.vector,
        )

    def logarithm(self, value: Term) -> Term:
        return self.record(
            value.value.log(),
            (value, lambda adjoint: times(adjoint, 1.0 / value.value)),
            vector=value.vector,
        )

    def log1p(self, value: Any) -> Term:
        term = self.lift(value)
        return self.record(
            term.value.log1p(),
            (term, lambda adjoint: times(adjoint, 1.0 / (1.0 + term.value))),
            vector=term.vector,
        )

    # --- over the classes ---

    def total(self, vector: Term) -> Term:
        def back(adjoint: Enclosure) -> Enclosure:
            return broadcast(adjoint, self.kept.shape).where(self.kept, 0.0)

        kept = broadcast(vector.value, self.kept.shape).where(self.kept, 0.0)
        return self.record(kept.sum(), (vector, back), vector=False)

    def largest(self, vector: Term) -> Term:
        value = broadcast(vector.value, self.kept.shape)
        middles = np.where(self.kept, value.to_float64(), -np.inf)
        column = np.asarray(np.nan_to_num(middles, nan=np.inf).argmax(axis=1), np.intp)
        winner = value.at(column)
        wins = self.at_label(Label(column))
        rivals = self.kept & ~wins & ~value.certainly_below(winner)
        unsure = rivals.any(axis=1, keepdims=True)
        spread = np.where(self.kept, value.radius, 0.0).max(axis=1, keepdims=True)
        highest = Enclosure(winner.middle, np.where(unsure, spread, winner.radius), value.numbers)

        def back(adjoint: Enclosure) -> Enclosure:
            whole = broadcast(adjoint, self.kept.shape)
            return (
                whole.where(wins, 0.0)
                if not unsure.any()
                else blurred(whole.where(wins, 0.0), whole, rivals | (wins & unsure))
            )

        return self.record(highest, (vector, back), vector=False)

    def gather(self, vector: Term, label: Label) -> Term:
        columns, chosen = self.columns(label), self.at_label(label)
        value = broadcast(vector.value, self.kept.shape).at(columns)
        complement = None
        if vector.complement is not None:
            complement = broadcast(vector.complement, self.kept.shape).at(columns)
        return self.record(
            value,
            (vector, lambda adjoint: broadcast(adjoint, self.kept.shape).where(chosen, 0.0)),
            vector=False,
            complement=complement,
        )

    def column(self, index: int) -> Label:
        return Label(np.full(self.rows, index, np.intp))

    def one_hot(self, label: Label) -> Term:
        return self._constant(self.at_label(label).astype(np.float64), vector=True)

    def fixed(self, value: float | list[float]) -> Term:
        if isinstance(value, float):
            return self._constant(np.full((1, 1), value), vector=False)
        return self._constant(np.asarray(value, np.float64)[None, :], vector=True)

    def _constant(self, values: NDArray[np.float64], *, vector: bool) -> Term:
        return Term(self, self.exactly(values), vector=vector, depends=False)

    @property
    def count(self) -> Term:
        counted = self.kept.sum(axis=1, keepdims=True).astype(np.float64)
        return self._constant(counted, vector=False)

    # --- pieces ---

    def larger(self, left: Term, right: Term) -> Term:
        condition = self.compare(left, right, operator.ge)
        return self._pick(condition, left, right, apart=False)

    def magnitude(self, value: Term) -> Term:
        positive = self.compare(value, self.fixed(0.0), operator.ge)
        holds, unsure = positive.holds, positive.unsure

        def back(adjoint: Enclosure) -> Enclosure:
            signed = adjoint.where(holds, -adjoint)
            return blurred(signed, 2.0 * adjoint, unsure) if unsure.any() else signed

        found = value.value.where(holds, -value.value)
        return self.record(found, (value, back), vector=value.vector)

    def select(self, condition: Condition, left: Term, right: Term) -> Term:
        return self._pick(condition, left, right, apart=True)

    def _pick(self, condition: Condition, left: Term, right: Term, *, apart: bool) -> Term:
        """Left or right; where it is not sure which, the two may be far apart."""
        holds, unsure = condition.holds, condition.unsure
        value = left.value.where(holds, right.value)
        blurs = bool(unsure.any())
        if blurs:
            gap = np.abs(self._numbers.floats(left.value.middle - right.value.middle))
            spread = np.maximum(left.value.radius, right.value.radius) + (gap if apart else 0.0)
            value = Enclosure(value.middle, np.where(unsure, spread, value.radius), self._numbers)

        def back_to(takes: Flags) -> Backward:
            def back(adjoint: Enclosure) -> Enclosure:
                part = adjoint.where(takes, 0.0)
                return blurred(part, adjoint, unsure) if blurs else part

            return back

        return self.record(
            value,
            (left, back_to(holds)),
            (right, back_to(~holds)),
            vector=condition.vector or left.vector or right.vector,
        )

    def compare(self, left: Term, right: Term, relation: Callable[[Any, Any], Any]) -> Condition:
        holds = np.asarray(relation(left.value.middle, right.value.middle), np.bool_)
        gap = np.abs(self._numbers.floats(left.value.middle - right.value.middle))
        spread = 2 * (left.value.radius + right.value.radius)
        sure = gap > spread
        if not (left.depends or right.depends):
            sure = sure | (spread == 0)
        return Condition(holds=holds, unsure=~sure, vector=left.vector or right.vector)
