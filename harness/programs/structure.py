"""Functions that move elements and compute nothing: each is the one primitive `moved`.

What NumPy does to an array of the flat indices 0, 1, 2, … says where each element of a result
comes from. The value is then a `take`, its adjoint a `scatter`, and all forms of the operand move
along. Reshaping, broadcasting and transposing have ways of their own, which are faster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.tape import Variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Index = NDArray[np.intp]

_FORMS = ("log", "complement", "exp", "negated", "negated_exp", "increment")

_OF_ZERO = {
    "complement": 1.0,
    "exp": 1.0,
    "negated": 0.0,
    "negated_exp": 1.0,
    "increment": 1.0,
    "log": -np.inf,
}
"""The forms of a 0 that fills a gap."""


def positions(shape: tuple[int, ...]) -> Index:
    """The flat index of every element."""
    return np.arange(math.prod(shape), dtype=np.intp).reshape(shape)


def moved(value: Variable, index: Index) -> Variable:
    """Elements by flat index; an exact 0 where the index is -1."""
    engine, size, shape = value.tape.engine, math.prod(value.shape), value.shape

    def back(adjoint: Any) -> Any:
        return engine.reshape(engine.scatter(adjoint, index, size), shape)

    def form(name: str) -> Any:
        def make() -> Variable | None:
            one = value.form(name)
            if one is None:
                return None
            found = moved(one, index)
            gaps = index < 0
            if _OF_ZERO[name] == 0 or not gaps.any():
                return found
            fill = engine.exactly(np.where(gaps, _OF_ZERO[name], 0.0))
            return value.tape.record(
                engine.where(gaps, fill, found.value), (found, lambda adjoint: adjoint)
            )

        return make

    return value.tape.record(
        engine.take(value.value, index),
        (value, back),
        forms={name: form(name) for name in _FORMS if value.has(name)},
        blank=lambda: _moved_blank(value, index),
    )


def _moved_blank(value: Variable, index: Index) -> Flags | None:
    known = value.blank()
    gaps = index < 0
    if known is None:
        return gaps
    return np.asarray(gaps | known.ravel()[index])


def rearranged(value: Variable, function: Callable[[Index], Any]) -> Variable:
    """What a NumPy function of the elements' places says."""
    return moved(value, np.asarray(function(positions(value.shape)), np.intp))


def _simple(
    value: Variable,
    forward: Callable[[Any], Any],
    back: Callable[[Any], Any],
    masks: Callable[[Any], Any],
    **origin: Any,
) -> Variable:
    def form(name: str) -> Any:
        def make() -> Variable | None:
            one = value.form(name)
            return None if one is None else _simple(one, forward, back, masks)

        return make

    return value.tape.record(
        forward(value.value),
        (value, back),
        forms={name: form(name) for name in _FORMS if value.has(name)},
        origin=origin.get("origin", ()),
        blank=lambda: None if (known := value.blank()) is None else masks(known),
    )


def reshaped(value: Variable, shape: Sequence[int]) -> Variable:
    """The same elements in another shape; one length may be -1."""
    target = np.empty(value.shape, np.bool_).reshape(tuple(shape)).shape
    if target == value.shape:
        return value
    engine, before = value.tape.engine, value.shape
    return _simple(
        value,
        lambda numbers: engine.reshape(numbers, target),
        lambda adjoint: engine.reshape(adjoint, before),
        lambda mask: mask.reshape(target),
        origin=("reshape", value),
    )


def broadcast(value: Variable, shape: tuple[int, ...]) -> Variable:
    """Repeated along new axes and those of length 1."""
    if shape == value.shape:
        return value
    engine = value.tape.engine
    return _simple(
        value,
        lambda numbers: engine.broadcast(numbers, shape),
        lambda adjoint: adjoint,
        lambda mask: np.broadcast_to(mask, shape),
        origin=("broadcast", value),
    )


def transposed(value: Variable, order: Sequence[int]) -> Variable:
    """Axes in another order."""
    axes = tuple(int(axis) for axis in order)
    inverse = tuple(int(axis) for axis in np.argsort(axes))
    engine = value.tape.engine
    return _simple(
        value,
        lambda numbers: engine.transpose(numbers, axes),
        lambda adjoint: engine.transpose(adjoint, inverse),
        lambda mask: mask.transpose(axes),
    )


def joined(values: Sequence[Variable]) -> Variable:
    """All elements of several variables, one after the other."""
    first = values[0]
    engine, sizes = first.tape.engine, [math.prod(one.shape) for one in values]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    forms = [name for name in _FORMS if any(one.has(name) for one in values)]

    def back_to(place: int) -> Any:
        index = np.arange(starts[place], starts[place + 1], dtype=np.intp)
        shape = values[place].shape

        def back(adjoint: Any) -> Any:
            return engine.reshape(engine.take(adjoint, index), shape)

        return back

    def form(name: str) -> Any:
        def make() -> Variable | None:
            parts = [one.form(name) for one in values]
            known = [part for part in parts if part is not None]
            return joined(known) if len(known) == len(values) else None

        return make

    return first.tape.record(
        engine.join([one.value for one in values]),
        *((one, back_to(place)) for place, one in enumerate(values)),
        forms={name: form(name) for name in forms},
        blank=lambda: _joined_blank(values),
    )


def _joined_blank(values: Sequence[Variable]) -> Flags:
    masks = [(one, one.blank()) for one in values]
    return np.concatenate(
        [np.zeros(math.prod(one.shape), np.bool_) if mask is None else mask.ravel()
         for one, mask in masks]
    )  # fmt: skip


def assembled(values: Sequence[Variable], function: Callable[[list[Index]], Any]) -> Variable:
    """What a NumPy function of the places of several variables' elements says."""
    starts = np.cumsum([0, *(math.prod(one.shape) for one in values)])
    places = [positions(one.shape) + start for one, start in zip(values, starts[:-1], strict=True)]
    return moved(joined(values), np.asarray(function(places), np.intp))


def scattered(value: Variable, index: Index, shape: tuple[int, ...]) -> Variable:
    """Sums of the elements that go to each flat index of a new shape."""
    engine = value.tape.engine
    size = math.prod(shape)
    return value.tape.record(
        engine.reshape(engine.scatter(value.value, index, size), shape),
        (value, lambda adjoint: engine.take(adjoint, index)),
    )


def stopped(value: Variable) -> Variable:
    """The same numbers, through which no adjoint goes back."""

    def form(name: str) -> Any:
        def make() -> Variable | None:
            one = value.form(name)
            return None if one is None else stopped(one)

        return make

    return Variable(
        value.tape,
        value.value,
        forms={name: form(name) for name in _FORMS if value.has(name)},
    )
