"""Programs: what a loss computes, as a list of tensor operations over real numbers.

A program says nothing of how a number is rounded: casts between float formats are no operations,
and its constants are the stored numbers. So it is a mathematical function of its inputs, which
`evaluation` evaluates exactly.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


class ProgramError(ValueError):
    """A program cannot be made or evaluated; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """What is known of a tensor before it is computed.

    Attributes:
        shape: None where a length is not known, or for the whole where the rank is not.
        dtype: such as ``float32``; ``variant`` for TensorFlow's lists of tensors.
    """

    shape: tuple[int | None, ...] | None
    dtype: str

    @property
    def is_real(self) -> bool:
        """Whether its elements are real numbers, and not integers or truth values."""
        return self.dtype in REAL_DTYPES


REAL_DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A tensor that a program is given.

    Attributes:
        name: for messages.
        value: its id among the program's values.
        type: its shape and dtype.
    """

    name: str
    value: int
    type: TensorType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One step of a program.

    Attributes:
        kind: TensorFlow's name of the operation, such as ``Softmax``.
        inputs: ids of the values that it takes.
        results: ids of the values that it makes.
        outputs: what those are.
        attributes: plain Python values; a branch or body is a `Program`.
        source: the user's file and line, or the operation's own name.
    """

    kind: str
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    outputs: tuple[TensorType, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.source})" if self.source else self.kind


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """A loss as operations in the order of their evaluation.

    Attributes:
        name: for messages.
        inputs: in the order of the function's arguments.
        operations: each after those that make what it takes.
        constants: the stored numbers by the id of their value; of real dtypes in float64.
        outputs: ids of the results; a loss has one.
    """

    name: str
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    constants: Mapping[int, NDArray[Any]]
    outputs: tuple[int, ...]

    @property
    def kinds(self) -> Counter[str]:
        """How often each kind of operation occurs, branches and bodies included."""
        found: Counter[str] = Counter()
        for operation in self.operations:
            found[operation.kind] += 1
            for value in operation.attributes.values():
                if isinstance(value, Program):
                    found.update(value.kinds)
        return found

    def accepted(self, arrays: Sequence[Any]) -> list[NDArray[Any]]:
        """Arrays as this program's inputs: their number and shapes are checked.

        Raises:
            ProgramError: they do not fit.
        """
        if len(arrays) != len(self.inputs):
            names = ", ".join(one.name for one in self.inputs)
            raise ProgramError(
                f"{self.name} takes {len(self.inputs)} inputs ({names}), got {len(arrays)}"
            )
        return [
            _accepted(self.name, one, np.asarray(array))
            for one, array in zip(self.inputs, arrays, strict=True)
        ]


def _accepted(name: str, expected: Input, array: NDArray[Any]) -> NDArray[Any]:
    shape = expected.type.shape
    fits = shape is None or (
        len(shape) == array.ndim
        and all(size in {None, got} for size, got in zip(shape, array.shape, strict=True))
    )
    if not fits:
        raise ProgramError(
            f"{name} expects {expected.name} of shape {_spelled(shape)}, "
            f"got {_spelled(array.shape)}"
        )
    dtype = np.float64 if expected.type.is_real else np.dtype(expected.type.dtype)
    if not expected.type.is_real and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ProgramError(
            f"{name} expects {expected.name} of {expected.type.dtype}, got {array.dtype}"
        )
    return array.astype(dtype, copy=False)


def _spelled(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "any rank"
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
