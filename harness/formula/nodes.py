"""Balls that remember what they were made of: differentiation in reverse, number by number.

Every operation notes the partial derivatives of its result by its operands; one sweep from the
last to the first sums adjoint times partial (Griewank & Walther 2008, "Evaluating derivatives",
chapter 3). What has no adjoint is skipped, so a branch that was not taken sends nothing back.
"""

from __future__ import annotations

from typing import Any

from flint import arb

_ONE, _MINUS_ONE = arb(1), arb(-1)


class Node:
    """A ball on a tape.

    Attributes:
        value: the ball.
        tape: every node, in the order of making.
        parents: pairs of an operand and the partial derivative by it.
        adjoint: the derivative of the result by this node; None where nothing came back.
    """

    __slots__ = ("adjoint", "parents", "tape", "value")

    def __init__(self, value: arb, tape: list[Node], *parents: tuple[Any, arb]) -> None:
        self.value, self.tape, self.parents = value, tape, parents
        self.adjoint: arb | None = None
        tape.append(self)

    def __add__(self, other: Any) -> Node:
        if isinstance(other, Node):
            return Node(self.value + other.value, self.tape, (self, _ONE), (other, _ONE))
        return Node(self.value + other, self.tape, (self, _ONE))

    __radd__ = __add__

    def __neg__(self) -> Node:
        return Node(-self.value, self.tape, (self, _MINUS_ONE))

    def __mul__(self, other: Any) -> Node:
        if isinstance(other, Node):
            product = self.value * other.value
            return Node(product, self.tape, (self, other.value), (other, self.value))
        return Node(self.value * other, self.tape, (self, other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Node:
        if not isinstance(other, Node):
            return Node(self.value / other, self.tape, (self, 1 / other))
        quotient = self.value / other.value
        return Node(quotient, self.tape, (self, 1 / other.value), (other, -quotient / other.value))

    def __rtruediv__(self, other: arb) -> Node:
        quotient = other / self.value
        return Node(quotient, self.tape, (self, -quotient / self.value))

    def __pow__(self, exponent: arb) -> Node:
        slope = exponent * self.value ** (exponent - 1)
        return Node(self.value**exponent, self.tape, (self, slope))

    def exp(self) -> Node:
        """Exponential."""
        power = self.value.exp()
        return Node(power, self.tape, (self, power))

    def log(self) -> Node:
        """Natural logarithm."""
        return Node(self.value.log(), self.tape, (self, 1 / self.value))


def differentiate(result: Node) -> None:
    """Give every node of a tape its adjoint, the derivative of the result by it."""
    result.adjoint = _ONE
    for node in reversed(result.tape):
        adjoint = node.adjoint
        if adjoint is None or adjoint.is_zero():  # 0 times NaN would be NaN
            continue
        for parent, partial in node.parents:
            part = adjoint if partial is _ONE else adjoint * partial
            parent.adjoint = part if parent.adjoint is None else parent.adjoint + part
