"""A formula on one row of unmasked classes, over numbers of any kind that Arb makes.

Nothing is shared with the enclosures but the user's function: the functions are evaluated by
their plain definitions, with all their cancellation, whatever the size of the logits (`series`
says why Arb can). The numbers are power series, for `LossSpec.textbook`, or the `Node` of `nodes`.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from flint import arb, arb_series

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.formula.algebra import Algebra
from lossfuzz.harness.formula.nodes import Node
from lossfuzz.harness.formula.terms import Condition, FormulaError, Label, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RowAlgebra(Algebra):
    """The primitives on lists of numbers, one for each unmasked class.

    Attributes:
        columns: which of the row's classes are unmasked.
        tied: whether numbers that depend on the logits were compared and found exactly equal.
        outside: whether a function was asked for a value that it certainly has not, such as the
            log of -1; that may have been in a branch that is not taken.
        singular: whether a root was taken of exactly 0, where it has no derivative.
    """

    def __init__(self, columns: Sequence[int], classes: int, *, upper: bool = False) -> None:
        """Start a row.

        Args:
            columns: which classes are not masked.
            classes: of the row.
            upper: what to do at an exact tie: take the first of two, or the other one.
        """
        self.columns, self.classes = list(columns), classes
        self.tied = False
        self.outside = False
        self.singular = False
        self._upper = upper
        self._known: dict[tuple[str, int], tuple[Term, Term]] = {}

    def vector(self, elements: Sequence[Any]) -> Term:
        """The term of so many numbers."""
        return Term(self, list(elements), vector=True, depends=any(map(_depends, elements)))

    def _scalar(self, element: Any) -> Term:
        return Term(self, [element], vector=False, depends=_depends(element))

    def _term(self, elements: list[Any], *, vector: bool) -> Term:
        return Term(self, elements, vector=vector, depends=any(map(_depends, elements)))

    def _map(self, value: Term, function: Callable[[Any], Any]) -> Term:
        return self._term([function(one) for one in value.value], vector=value.vector)

    def _zip(self, left: Term, right: Term, function: Callable[[Any, Any], Any]) -> Term:
        firsts, seconds = self._aligned(left, right)
        pairs = zip(firsts, seconds, strict=True)
        return self._term([function(a, b) for a, b in pairs], vector=left.vector or right.vector)

    def _aligned(self, *terms: Term) -> list[list[Any]]:
        if any(term.vector for term in terms):
            return [t.value if t.vector else t.value * len(self.columns) for t in terms]
        return [term.value for term in terms]

    def add(self, left: Term, right: Term) -> Term:
        return self._zip(left, right, operator.add)

    def negate(self, value: Term) -> Term:
        return self._map(value, operator.neg)

    def multiply(self, left: Term, right: Term) -> Term:
        return self._zip(left, right, operator.mul)

    def divide(self, left: Term, right: Term) -> Term:
        return self._zip(left, right, operator.truediv)

    def power(self, base: Term, exponent: float) -> Term:
        if exponent != int(exponent) or abs(exponent) > _MOST_PRODUCTS:
            power = arb(exponent)
            self._note_negative(base)
            self.singular |= exponent < 1 and any(_ball(one) == 0 for one in base.value)
            return self._map(base, lambda one: one**power)
        raised = self._map(base, lambda one: _product(one, abs(int(exponent))))
        return raised if exponent >= 0 else self.divide(self.fixed(1.0), raised)

    def exponential(self, value: Term) -> Term:
        return self._once("exp", value, lambda: self._map(value, lambda one: one.exp()))

    def logarithm(self, value: Term) -> Term:
        self._note_negative(value)
        return self._map(value, lambda one: one.log())

    def _note_negative(self, value: Term) -> None:
        """Note what has no logarithm and no root, at whatever precision."""
        self.outside |= any(_ball(one) < 0 for one in value.value)

    def total(self, vector: Term) -> Term:
        return self._once("sum", vector, lambda: self._scalar(_added(vector.value)))

    def _once(self, name: str, value: Term, make: Callable[[], Term]) -> Term:
        """A result that is kept, for a softmax and its logarithm share their exponentials."""
        if (name, id(value)) not in self._known:
            self._known[name, id(value)] = value, make()
        return self._known[name, id(value)][1]

    def largest(self, vector: Term) -> Term:
        winner, *rest = vector.value
        for one in rest:
            winner = one if self._beats(one, winner) else winner
        return self._scalar(winner)

    def larger(self, left: Term, right: Term) -> Term:
        return self._zip(left, right, lambda a, b: b if self._beats(b, a) else a)

    def magnitude(self, value: Term) -> Term:
        return self._map(value, lambda one: -one if self._beats(arb(0), one) else one)

    def _beats(self, one: Any, other: Any) -> bool:
        return self._holds(one, other, operator.gt)

    def _holds(self, left: Any, right: Any, relation: Callable[[Any, Any], Any]) -> bool:
        """Whether a relation holds; of equal numbers that depend on the logits, as it is told.

        Raises:
            UndecidedError: the balls overlap.
        """
        first, second = _ball(left), _ball(right)
        if first == second:  # both are exact
            if not (_depends(left) or _depends(right)):
                return bool(relation(0, 0))
            self.tied = True
            return self._upper
        if first < second or first > second:
            return bool(relation(0, 1) if first < second else relation(1, 0))
        raise UndecidedError("two balls overlap")

    def select(self, condition: Condition, left: Term, right: Term) -> Term:
        terms = [left, right]
        wide = condition.vector or any(term.vector for term in terms)
        count = len(self.columns) if wide else 1
        holds = condition.holds if condition.vector else condition.holds * count
        sides = [term.value if term.vector else term.value * count for term in terms]
        chosen = [a if yes else b for yes, a, b in zip(holds, *sides, strict=True)]
        return self._term(chosen, vector=wide)

    def compare(self, left: Term, right: Term, relation: Callable[[Any, Any], Any]) -> Condition:
        pairs = zip(*self._aligned(left, right), strict=True)
        holds = [self._holds(a, b, relation) for a, b in pairs]
        return Condition(holds=holds, unsure=False, vector=left.vector or right.vector)

    def gather(self, vector: Term, label: Label) -> Term:
        if label.column not in self.columns:
            raise FormulaError(f"class {label.column} is masked in this row, so it has no number")
        return self._scalar(vector.value[self.columns.index(label.column)])

    def column(self, index: int) -> Label:
        return Label(index)

    def one_hot(self, label: Label) -> Term:
        return self.vector([arb(int(column == label.column)) for column in self.columns])

    def fixed(self, value: float | list[float]) -> Term:
        if isinstance(value, float):
            return self._scalar(arb(value))
        return self.vector([arb(value[column]) for column in self.columns])

    @property
    def count(self) -> Term:
        return self._scalar(arb(len(self.columns)))


_MOST_PRODUCTS = 1 << 10


def _product(one: Any, power: int) -> Any:
    """A power by squaring, for Arb's own knows nothing of a ball around 0."""
    result = None
    while power:
        if power & 1:
            result = one if result is None else result * one
        power >>= 1
        one = one * one if power else one
    return arb(1) if result is None else result


def _added(values: Sequence[Any]) -> Any:
    first, *rest = values
    return sum(rest, first)


def _depends(element: Any) -> bool:
    return not isinstance(element, arb)


def _ball(element: Any) -> arb:
    if isinstance(element, Node):
        return element.value
    return element[0] if isinstance(element, arb_series) else element
