"""What a formula is written in: numbers and vectors with operators, conditions, and a label."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.formula.algebra import Algebra


class FormulaError(ValueError):
    """A formula cannot be used; the message says in one line what came and what to do."""


class ClassCountError(FormulaError):
    """A formula holds constants for another number of classes than the rows have.

    Attributes:
        needed: how many classes the constants are for.
    """

    def __init__(self, message: str, needed: int) -> None:
        super().__init__(message)
        self.needed = needed


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """The true class of a row, or of every row; good for ``vector[label]`` and ``x.one_hot``.

    Attributes:
        column: an index, or an array of one for every row.
    """

    column: Any

    def _refuse(self, *_: Any) -> Any:
        raise FormulaError(
            "a label is no number: use vector[label] or x.one_hot(label), or compare classes "
            "with x.where(x.one_hot(label) == 1, a, b)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __neg__ = __float__ = __index__ = _refuse
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """Where a comparison holds; for ``x.where``.

    Attributes:
        holds: truth values, in the algebra's own layout.
        unsure: of the same layout; where the numbers do not tell, or lie exactly on the boundary.
        vector: whether it is one for every class.
    """

    holds: Any
    unsure: Any
    vector: bool

    def __bool__(self) -> bool:
        raise FormulaError("a comparison has no truth value here: write x.where(condition, a, b)")


class Term:
    """A number of every row, or a vector over its classes.

    Attributes:
        algebra: what it is computed with.
        value: in the algebra's own layout.
        vector: whether it is a number for every class.
        depends: whether it depends on the logits.
        complement: one less it, where that is known without cancellation.
    """

    __slots__ = ("algebra", "complement", "depends", "value", "vector")

    def __init__(
        self,
        algebra: Algebra,
        value: Any,
        *,
        vector: bool,
        depends: bool,
        complement: Any = None,
    ) -> None:
        self.algebra, self.value, self.vector = algebra, value, vector
        self.depends, self.complement = depends, complement

    def __add__(self, other: Any) -> Term:
        return self.algebra.add(self, self.algebra.lift(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Term:
        return self.algebra.add(self, self.algebra.negate(self.algebra.lift(other)))

    def __rsub__(self, other: Any) -> Term:
        return self.algebra.subtract_from(self.algebra.lift(other), self, other)

    def __mul__(self, other: Any) -> Term:
        return self.algebra.multiply(self, self.algebra.lift(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Term:
        return self.algebra.divide(self, self.algebra.lift(other))

    def __rtruediv__(self, other: Any) -> Term:
        return self.algebra.divide(self.algebra.lift(other), self)

    def __neg__(self) -> Term:
        return self.algebra.negate(self)

    def __pos__(self) -> Term:
        return self

    def __abs__(self) -> Term:
        return self.algebra.abs(self)

    def __pow__(self, exponent: Any) -> Term:
        return self.algebra.raised(self, exponent)

    def __rpow__(self, base: Any) -> Term:
        return self.algebra.raised(self.algebra.lift(base), self)

    def __getitem__(self, key: Any) -> Term:
        return self.algebra.chosen(self, key)

    def __lt__(self, other: Any) -> Condition:
        return self.algebra.compare(self.algebra.lift(other), self, operator.gt)

    def __gt__(self, other: Any) -> Condition:
        return self.algebra.compare(self, self.algebra.lift(other), operator.gt)

    def __le__(self, other: Any) -> Condition:
        return self.algebra.compare(self.algebra.lift(other), self, operator.ge)

    def __ge__(self, other: Any) -> Condition:
        return self.algebra.compare(self, self.algebra.lift(other), operator.ge)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self.algebra.compare(self, self.algebra.lift(other), operator.eq)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self.algebra.compare(self, self.algebra.lift(other), operator.ne)

    __hash__ = object.__hash__

    def __iter__(self) -> Any:
        raise FormulaError(
            "a vector is not a list here: use x.sum, x.max, x.mean or vector[label], which leave "
            "masked classes out"
        )

    def __bool__(self) -> bool:
        raise FormulaError("a number of a formula has no truth value: write x.where(a > b, c, d)")

    def __float__(self) -> float:
        raise FormulaError(
            "a number of a formula is no float: use x's functions, such as x.exp and x.log, in "
            "place of math's"
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise FormulaError(
            "a number of a formula is no array or tensor: use x's functions, such as x.exp and "
            "x.log, in place of NumPy's or TensorFlow's"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's numbers may stand in operators; its functions may not be called."""
        name = ufunc.__name__
        if method != "__call__" or options or name not in _OPERATORS:
            raise FormulaError(
                f"numpy.{name} does not know a formula's numbers: use x.{_OURS.get(name, name)}"
            )
        return _OPERATORS[name](*(_plain(value) for value in inputs))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "equal": operator.eq,
    "not_equal": operator.ne,
}
_OURS = {"absolute": "abs", "negative": "constant(-1) * …", "square": "constant(1) * v ** 2"}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        raise FormulaError(
            f"an array of shape {value.shape} stands beside a formula's number: write "
            "x.constant(array) for a constant of every class"
        )
    return value


def constant_values(value: Any) -> float | Sequence[float]:
    """A number, or numbers of every class, as floats.

    Raises:
        FormulaError: it is neither.
    """
    if isinstance(value, bool | np.bool_ | str | bytes | Condition):
        raise FormulaError(_not_a_number(value))
    try:
        given = np.asarray(value)
    except FormulaError:
        raise
    except (TypeError, ValueError):
        raise FormulaError(_not_a_number(value)) from None
    if given.dtype.kind not in "iuf":
        raise FormulaError(_not_a_number(value))
    values = given.astype(np.float64)
    if not np.isfinite(values).all():
        raise FormulaError(f"constants of a formula must be finite, got {value!r}")
    if values.ndim > 1:
        raise FormulaError(
            f"expected a number, or one for every class, got an array of shape {values.shape}"
        )
    return float(values) if values.ndim == 0 else [float(one) for one in values]


def _not_a_number(value: Any) -> str:
    text = repr(value).splitlines()[0][:60]
    return (
        f"expected a number or one of the formula's own, got {type(value).__name__} {text}; make "
        "constants of classes by x.constant([...]), choose by x.where(condition, a, b)"
    )
