"""The table of operations: what each computes, how, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.program import Operation, ProgramError
from lossfuzz.harness.programs.tape import Tape, Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation as it is evaluated.

    Attributes:
        tape: what is recorded on.
        operation: with its attributes.
        run: evaluates a branch's or body's program on values.
    """

    tape: Tape
    operation: Operation
    run: Callable[..., list[Any]]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or a default where TensorFlow stores none."""
        found = self.operation.attributes.get(name)
        return default if found is None else found

    @property
    def is_real(self) -> bool:
        """Whether the first result is made of real numbers."""
        return self.operation.outputs[0].is_real

    @property
    def dtype(self) -> Any:
        """NumPy's dtype of the first result, where it is integers or truth values."""
        return np.dtype(self.operation.outputs[0].dtype)

    def real(self, value: Any) -> Variable:
        """An operand as real numbers."""
        if isinstance(value, Variable):
            return value
        if isinstance(value, Truth):
            found = self.tape.engine.exactly(value.holds.astype(np.float64))
            if value.unsure is not None:
                ones = self.tape.engine.exactly(np.ones(value.holds.shape))
                found = self.tape.engine.blurred(found, ones, value.unsure)
            return Variable(self.tape, found)
        return self.tape.constant(np.asarray(value, np.float64))

    def whole(self, value: Any) -> NDArray[Any]:
        """An operand as integers or truth values, which must be decided."""
        if isinstance(value, Truth):
            return value.decided()
        if isinstance(value, Variable):
            raise ProgramError(f"{self.operation} expects integers")
        return np.asarray(value)

    def truth(self, value: Any) -> Truth:
        """An operand as truth values."""
        return value if isinstance(value, Truth) else Truth(self.whole(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a kind of operation.

    Attributes:
        kind: TensorFlow's name.
        apply: evaluates it: value, derivative and forms.
        domain: where it has a value.
        roundings: what TensorFlow's own evaluation costs: such as ``1``, ``n`` or ``4``.
        source: where its mathematics stands.
    """

    kind: str
    apply: Callable[..., Any]
    domain: str = "all numbers"
    roundings: str = "0"
    source: str = "TensorFlow's API reference, tf.raw_ops"


_TABLE: dict[str, Entry] = {}


def entry(
    *kinds: str, domain: str = "all numbers", roundings: str = "0", **known: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the table under each of some kinds."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for kind in kinds:
            add_entry(
                Entry(kind=kind, apply=function, domain=domain, roundings=roundings, **known)
            )
        return function

    return register


def add_entry(new: Entry) -> None:
    """Add to the table, or replace what stands there."""
    _TABLE[new.kind] = new


def table() -> Mapping[str, Entry]:
    """All entries by kind."""
    return _TABLE


def is_known(kind: str) -> bool:
    """Whether an operation of this kind can be evaluated."""
    return kind in _TABLE
