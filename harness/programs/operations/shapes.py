"""Entries that give elements another shape or place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.tape import Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable


def moved(value: Any, function: Callable[[Any], Any]) -> Any:
    """What a NumPy function that only moves elements makes of a tensor of any kind."""
    if isinstance(value, Variable):
        return structure.rearranged(value, function)
    if isinstance(value, Truth):
        unsure = None if value.unsure is None else function(value.unsure)
        return Truth(function(value.holds), unsure)
    return function(value)


def assembled(values: list[Any], function: Callable[[list[Any]], Any], call: Call) -> Any:
    """The same of several tensors of one kind."""
    if any(isinstance(one, Variable) for one in values):
        return structure.assembled([call.real(one) for one in values], function)
    if any(isinstance(one, Truth) for one in values):
        truths = [call.truth(one) for one in values]
        unsure = None
        if any(one.unsure is not None for one in truths):
            unsure = function(
                [np.zeros(t.holds.shape, np.bool_) if t.unsure is None else t.unsure
                 for t in truths]
            )  # fmt: skip
        return Truth(function([one.holds for one in truths]), unsure)
    return function([np.asarray(one) for one in values])


def shape_of(value: Any) -> tuple[int, ...]:
    """Of a tensor of any kind."""
    return value.holds.shape if isinstance(value, Truth) else tuple(np.shape(value)) if not (
        isinstance(value, Variable)
    ) else value.shape  # fmt: skip


def ints(call: Call, value: Any) -> list[int]:
    """An operand as Python integers."""
    return [int(one) for one in call.whole(value).ravel()]


def reshaped(value: Any, shape: Any) -> Any:
    """A tensor of any kind in another shape."""
    if isinstance(value, Variable):
        return structure.reshaped(value, shape)
    return moved(value, lambda array: np.reshape(array, shape))


@entry("Reshape")
def _reshape(call: Call, value: Any, shape: Any) -> Any:
    return reshaped(value, ints(call, shape))


@entry("ExpandDims")
def _expand_dims(call: Call, value: Any, axis: Any) -> Any:
    (place,) = ints(call, axis)
    shape = list(shape_of(value))
    shape.insert(place if place >= 0 else len(shape) + 1 + place, 1)
    return reshaped(value, shape)


@entry("Squeeze")
def _squeeze(call: Call, value: Any) -> Any:
    shape = shape_of(value)
    axes = call.attribute("squeeze_dims") or call.attribute("axis") or ()
    gone = {axis % len(shape) for axis in axes} or {
        axis for axis, size in enumerate(shape) if size == 1
    }
    return reshaped(value, [size for axis, size in enumerate(shape) if axis not in gone])


@entry("Transpose")
def _transpose(call: Call, value: Any, order: Any) -> Any:
    axes = ints(call, order)
    if isinstance(value, Variable):
        return structure.transposed(value, axes)
    return moved(value, lambda array: np.transpose(array, axes))


@entry("BroadcastTo")
def _broadcast_to(call: Call, value: Any, shape: Any) -> Any:
    target = tuple(ints(call, shape))
    if isinstance(value, Variable):
        return structure.broadcast(value, target)
    return moved(value, lambda array: np.broadcast_to(array, target))


@entry("Tile")
def _tile(call: Call, value: Any, multiples: Any) -> Any:
    times = ints(call, multiples)
    return moved(value, lambda array: np.tile(array, times))


@entry("ConcatV2")
def _concat(call: Call, *operands: Any) -> Any:
    (axis,) = ints(call, operands[-1])
    return assembled(list(operands[:-1]), lambda all_: np.concatenate(all_, axis), call)


@entry("Concat")
def _concat_first(call: Call, axis: Any, *operands: Any) -> Any:
    (along,) = ints(call, axis)
    return assembled(list(operands), lambda all_: np.concatenate(all_, along), call)


@entry("Pack")
def _pack(call: Call, *operands: Any) -> Any:
    axis = int(call.attribute("axis", 0))
    return assembled(list(operands), lambda all_: np.stack(all_, axis), call)


@entry("Unpack")
def _unpack(call: Call, value: Any) -> Any:
    axis = int(call.attribute("axis", 0))
    count = shape_of(value)[axis]
    return tuple(moved(value, partial(np.take, indices=at, axis=axis)) for at in range(count))


def _cut(array: Any, ends: Any, axis: int, at: int) -> Any:
    return np.split(array, ends, axis)[at]


@entry("Split")
def _split(call: Call, axis: Any, value: Any) -> Any:
    (along,) = ints(call, axis)
    number = int(call.attribute("num_split"))
    return tuple(
        moved(value, partial(_cut, ends=number, axis=along, at=at)) for at in range(number)
    )


@entry("SplitV")
def _split_v(call: Call, value: Any, sizes: Any, axis: Any) -> Any:
    (along,), lengths = ints(call, axis), ints(call, sizes)
    if -1 in lengths:
        rest = shape_of(value)[along] - sum(one for one in lengths if one >= 0)
        lengths = [rest if one == -1 else one for one in lengths]
    ends = np.cumsum(lengths)[:-1]
    return tuple(
        moved(value, partial(_cut, ends=ends, axis=along, at=at)) for at in range(len(lengths))
    )


def _filled(value: Any, widths: list[tuple[int, int]], fill: float, call: Call) -> Any:
    if not isinstance(value, Variable):
        return moved(value, lambda array: np.pad(array, widths, constant_values=int(fill)))
    places = np.pad(structure.positions(value.shape), widths, constant_values=-1)
    found = structure.moved(value, places)
    if fill == 0:
        return found
    from lossfuzz.harness.programs.selections import picked

    return picked(places >= 0, found, call.tape.constant(fill))


@entry("Pad", "PadV2")
def _pad(call: Call, value: Any, paddings: Any, fill: Any = None) -> Any:
    widths = [(int(a), int(b)) for a, b in call.whole(paddings)]
    number = 0.0
    if fill is not None:
        one = fill if not isinstance(fill, Variable) else call.tape.engine.middles(fill.value)
        number = float(np.asarray(one))
    return _filled(value, widths, number, call)


@entry("MirrorPad")
def _mirror_pad(call: Call, value: Any, paddings: Any) -> Any:
    widths = [(int(a), int(b)) for a, b in call.whole(paddings)]
    mode: Any = "reflect" if call.attribute("mode") == "REFLECT" else "symmetric"
    return moved(value, lambda array: np.pad(array, widths, mode=mode))


@entry("ReverseV2", "Reverse")
def _reverse(call: Call, value: Any, axes: Any) -> Any:
    given = call.whole(axes)
    along = np.flatnonzero(given).tolist() if given.dtype == np.bool_ else ints(call, axes)
    return moved(value, lambda array: np.flip(array, tuple(along)))


@entry("Roll")
def _roll(call: Call, value: Any, shift: Any, axis: Any) -> Any:
    shifts, axes = tuple(ints(call, shift)), tuple(ints(call, axis))
    return moved(value, lambda array: np.roll(array, shifts, axes))


@entry("ReverseSequence")
def _reverse_sequence(call: Call, value: Any, lengths: Any) -> Any:
    along = int(call.attribute("seq_dim"))
    batch, sizes = int(call.attribute("batch_dim", 0)), ints(call, lengths)

    def turned(array: Any) -> Any:
        found = np.array(array)
        for row, size in enumerate(sizes):
            at: list[Any] = [slice(None)] * array.ndim
            at[batch], at[along] = row, slice(0, size)
            axis = along - (batch < along)
            found[tuple(at)] = np.flip(array[tuple(at)], axis)
        return found

    return moved(value, turned)


@entry("SpaceToDepth", "DepthToSpace")
def _space_depth(call: Call, value: Any) -> Any:
    size = int(call.attribute("block_size"))
    to_depth = call.operation.kind == "SpaceToDepth"

    def turned(array: Any) -> Any:
        rows, height, width, depth = array.shape
        if to_depth:
            cut = array.reshape(rows, height // size, size, width // size, size, depth)
            cut = cut.transpose(0, 1, 3, 2, 4, 5)
            return cut.reshape(rows, height // size, width // size, -1)
        cut = array.reshape(rows, height, width, size, size, depth // size**2)
        return cut.transpose(0, 1, 3, 2, 4, 5).reshape(rows, height * size, width * size, -1)

    return moved(value, turned)


# --- slices ---


@entry("Slice")
def _slice(call: Call, value: Any, begin: Any, size: Any) -> Any:
    at = tuple(
        slice(first, None if count == -1 else first + count)
        for first, count in zip(ints(call, begin), ints(call, size), strict=True)
    )
    return moved(value, lambda array: array[at])


@entry("StridedSlice")
def _strided_slice(call: Call, value: Any, begin: Any, end: Any, strides: Any) -> Any:
    at: list[Any] = []
    parts = zip(ints(call, begin), ints(call, end), ints(call, strides), strict=True)
    for place, (first, last, step) in enumerate(parts):
        if _bit(call, "ellipsis_mask", place):
            at.append(Ellipsis)
        elif _bit(call, "new_axis_mask", place):
            at.append(None)
        elif _bit(call, "shrink_axis_mask", place):
            at.append(first)
        else:
            low = None if _bit(call, "begin_mask", place) else first
            high = None if _bit(call, "end_mask", place) else last
            at.append(slice(low, high, step))
    return moved(value, lambda array: array[tuple(at)])


def _bit(call: Call, mask: str, place: int) -> bool:
    return bool(int(call.attribute(mask, 0)) >> place & 1)


# --- diagonals ---


@entry("MatrixDiag", "MatrixDiagV2", "MatrixDiagV3", "Diag")
def _matrix_diag(call: Call, value: Any, *rest: Any) -> Any:
    del call, rest

    def spread(array: Any) -> Any:
        return array[..., None]

    if not isinstance(value, Variable):
        size = shape_of(value)[-1]
        return moved(value, lambda array: spread(array) * np.eye(size, dtype=array.dtype))
    size = value.shape[-1]
    places = np.where(np.eye(size, dtype=bool), structure.positions(value.shape)[..., None], -1)
    return structure.moved(value, places)


@entry("MatrixDiagPart", "MatrixDiagPartV2", "MatrixDiagPartV3", "DiagPart")
def _matrix_diag_part(call: Call, value: Any, *rest: Any) -> Any:
    offset = ints(call, rest[0])[0] if rest else 0
    return moved(value, lambda array: np.diagonal(array, offset, -2, -1))


@entry("MatrixSetDiag", "MatrixSetDiagV2", "MatrixSetDiagV3")
def _matrix_set_diag(call: Call, value: Any, diagonal: Any, *rest: Any) -> Any:
    offset = ints(call, rest[0])[0] if rest else 0

    def set_(both: list[Any]) -> Any:
        found = np.array(both[0])
        rows, columns = found.shape[-2:]
        count = both[1].shape[-1]
        at = np.arange(count)
        found[..., at + max(0, -offset), at + max(0, offset)] = both[1]
        del rows, columns
        return found

    return assembled([value, diagonal], set_, call)


@entry("MatrixBandPart")
def _band_part(call: Call, value: Any, lower: Any, upper: Any) -> Any:
    (low,), (high,) = ints(call, lower), ints(call, upper)
    rows, columns = shape_of(value)[-2:]
    below = np.arange(rows)[:, None] - np.arange(columns)[None, :]
    kept = ((low < 0) | (below <= low)) & ((high < 0) | (-below <= high))
    if isinstance(value, Variable):
        places = structure.positions(value.shape)
        return structure.moved(value, np.where(kept, places, -1))
    return moved(value, lambda array: np.where(kept, array, np.zeros((), array.dtype)))
