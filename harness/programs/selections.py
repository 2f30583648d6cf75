"""Functions in pieces: which piece a number is on is decided by enclosures.

Where it is not sure, the result may be that of either piece, and its adjoint anything between
none and all: those rows stay open in float64, and are decided at a higher precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import structure
from lossfuzz.harness.programs.tape import Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]

_FORMS = ("log", "complement", "exp")


def compared(left: Variable, right: Variable, relation: Callable[[Any, Any], Any]) -> Truth:
    """Whether a relation holds, element by element."""
    order, unsure = left.tape.order(left, right)
    return Truth(relation(order, 0), unsure)


def chosen(truth: Truth, left: Variable, right: Variable) -> Variable:
    """The first where it is true, else the second; broadcast."""
    tape = left.tape
    engine, holds, unsure = tape.engine, truth.holds, truth.unsure
    zero = engine.exactly(0.0)
    shape = np.broadcast_shapes(holds.shape, left.shape, right.shape)

    def pick(first: Any, second: Any) -> Any:
        found = engine.where(holds, first, second)
        if unsure is None:
            return found
        other = engine.where(holds, second, first)
        return engine.hulled(found, other, np.broadcast_to(unsure, shape))

    def back_to(takes: Flags) -> Any:
        def back(adjoint: Any) -> Any:
            part = engine.where(takes, adjoint, zero)
            return part if unsure is None else engine.blurred(part, adjoint, unsure)

        return back

    def form(name: str) -> Any:
        def make() -> Variable | None:
            first, second = formed(left, name), formed(right, name)
            return None if first is None or second is None else chosen(truth, first, second)

        return make

    names = [name for name in _FORMS if left.has(name) or right.has(name)]
    return tape.record(
        pick(left.value, right.value),
        (left, back_to(holds)),
        (right, back_to(~holds)),
        forms={name: form(name) for name in names},
        blank=lambda: _chosen_blank(truth, left, right, shape),
    )


def _chosen_blank(truth: Truth, left: Variable, right: Variable, shape: tuple[int, ...]) -> Flags:
    nowhere = np.zeros((), np.bool_)
    masks = [nowhere if (mask := one.blank()) is None else mask for one in (left, right)]
    found = np.broadcast_to(np.where(truth.holds, masks[0], masks[1]), shape)
    return found if truth.unsure is None else found & ~truth.unsure


def picked(holds: Flags, left: Variable, right: Variable) -> Variable:
    """One of two spellings of the same number: nothing is compared, so nothing is unsure."""
    return chosen(Truth(holds), left, right)


def formed(value: Variable, name: str) -> Variable | None:
    """A form that a variable has, or else the plain function."""
    from lossfuzz.harness.programs import arithmetic

    found = value.form(name)
    if found is not None:
        return found
    if name == "log":
        return arithmetic.log(value)
    if name == "exp":
        return arithmetic.exp(value)
    return arithmetic.subtract(value.tape.constant(1.0), value) if name == "complement" else None


def maximum(left: Variable, right: Variable) -> Variable:
    """The larger; the first at a tie, as TensorFlow's derivative has it."""
    order, unsure = left.tape.order(left, right)
    return chosen(Truth(order >= 0, unsure), left, right)


def minimum(left: Variable, right: Variable) -> Variable:
    """The smaller; the first at a tie."""
    order, unsure = left.tape.order(left, right)
    return chosen(Truth(order <= 0, unsure), left, right)


def by_sign(value: Variable, slopes: tuple[float, float, float]) -> Variable:
    """Straight on either side of 0: the slopes below, at and above it.

    So are the absolute value, the rectifiers and, with slopes of 0 apart, nothing else.
    """
    tape, engine = value.tape, value.tape.engine
    order, unsure = tape.order(value, tape.constant(0.0))
    factors = np.asarray(slopes)[order.astype(np.intp) + 1]
    exact = engine.exactly(factors)

    def back(adjoint: Any) -> Any:
        part = engine.times(adjoint, exact)
        if unsure is None:
            return part
        return engine.blurred(part, engine.times(adjoint, engine.exactly(2.0)), unsure)

    found = engine.mul(value.value, exact)
    if unsure is not None:
        # the pieces meet at 0, so near it the result is as near to 0 as the argument
        reach = engine.mul(value.value, engine.exactly(np.where(unsure, 2.0, 0.0)))
        found = engine.blurred(found, reach, unsure)
    return tape.record(found, (value, back))


def sign(value: Variable) -> Variable:
    """Minus one, 0 or 1: a step, whose derivative is 0."""
    tape, engine = value.tape, value.tape.engine
    order, unsure = engine.order(value.value, engine.exactly(0.0))
    found = engine.exactly(order.astype(np.float64))
    if unsure is not None:
        found = engine.blurred(found, engine.exactly(np.full(order.shape, 2.0)), unsure)
    return Variable(tape, found)


def stepped(value: Variable, function: Callable[[Any], Any]) -> Variable:
    """A function that is constant between integers and half-integers, such as the floor.

    Args:
        value: its argument.
        function: of float64 numbers.
    """
    from lossfuzz.harness.programs.steps import steps

    found, unsure = steps(value.tape.engine, value.value, function)
    exact = value.tape.engine.exactly(found)
    if unsure is not None:
        ones = value.tape.engine.exactly(np.ones(found.shape))
        exact = value.tape.engine.blurred(exact, ones, unsure)
    return Variable(value.tape, exact)


def largest(value: Variable, axes: tuple[int, ...], *, least: bool = False) -> Variable:
    """The largest over some axes, which stay with length 1.

    At a tie every one of the largest has an equal share, as TensorFlow has it; taken otherwise,
    the first or the last has all.
    """
    tape, engine = value.tape, value.tape.engine
    rest = [axis for axis in range(len(value.shape)) if axis not in axes]
    wide = structure.transposed(value, [*rest, *axes])
    kept = tuple(value.shape[axis] for axis in rest)
    rows = structure.reshaped(wide, (int(np.prod(kept, dtype=int)), -1))
    middles = engine.middles(rows.value)
    middles = -middles if least else middles
    absent = np.isnan(middles)
    column = np.where(absent, -np.inf, middles).argmax(axis=1)
    winner = structure.moved(
        rows, structure.positions(rows.shape)[np.arange(len(column)), column][:, None]
    )
    order, unsure = engine.order(rows.value, winner.value)
    order = -order if least else order
    if engine.decides and (order > 0).any():  # the middles were too close to tell
        column = _best(engine, rows, least=least)
        winner = structure.moved(
            rows, structure.positions(rows.shape)[np.arange(len(column)), column][:, None]
        )
        order, unsure = engine.order(rows.value, winner.value)
        order = -order if least else order
    own = np.arange(rows.shape[1])[None, :] == column[:, None]
    ties = (order == 0) & ~(np.zeros_like(own) if unsure is None else unsure & ~own)
    several = ties.sum(axis=1, keepdims=True) > 1
    if several.any() and value.depends:
        tape.tied = True
        if not engine.decides:
            unsure = several & ties if unsure is None else unsure | (several & ties)
    weights = ties / np.maximum(ties.sum(axis=1, keepdims=True), 1)
    if tape.tie:
        place = ties.argmax(axis=1) if tape.tie < 0 else _last(ties)
        weights = (np.arange(rows.shape[1])[None, :] == place[:, None]).astype(np.float64)
    rivals = None
    if unsure is not None:
        rivals = unsure & ~own
        rivals = rivals | (own & rivals.any(axis=1, keepdims=True))
    share = engine.exactly(weights)

    def back(adjoint: Any) -> Any:
        part = engine.times(adjoint, share)
        if rivals is None or not rivals.any():
            return part
        whole = engine.broadcast(adjoint, rows.shape)
        return engine.blurred(part, whole, rivals)

    found = winner.value
    if rivals is not None and rivals.any():
        found = _spread(engine, rows, winner, rivals)
    result = tape.record(found, (rows, back))
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    return structure.reshaped(result, shape)


def _spread(engine: Any, rows: Variable, winner: Variable, rivals: Flags) -> Any:
    """The winner, widened by the largest radius of what may be above it."""
    if engine.decides:  # an absent element leaves the largest absent
        return engine.blurred(winner.value, winner.value, rivals.any(axis=1, keepdims=True))
    zero = engine.exactly(0.0)
    exact, spread = engine.split(rows.value)
    del exact
    radius = np.zeros(rows.shape) if spread is None else np.broadcast_to(spread, rows.shape)
    most = np.where(rivals, radius, 0.0).max(axis=1, keepdims=True)
    del zero
    return engine.widened(winner.value, 2 * most)


def _best(engine: Any, rows: Variable, *, least: bool) -> Any:
    found = []
    for row in rows.value:
        best = 0
        for place in range(1, len(row)):
            order, _ = engine.order(row[place : place + 1], row[best : best + 1])
            if (order[0] < 0) if least else (order[0] > 0):
                best = place
        found.append(best)
    return np.array(found, np.intp)


def _last(ties: Flags) -> Any:
    return ties.shape[1] - 1 - np.flip(ties, 1).argmax(axis=1)


def known(value: Variable) -> tuple[NDArray[np.float64], Flags | None]:
    """Numbers that are whole where they are known, and where they are not."""
    numbers = value.value
    middles = value.tape.engine.middles(numbers)
    if value.tape.engine.decides:
        absent = np.isnan(middles)
        return np.nan_to_num(middles), absent if absent.any() else None
    if numbers.radius is None:
        return middles, None
    unsure = ~(numbers.radius < 0.25)
    return np.nan_to_num(middles), np.asarray(unsure) if unsure.any() else None
