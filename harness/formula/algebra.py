"""The `x` of a formula: its functions, by their plain definitions over a few primitives.

A kind of numbers supplies the primitives. One that can do better, as enclosures do for a softmax,
overrides the definition.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from lossfuzz.harness.formula.terms import (
    ClassCountError,
    Condition,
    FormulaError,
    Label,
    Term,
    constant_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FUNCTIONS = (
    "exp, log, log1p, expm1, sqrt, sum, max, min, mean, abs, maximum, minimum, relu, softplus, "
    "sigmoid, log_sigmoid, tanh, softmax, log_softmax, logsumexp, xlogy, where, constant, "
    "one_hot, count and classes"
)


class Algebra(ABC):
    """Functions on the numbers of one row, or of many rows at once.

    Masked classes are left out of `sum`, `mean`, `max`, `min`, `softmax`, `log_softmax` and
    `logsumexp`. At an exact tie of `max` or `maximum`, at 0 of `relu` and `abs`, and on the
    boundary of a `where`, a formula may have no derivative: a row there is judged only if both
    sides give the same loss and gradient.

    Attributes:
        classes: of a row, masked ones included.
    """

    classes: int

    # --- what a kind of numbers supplies ---

    @abstractmethod
    def add(self, left: Term, right: Term) -> Term:
        """Sum of two numbers."""

    @abstractmethod
    def negate(self, value: Term) -> Term:
        """The number with the other sign."""

    @abstractmethod
    def multiply(self, left: Term, right: Term) -> Term:
        """Product."""

    @abstractmethod
    def divide(self, left: Term, right: Term) -> Term:
        """Quotient."""

    @abstractmethod
    def power(self, base: Term, exponent: float) -> Term:
        """A constant power."""

    @abstractmethod
    def exponential(self, value: Term) -> Term:
        """The exponential."""

    @abstractmethod
    def logarithm(self, value: Term) -> Term:
        """Natural logarithm."""

    @abstractmethod
    def total(self, vector: Term) -> Term:
        """Sum over unmasked classes."""

    @abstractmethod
    def largest(self, vector: Term) -> Term:
        """The largest over unmasked classes."""

    @abstractmethod
    def larger(self, left: Term, right: Term) -> Term:
        """The larger one of two."""

    @abstractmethod
    def magnitude(self, value: Term) -> Term:
        """The number without its sign."""

    @abstractmethod
    def select(self, condition: Condition, left: Term, right: Term) -> Term:
        """The left number where a condition holds, the right one elsewhere."""

    @abstractmethod
    def compare(self, left: Term, right: Term, relation: Callable[[Any, Any], Any]) -> Condition:
        """Where a relation holds between two numbers."""

    @abstractmethod
    def gather(self, vector: Term, label: Label) -> Term:
        """The number of one class."""

    @abstractmethod
    def column(self, index: int) -> Label:
        """One class as a label."""

    @abstractmethod
    def fixed(self, value: float | list[float]) -> Term:
        """A constant, or one for every class."""

    @abstractmethod
    def one_hot(self, label: Label) -> Term:
        """The vector that is 1 at the label and 0 elsewhere."""

    @property
    @abstractmethod
    def count(self) -> Term:
        """How many classes of the row are not masked."""

    # --- what operators need ---

    def lift(self, value: Any) -> Term:
        """A number of the formula, or a constant.

        Raises:
            FormulaError: it is neither.
        """
        if isinstance(value, Term):
            if value.algebra is not self:
                raise FormulaError(
                    "a number of an earlier call came back: keep nothing between calls of a "
                    "formula, compute everything from its arguments"
                )
            return value
        if isinstance(value, Label):
            value.__float__()
        values = constant_values(value)
        if not isinstance(values, float):
            raise FormulaError(
                f"a list of {len(values)} numbers stands beside a formula's number: write "
                "x.constant([...]) for a constant of every class"
            )
        return self.fixed(values)

    def subtract_from(self, left: Term, right: Term, given: Any) -> Term:
        """Left less right; what was given as left may tell that it is a plain 1."""
        del given
        return self.add(left, self.negate(right))

    def raised(self, base: Term, exponent: Any) -> Term:
        """A power; a number of the formula as exponent wants a positive base."""
        if isinstance(exponent, Term):
            return self.exp(self.lift(exponent) * self.log(base))
        power = constant_values(exponent)
        if not isinstance(power, float):
            raise FormulaError(f"expected a number as exponent, got {exponent!r}")
        return self.power(base, power)

    def chosen(self, vector: Term, key: Any) -> Term:
        """``vector[label]`` or ``vector[0]``."""
        self._vector(vector, "[]")
        if isinstance(key, Label):
            return self.gather(vector, key)
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            if not -self.classes <= key < self.classes:
                raise ClassCountError(
                    f"vector[{key}] of rows with {self.classes} classes",
                    int(key + 1 if key >= 0 else -key),
                )
            return self.gather(vector, self.column(int(key) % self.classes))
        raise FormulaError(
            f"vectors are indexed by the label or by a class's number, got {type(key).__name__}; "
            "for a weighted choice write x.sum(weights * vector)"
        )

    def _vector(self, value: Any, function: str) -> Term:
        term = self.lift(value)
        if not term.vector:
            raise FormulaError(
                f"x.{function} works on a vector over the classes, got a single number"
            )
        return term

    # --- what users call ---

    def constant(self, value: Any) -> Term:
        """A number, or a sequence with one for every class."""
        values = constant_values(value)
        if isinstance(values, float):
            return self.fixed(values)
        if len(values) != self.classes:
            raise ClassCountError(
                f"x.constant was given {len(values)} numbers for rows with {self.classes} "
                "classes: give one for each, such as [f(k) for k in range(x.classes)], or measure "
                f"with {len(values)} classes",
                len(values),
            )
        return self.fixed(list(values))

    def exp(self, value: Any) -> Term:
        """The exponential."""
        return self.exponential(self.lift(value))

    def log(self, value: Any) -> Term:
        """Natural logarithm."""
        return self.logarithm(self.lift(value))

    def expm1(self, value: Any) -> Term:
        """``exp(v) - 1``."""
        return self.exp(value) - 1

    def log1p(self, value: Any) -> Term:
        """``log(1 + v)``."""
        return self.log(self.lift(value) + 1)

    def sqrt(self, value: Any) -> Term:
        """Square root."""
        return self.power(self.lift(value), 0.5)

    def sum(self, vector: Any) -> Term:
        """Sum over unmasked classes."""
        return self.total(self._vector(vector, "sum"))

    def mean(self, vector: Any) -> Term:
        """Mean over unmasked classes."""
        return self.total(self._vector(vector, "mean")) / self.count

    def max(self, vector: Any) -> Term:
        """The largest over unmasked classes."""
        return self.largest(self._vector(vector, "max"))

    def min(self, vector: Any) -> Term:
        """The smallest over unmasked classes."""
        return -self.largest(-self._vector(vector, "min"))

    def abs(self, value: Any) -> Term:
        """The number without its sign."""
        return self.magnitude(self.lift(value))

    def maximum(self, left: Any, right: Any) -> Term:
        """The larger one of two, class by class."""
        return self.larger(self.lift(left), self.lift(right))

    def minimum(self, left: Any, right: Any) -> Term:
        """The smaller one of two, class by class."""
        return -self.larger(-self.lift(left), -self.lift(right))

    def relu(self, value: Any) -> Term:
        """``max(v, 0)``."""
        return self.maximum(value, 0.0)

    def softplus(self, value: Any) -> Term:
        """``log(1 + exp(v))``."""
        return self.log(self.exp(value) + 1)

    def sigmoid(self, value: Any) -> Term:
        """``1 / (1 + exp(-v))``."""
        return 1 / (self.exp(-self.lift(value)) + 1)

    def log_sigmoid(self, value: Any) -> Term:
        """``-log(1 + exp(-v))``."""
        return -self.softplus(-self.lift(value))

    def tanh(self, value: Any) -> Term:
        """``(1 - exp(-2 v)) / (1 + exp(-2 v))``."""
        decay = self.exp(-2.0 * self.lift(value))
        return (1 - decay) / (1 + decay)

    def softmax(self, vector: Any) -> Term:
        """``exp(v_j) / sum_k exp(v_k)``."""
        powers = self.exp(self._vector(vector, "softmax"))
        return powers / self.total(powers)

    def logsumexp(self, vector: Any) -> Term:
        """``log(sum_k exp(v_k))``."""
        return self.log(self.total(self.exp(self._vector(vector, "logsumexp"))))

    def log_softmax(self, vector: Any) -> Term:
        """``v_j - log(sum_k exp(v_k))``."""
        return self._vector(vector, "log_softmax") - self.logsumexp(vector)

    def xlogy(self, factor: Any, value: Any) -> Term:
        """``a log(b)``, and 0 where a is 0; a must not depend on the logits."""
        weight = self.lift(factor)
        if weight.depends:
            raise FormulaError("x.xlogy(a, b) wants an a that does not depend on the logits")
        empty = self.compare(weight, self.fixed(0.0), operator.eq)
        safe = self.select(empty, self.fixed(1.0), self.lift(value))
        return weight * self.log(safe)

    def where(self, condition: Any, left: Any, right: Any) -> Term:
        """Left where a condition holds, right elsewhere, class by class."""
        if not isinstance(condition, Condition):
            raise FormulaError(
                f"x.where wants a comparison such as logits > 0, got {type(condition).__name__}"
            )
        return self.select(condition, self.lift(left), self.lift(right))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise FormulaError(f"x has no {name!r}; it has {FUNCTIONS}")
