"""Programs without what their results do not need, and with equal operations once.

Two operations of one kind on the same values with the same attributes make the same numbers, so
the second is the first: thereby a difference of equal terms is one of the same value, which is 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.program import Operation, Program

if TYPE_CHECKING:
    from collections.abc import Hashable


def pruned(program: Program) -> Program:
    """The same function with fewer operations."""
    same: dict[int, int] = {}
    seen: dict[Hashable, Operation] = {}
    constants: dict[Hashable, int] = {}
    for value, array in program.constants.items():
        stored = array.dtype.str, array.shape, array.tobytes()
        same[value] = constants.setdefault(stored, value)
    kept = []
    for operation in program.operations:
        inputs = tuple(same.get(value, value) for value in operation.inputs)
        key = _key(operation, inputs)
        first = seen.get(key) if key is not None else None
        if first is not None:
            same.update(zip(operation.results, first.results, strict=True))
            continue
        renamed = replace(operation, inputs=inputs)
        if key is not None:
            seen[key] = renamed
        kept.append(renamed)
    outputs = tuple(same.get(value, value) for value in program.outputs)
    needed = set(outputs)
    live = []
    for operation in reversed(kept):
        if needed.intersection(operation.results):
            needed.update(operation.inputs)
            live.append(operation)
    return replace(
        program,
        operations=tuple(reversed(live)),
        constants={key: value for key, value in program.constants.items() if key in needed},
        outputs=outputs,
    )


def _key(operation: Operation, inputs: tuple[int, ...]) -> Hashable | None:
    """What two operations have in common that make the same; None of one with branches."""
    if any(isinstance(value, Program) for value in operation.attributes.values()):
        return None
    attributes = tuple(
        (name, _hashable(value)) for name, value in sorted(operation.attributes.items())
    )
    return operation.kind, inputs, attributes


def _hashable(value: Any) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(value) if isinstance(value, list) else value
