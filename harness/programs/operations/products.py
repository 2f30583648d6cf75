"""Entries of matrix products."""

from __future__ import annotations

import string
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import structure, sums
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.program import ProgramError

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


def _swapped(value: Variable) -> Variable:
    rank = len(value.shape)
    return structure.transposed(value, (*range(rank - 2), rank - 1, rank - 2))


@entry("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", roundings="n")
def _matmul(call: Call, left: Any, right: Any) -> Any:
    turned = [
        bool(call.attribute(first) or call.attribute(second))
        for first, second in (("transpose_a", "adj_x"), ("transpose_b", "adj_y"))
    ]
    if not call.is_real:
        first, second = call.whole(left), call.whole(right)
        first = np.swapaxes(first, -1, -2) if turned[0] else first
        return first @ (np.swapaxes(second, -1, -2) if turned[1] else second)
    a, b = call.real(left), call.real(right)
    a, b = (_swapped(a) if turned[0] else a), (_swapped(b) if turned[1] else b)
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = structure.broadcast(a, (*batch, *a.shape[-2:]))
    b = structure.broadcast(b, (*batch, *b.shape[-2:]))
    names = string.ascii_lowercase[: len(batch)]
    return sums.contracted(a, b, f"{names}xy,{names}yz->{names}xz")


@entry("Einsum", roundings="n")
def _einsum(call: Call, *operands: Any) -> Variable:
    values = [call.real(one) for one in operands]
    sources, result = str(call.attribute("equation")).replace(" ", "").split("->")
    names = sources.split(",")
    if len(values) > 2:
        raise ProgramError(f"{call.operation}: more than two operands")
    values, names, result = _spelled_out(values, names, result)
    for place, value in enumerate(values):
        values[place], names[place] = _diagonal(value, names[place])
    kept = [
        set(result).union(*[other for at, other in enumerate(names) if at != place])
        for place in range(len(names))
    ]
    for place, value in enumerate(values):
        alone = tuple(at for at, name in enumerate(names[place]) if name not in kept[place])
        if alone:
            summed = sums.total(value, alone)
            shape = [size for at, size in enumerate(summed.shape) if at not in alone]
            values[place] = structure.reshaped(summed, shape)
            names[place] = "".join(one for one in names[place] if one in kept[place])
    if len(values) == 1:
        return structure.transposed(values[0], [names[0].index(one) for one in result])
    return sums.contracted(values[0], values[1], f"{names[0]},{names[1]}->{result}")


def _spelled_out(
    values: list[Variable], names: list[str], result: str
) -> tuple[list[Variable], list[str], str]:
    """An ellipsis as indices of its own, broadcast."""
    if not any("..." in one for one in names):
        return values, names, result
    free = [one for one in string.ascii_letters if all(one not in used for used in names)]
    ranks = [
        len(value.shape) - len(name.replace("...", "")) if "..." in name else 0
        for value, name in zip(values, names, strict=True)
    ]
    widest = max(ranks)
    batch = "".join(free[:widest])
    shapes = []
    for value, name, rank in zip(values, names, ranks, strict=True):
        at = name.find("...")
        shapes.append(value.shape[at : at + rank] if at >= 0 else ())
    common = np.broadcast_shapes(*shapes)
    wide, spelled = [], []
    for value, name, rank in zip(values, names, ranks, strict=True):
        at = name.find("...")
        if at < 0:
            wide.append(value)
            spelled.append(name)
            continue
        shape = (*value.shape[:at], *common[widest - rank :], *value.shape[at + rank :])
        wide.append(structure.broadcast(value, shape))
        spelled.append(name.replace("...", batch[widest - rank :]))
    return wide, spelled, result.replace("...", batch)


def _own_diagonal(array: Any, first: int, second: int) -> Any:
    return np.moveaxis(np.diagonal(array, 0, first, second), -1, first)


def _diagonal(value: Variable, names: str) -> tuple[Variable, str]:
    """Without repeated indices."""
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            first = names.index(name)
            second = names.index(name, first + 1)
            value = structure.rearranged(
                value,
                partial(_own_diagonal, first=first, second=second),
            )
            names = names[:second] + names[second + 1 :]
    return value, names
