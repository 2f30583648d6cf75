"""What was computed, and how its adjoints go back: reverse mode over numbers of either kind.

Every operation notes the functions that take the adjoint of its result to those of its operands
(Griewank & Walther 2008, "Evaluating derivatives", chapter 3). An adjoint that is exactly 0 stays
so, whatever it meets: the branch that a selection did not take sends nothing back, be it NaN.

A variable may carry *forms*: other variables that are its logarithm, its complement, and so on,
made when first asked for. Whoever needs ``log(softmax(x))`` takes the form, which was computed
from x without cancellation or underflow, with adjoints that go straight to x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.series import UndecidedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Back = Callable[[Any], Any]
    Blank = Callable[[], Flags | None]
    Form = Callable[[], "Variable | None"]


class Variable:
    """Real numbers of any shape on a tape.

    Attributes:
        value: the engine's numbers.
        tape: what it was made on.
        depends: whether it depends on what is differentiated by.
        origin: what it was made as, where an identity needs to know: such as
            ``("sum", variable, axes)``.
    """

    __slots__ = ("_blank", "_forms", "depends", "origin", "tape", "value")

    def __init__(
        self,
        tape: Tape,
        value: Any,
        *,
        depends: bool = False,
        forms: dict[str, Form] | None = None,
        origin: tuple[Any, ...] = (),
        blank: Blank | None = None,
    ) -> None:
        self._blank = blank
        self.tape, self.value, self.depends, self.origin = tape, value, depends, origin
        self._forms: dict[str, Any] = forms or {}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(self.value.shape)

    def has(self, name: str) -> bool:
        """Whether a form may be asked for."""
        return name in self._forms

    def blank(self) -> Flags | None:
        """Where it is 0 whatever the inputs are, as a mask's zeros are; None if nowhere.

        A number that only happens to be 0 is not: it has a derivative.
        """
        if not self.depends:
            found = self.tape.engine.vanishes(self.value)
        else:
            found = None if self._blank is None else self._blank()
        return found if found is not None and found.any() else None

    def form(self, name: str) -> Variable | None:
        """Another variable that is a function of this one; None where it has none.

        Args:
            name: ``log``, ``complement`` (1 - v), ``exp``, ``negated`` or ``increment`` (1 + v).
        """
        found = self._forms.get(name)
        if found is not None and not isinstance(found, Variable):
            found = self._forms[name] = found()
        return found


class Truth:
    """The outcome of a comparison.

    Attributes:
        holds: where it holds.
        unsure: where that is not known, or None.
    """

    __slots__ = ("holds", "unsure")

    def __init__(self, holds: Any, unsure: Flags | None = None) -> None:
        self.holds: Flags = np.asarray(holds, np.bool_)
        self.unsure = unsure if unsure is not None and unsure.any() else None

    def decided(self) -> Flags:
        """Where it holds.

        Raises:
            UndecidedError: that is not known everywhere.
        """
        if self.unsure is not None:
            raise UndecidedError("a comparison is undecided")
        return self.holds


class Tape:
    """The record of one evaluation.

    Attributes:
        engine: the arithmetic, `Enclosures` or `Balls`.
        tie: what an exact tie is taken for: 0 for itself, as TensorFlow does, or -1 or 1 for the
            first operand being below or above the second.
        tied: whether numbers that depend on the inputs were found exactly equal.
        rewrites: whether forms are used; without them every operation is what it says.
        current: the operation that is being evaluated.
        lost: where an adjoint became NaN, as the operation's name.
    """

    def __init__(self, engine: Any, *, tie: int = 0, rewrites: bool = True) -> None:
        self.engine, self.tie, self.rewrites = engine, tie, rewrites
        self.tied = False
        self.current: Any = None
        self.lost: Any = None
        self.watches = False
        self.kept: dict[tuple[int, int], Any] = {}
        self._records: list[tuple[Variable, list[tuple[Variable, Back]], Any]] = []

    def constant(self, values: Any) -> Variable:
        """Numbers without error that depend on nothing."""
        return Variable(self, self.engine.exactly(values))

    def input(self, values: Any) -> Variable:
        """Numbers to differentiate by."""
        return Variable(self, self.engine.exactly(values), depends=True)

    def record(
        self,
        value: Any,
        *parents: tuple[Variable, Back],
        forms: dict[str, Form] | None = None,
        origin: tuple[Any, ...] = (),
        blank: Blank | None = None,
    ) -> Variable:
        """A result, and how its adjoint goes back to each operand."""
        live = [(parent, back) for parent, back in parents if parent.depends]
        made = Variable(
            self,
            value,
            depends=bool(live),
            forms=forms if self.rewrites else None,
            origin=origin if self.rewrites else (),
            blank=blank,
        )
        if live:
            self._records.append((made, live, self.current))
        return made

    def gradients(self, result: Variable, wanted: Sequence[Variable]) -> list[Any]:
        """The derivative of the sum of a result by each of some inputs."""
        engine = self.engine
        adjoints = _Adjoints(engine)
        adjoints.add(result, engine.exactly(np.ones(result.shape)))
        for made, parents, operation in reversed(self._records):
            adjoint = adjoints.pop(made)
            if adjoint is None:
                continue
            for parent, back in parents:
                part = reduced(engine, back(adjoint), parent.shape)
                if self.watches and self.lost is None and _has_nan(engine, part):
                    self.lost = operation
                adjoints.add(parent, part)
        unique = {id(one): one for one in wanted}
        found = {key: adjoints.pop(one) for key, one in unique.items()}
        return [
            engine.exactly(np.zeros(one.shape)) if found[id(one)] is None else found[id(one)]
            for one in wanted
        ]

    def order(self, left: Variable, right: Variable) -> tuple[NDArray[np.int8], Flags | None]:
        """Minus one, 0 or 1 as the first is below, equal or above; and where that is unsure."""
        found, unsure = self.engine.order(left.value, right.value)
        if left.depends or right.depends:
            ties = found == 0
            if unsure is not None:
                ties &= ~unsure
            if ties.any():
                if not self.engine.decides:
                    unsure = ties if unsure is None else unsure | ties
                else:
                    self.tied = True
                    found = np.where(ties, np.int8(self.tie), found)
        return found, unsure


class _Adjoints:
    """What has come back to each variable so far.

    Exact parts are summed by themselves: where they cancel, as 1 and minus a label of 1 do in a
    sigmoid's cross-entropy, the rest keeps its relative accuracy.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._exact: dict[int, Any] = {}
        self._rest: dict[int, Any] = {}

    def add(self, variable: Variable, part: Any) -> None:
        """One more part."""
        parts = self._exact if self._engine.is_exact(part) else self._rest
        known = parts.get(id(variable))
        parts[id(variable)] = part if known is None else self._engine.add(known, part)

    def pop(self, variable: Variable) -> Any:
        """The sum, or None where nothing came back."""
        exact = self._exact.pop(id(variable), None)
        rest = self._rest.pop(id(variable), None)
        if exact is None or rest is None:
            return rest if exact is None else exact
        return self._engine.add(exact, rest)


def reduced(engine: Any, adjoint: Any, shape: tuple[int, ...]) -> Any:
    """An adjoint summed over what its operand was broadcast to."""
    if adjoint.shape == shape:
        return adjoint
    extra = len(adjoint.shape) - len(shape)
    if extra < 0:
        adjoint, extra = engine.reshape(adjoint, (1,) * -extra + adjoint.shape), 0
    axes = [*range(extra)]
    axes += [
        at + extra for at, size in enumerate(shape) if size == 1 and adjoint.shape[at + extra] != 1
    ]
    summed = engine.sum(adjoint, tuple(axes)) if axes else adjoint
    target = summed.shape[extra:]
    summed = engine.reshape(summed, target)
    return summed if target == shape else engine.broadcast(summed, shape)


def _has_nan(engine: Any, value: Any) -> bool:
    return bool(np.isnan(engine.middles(value)).any())
