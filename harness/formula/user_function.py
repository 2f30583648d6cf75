"""A user's function, called over whatever numbers, its faults told in one line."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from flint import arb

from lossfuzz.harness.exact.series import BallArithmetic, UndecidedError
from lossfuzz.harness.formula.rows import RowAlgebra
from lossfuzz.harness.formula.terms import ClassCountError, FormulaError, Label, Term
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.users.user_code import UserCode, UserCodeError, kind_of, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.formula.algebra import Algebra
    from lossfuzz.harness.formula.enclosures import EnclosureTape
    from lossfuzz.harness.losses.spec import Arithmetic
    from lossfuzz.harness.losses.targets import Targets

INTEGER_KINDS = (kinds.INDEX, kinds.IGNORABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFunction:
    """A function ``(x, logits, target) -> loss`` of the user's.

    Attributes:
        name: for messages.
        function: what was written.
        target: of `targets.KINDS`: for integer labels the function is given a `Label`, for
            targets with a weight for every class the vector of them, for no target None.
    """

    name: str
    function: Callable[..., Any]
    target: str

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise FormulaError(
                f"expected a function exact(x, logits, label), got {type(self.function).__name__}"
            )
        if self.target not in kinds.KINDS:
            known = "; ".join(repr(kind) for kind in kinds.KINDS)
            raise FormulaError(f"unknown target {self.target!r}; known targets: {known}")
        try:
            with UserCode(f"formula {self.name}"):  # an object may compute its signature
                inspect.signature(self.function).bind(None, None, None)
        except (
            TypeError,
            ValueError,
            UserCodeError,
        ) as error:  # one without a signature says so by the latter
            raise FormulaError(
                f"formula {self.name}: expected a function of three arguments, "
                f"exact(x, logits, label), but {error}"
            ) from None

    def over_rows(self, tape: EnclosureTape, targets: Targets) -> Term:
        """The losses of all rows, over enclosures."""
        present = np.broadcast_to(targets.weights, tape.kept.shape)
        given: Any = None
        if self.target in INTEGER_KINDS:
            given = Label(targets.labels.astype(np.intp))
        elif self.target != kinds.NONE:
            given = Term(tape, tape.exactly(present), vector=True, depends=False)
        loss = self._called(tape, tape.logits, given)
        if not loss.depends:
            raise FormulaError(f"formula {self.name}: the result does not depend on the logits")
        if self.target == kinds.IGNORABLE:
            counts = tape.exactly(present.sum(axis=1, keepdims=True))
            loss = loss * Term(tape, counts, vector=False, depends=False)
        return loss

    def over_row(self, algebra: RowAlgebra, logits: Term, weights: NDArray[np.float64]) -> Term:
        """The loss of one row; the weights are those of all its classes."""
        given: Any = None
        if self.target in INTEGER_KINDS:
            given = Label(int(weights.argmax()))
        elif self.target != kinds.NONE:
            given = algebra.vector([arb(weight) for weight in weights[algebra.columns].tolist()])
        if self.target == kinds.IGNORABLE and not weights.any():
            return algebra.fixed(0.0)
        return self._called(algebra, logits, given)

    def textbook(
        self, logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic
    ) -> Any:
        """The loss of one row over power series, as `LossSpec.textbook` wants it.

        Raises:
            TypeError: the arithmetic does not tell which classes the numbers are of.
        """
        if not isinstance(arithmetic, BallArithmetic):
            raise TypeError(f"expected BallArithmetic, got {type(arithmetic).__name__}")
        algebra = RowAlgebra(arithmetic.columns, arithmetic.classes)
        weights = np.zeros(arithmetic.classes)
        weights[list(arithmetic.columns)] = [float(weight) for weight in targets]
        return self.over_row(algebra, algebra.vector(logits), weights).value[0]

    def _called(self, x: Algebra, logits: Term, given: Any) -> Term:
        try:
            with UserCode(f"formula {self.name}"):
                result = self.function(x, logits, given)
        except UndecidedError:
            raise
        except UserCodeError as error:
            raise FormulaError(str(error)) from error
        except ClassCountError as error:
            raise ClassCountError(f"formula {self.name}: {error}", error.needed) from None
        except FormulaError as error:
            raise FormulaError(f"formula {self.name}: {error}") from None
        except Exception as error:
            told = _own_words(error)
            if told is not None:
                raise FormulaError(f"formula {self.name}: {told}") from None
            raise FormulaError(
                f"formula {self.name} raised {kind_of(error)}: {line_of(error)[:200]}; write it "
                "with + - * / ** and x's functions, such as x.exp, x.sum and logits[label], alone"
            ) from error
        if not isinstance(result, Term) or result.algebra is not x:
            raise FormulaError(
                f"formula {self.name}: expected a number computed from the logits, got "
                f"{type(result).__name__}; return the loss of the row"
            )
        if result.vector:
            raise FormulaError(
                f"formula {self.name}: returned a vector over the classes, expected one number; "
                "reduce it by x.sum or x.mean, or choose by [label]"
            )
        return result


def _own_words(error: BaseException) -> str | None:
    """What one of our own errors said that a library caught and raised as another one."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, FormulaError):
            return str(seen)
        seen = seen.__cause__ or seen.__context__
    return None
