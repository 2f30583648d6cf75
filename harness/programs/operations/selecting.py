"""Entries that compare, choose and test."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import selections, structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.tape import Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable

_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Greater": operator.gt,
    "GreaterEqual": operator.ge,
    "Less": operator.lt,
    "LessEqual": operator.le,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}


def _relation(relation: Callable[[Any, Any], Any]) -> Any:
    def apply(call: Call, left: Any, right: Any) -> Any:
        if isinstance(left, Variable) or isinstance(right, Variable):
            return selections.compared(call.real(left), call.real(right), relation)
        if isinstance(left, Truth) or isinstance(right, Truth):
            first, second = call.truth(left), call.truth(right)
            return Truth(relation(first.holds, second.holds), _either(first, second))
        return relation(call.whole(left), call.whole(right))

    return apply


for _kind, _function in _RELATIONS.items():
    entry(_kind, source="decided by enclosures")(_relation(_function))


def _either(*truths: Truth) -> Any:
    known = [one.unsure for one in truths if one.unsure is not None]
    if not known:
        return None
    shape = np.broadcast_shapes(*[one.holds.shape for one in truths])
    found = np.zeros(shape, np.bool_)
    for one in known:
        found = found | one
    return found


def _logical(function: Callable[..., Any], *, settles: bool | None) -> Any:
    """A connective; one that is settled by one operand is sure where that is."""

    def apply(call: Call, *operands: Any) -> Any:
        truths = [call.truth(one) for one in operands]
        found = function(*[one.holds for one in truths])
        unsure = _either(*truths)
        if unsure is not None and settles is not None:
            for one in truths:
                sure = one.holds == settles
                unsure = unsure & ~(sure if one.unsure is None else sure & ~one.unsure)
        return Truth(found, unsure)

    return apply


entry("LogicalAnd")(_logical(np.logical_and, settles=False))
entry("LogicalOr")(_logical(np.logical_or, settles=True))
entry("LogicalNot")(_logical(np.logical_not, settles=None))


@entry("Select", "SelectV2")
def _select(call: Call, condition: Any, left: Any, right: Any) -> Any:
    truth = call.truth(condition)
    if call.operation.kind == "Select" and truth.holds.ndim == 1:
        rank = len(call.operation.outputs[0].shape or (0,))
        wide = (-1, *[1] * (rank - 1))
        unsure = None if truth.unsure is None else truth.unsure.reshape(wide)
        truth = Truth(truth.holds.reshape(wide), unsure)
    if call.is_real:
        return selections.chosen(truth, call.real(left), call.real(right))
    if isinstance(left, Truth) or isinstance(right, Truth):
        first, second = call.truth(left), call.truth(right)
        found = np.where(truth.holds, first.holds, second.holds)
        return Truth(found, _either(truth, first, second))
    return np.where(truth.decided(), call.whole(left), call.whole(right))


@entry("Where")
def _where(call: Call, condition: Any) -> Any:
    if isinstance(condition, Variable):
        zero = call.tape.constant(0.0)
        condition = selections.compared(condition, zero, operator.ne)
    return np.argwhere(call.whole(condition)).astype(np.int64)


def _tested(function: Callable[[Any], Any]) -> Any:
    """A test for what only floats have: exact numbers are never NaN, and infinite if given so."""

    def apply(call: Call, value: Any) -> Any:
        return Truth(function(call.tape.engine.middles(call.real(value).value)))

    return apply


def _is_infinite(call: Call, value: Any) -> Any:
    # a finite number that float64 does not hold is no infinity
    engine, numbers = call.tape.engine, call.real(value).value
    if engine.decides:
        found = [one is not None and not one.is_finite() and not one.is_nan()
                 and one.is_exact() for one in numbers.ravel()]  # fmt: skip
        return np.array(found, np.bool_).reshape(numbers.shape)
    return np.isinf(numbers.middle) & (numbers.radius is None)


@entry("IsInf")
def _is_inf(call: Call, value: Any) -> Truth:
    return Truth(_is_infinite(call, value))


@entry("IsFinite")
def _is_finite(call: Call, value: Any) -> Truth:
    return Truth(~_is_infinite(call, value))


entry("IsNan", source="no real number is NaN")(_tested(lambda x: np.zeros(np.shape(x), np.bool_)))


@entry("ArgMax", "ArgMin")
def _arg(call: Call, value: Any, axis: Any) -> Any:
    least = call.operation.kind == "ArgMin"
    along = int(call.whole(axis))
    if not isinstance(value, Variable):
        numbers = call.whole(value)
        return (np.argmin if least else np.argmax)(numbers, along).astype(call.dtype)
    order = ranked(call, value, along, descending=not least)
    return np.take(order, 0, axis=along).astype(call.dtype)


def ranked(call: Call, value: Variable, axis: int, *, descending: bool) -> Any:
    """The places of elements along an axis in their order; the first of equal ones first.

    Raises:
        UndecidedError: the order of two elements is not known.
    """
    engine = call.tape.engine
    middles = engine.middles(value.value)
    order = np.argsort(-middles if descending else middles, axis=axis, kind="stable")
    places = structure.positions(value.shape)
    sorted_places = np.take_along_axis(places, order, axis)
    moved = engine.take(value.value, sorted_places)
    before = np.take(np.arange(places.size).reshape(places.shape), np.arange(
        max(0, value.shape[axis] - 1)), axis=axis)  # fmt: skip
    after = np.take(np.arange(places.size).reshape(places.shape), np.arange(
        1, max(1, value.shape[axis])), axis=axis)  # fmt: skip
    relation, unsure = engine.order(engine.take(moved, before), engine.take(moved, after))
    Truth(relation, unsure).decided()
    wrong = relation < 0 if descending else relation > 0
    if wrong.any():  # float64 could not tell them apart
        order = _insertion(call, value, axis, descending=descending)
    elif (relation == 0).any() and value.depends:
        call.tape.tied = True
        if not engine.decides:
            Truth(relation, relation == 0).decided()
    return order


def _insertion(call: Call, value: Variable, axis: int, *, descending: bool) -> Any:
    from functools import cmp_to_key

    engine = call.tape.engine
    rows = np.moveaxis(value.value, axis, -1)
    found = np.empty(rows.shape, np.intp)
    for at in np.ndindex(rows.shape[:-1]):
        row = rows[at]

        def compare(one: int, other: int, row: Any = row) -> int:
            relation, _ = engine.order(row[one : one + 1], row[other : other + 1])
            return int(-relation[0] if descending else relation[0])

        found[at] = sorted(range(len(row)), key=cmp_to_key(compare))
    return np.moveaxis(found, -1, axis)


@entry("TopKV2", "TopK")
def _top_k(call: Call, value: Any, count: Any = None) -> Any:
    number = int(call.attribute("k") if count is None else call.whole(count))
    if not isinstance(value, Variable):
        numbers = call.whole(value)
        order = np.argsort(-numbers.astype(np.int64), axis=-1, kind="stable")[..., :number]
        return np.take_along_axis(numbers, order, -1), order.astype(np.int32)
    order = ranked(call, value, len(value.shape) - 1, descending=True)[..., :number]
    places = np.take_along_axis(structure.positions(value.shape), order, -1)
    return structure.moved(value, places), order.astype(np.int32)
