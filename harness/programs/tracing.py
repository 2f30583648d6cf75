"""Programs of TensorFlow functions: their traced graphs, calls inlined.

The derivative of the forward function is the truth, so a custom gradient's wrapper is the
identity; `StopGradient` is kept. Variables and captured tensors are constants of their values at
the time of tracing. Checks are dropped: what they would refuse, TensorFlow refuses when it runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.program import (
    REAL_DTYPES,
    Input,
    Operation,
    Program,
    ProgramError,
    TensorType,
)
from lossfuzz.harness.programs.pruning import pruned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_BRANCHES = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"})
_SAME = frozenset(
    {
        *("Identity", "IdentityN", "Snapshot", "EnsureShape", "CheckNumerics", "DebugIdentityV2"),
        *("PlaceholderWithDefault", "CheckNumericsV2", "OptimizationBarrier"),
    }
)
"""Whose results are their first operands; `IdentityN` wraps what has a custom gradient."""

_DROPPED = frozenset({"NoOp", "Assert", "PrintV2", "Print", "StringFormat"})
_READS = frozenset({"ReadVariableOp", "ResourceGather"})


def traced(function: Callable[..., Any], inputs: Sequence[Any], *, name: str = "") -> Program:
    """The program of a TensorFlow function of tensors that returns one tensor.

    Args:
        function: called with as many tensors as there are inputs.
        inputs: a `tf.TensorSpec` each, or ``(shape, dtype)``; a length may be None.
        name: for messages; by default the function's own.

    Raises:
        ProgramError: an operation has no entry in the table, or there is not one result.
    """
    import tensorflow as tf

    spelled = name or getattr(function, "__name__", type(function).__name__)
    specs = [
        one if isinstance(one, tf.TypeSpec) else tf.TensorSpec(one[0], one[1], f"input_{place}")
        for place, one in enumerate(inputs)
    ]
    concrete = tf.function(function, autograph=True).get_concrete_function(*specs)
    graph = concrete.graph
    if len(graph.outputs) != 1:
        raise ProgramError(f"{spelled} returns {len(graph.outputs)} tensors, expected one")
    walk = _Walk(spelled)
    captured = dict(
        zip((id(inner) for _, inner in graph.captures), concrete.captured_inputs, strict=True)
    )
    own = [one for one in graph.inputs if id(one) not in captured]
    for place, tensor in enumerate(own):
        walk.add_input(getattr(specs[place], "name", None) or tensor.op.name, tensor)
    for inner in graph.inputs:
        if id(inner) in captured:
            walk.capture(inner, captured[id(inner)])
    walk.graph(graph)
    program = walk.program([walk.value(tensor) for tensor in graph.outputs])
    _refuse_unknown(program)
    return program


class _Walk:
    """The operations of a graph, in the making.

    Attributes:
        name: of the program.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: list[Input] = []
        self._operations: list[Operation] = []
        self._constants: dict[int, NDArray[Any]] = {}
        self._values: dict[tuple[int, str], int] = {}
        self._resources: dict[tuple[int, str], Any] = {}
        self._count = 0
        self._kept: list[Any] = []  # graphs: an id stays unique while its object lives

    def _new(self) -> int:
        self._count += 1
        return self._count - 1

    @staticmethod
    def _key(tensor: Any) -> tuple[int, str]:
        return id(tensor.graph), tensor.name

    def value(self, tensor: Any) -> int:
        return self._values[self._key(tensor)]

    def program(self, outputs: list[int]) -> Program:
        return pruned(
            Program(
                name=self.name,
                inputs=tuple(self._inputs),
                operations=tuple(self._operations),
                constants=self._constants,
                outputs=tuple(outputs),
            )
        )

    def add_input(self, name: str, tensor: Any) -> None:
        value = self._new()
        self._values[self._key(tensor)] = value
        self._inputs.append(Input(name=name, value=value, type=_type_of(tensor)))

    def capture(self, inner: Any, outer: Any) -> None:
        if inner.dtype.name == "resource":
            self._resources[self._key(inner)] = outer
        else:
            self._constant(inner, outer.numpy())

    def _constant(self, tensor: Any, array: Any) -> None:
        value = self._new()
        self._values[self._key(tensor)] = value
        real = tensor.dtype.name in REAL_DTYPES
        self._constants[value] = (
            np.asarray(array).astype(np.float64) if real else np.asarray(array)
        )

    def graph(self, graph: Any) -> None:
        self._kept.append(graph)
        for op in graph.get_operations():
            self._operation(op)

    def _operation(self, op: Any) -> None:
        if op.type in _DROPPED or op.type == "Placeholder":
            return
        if op.type == "Const":
            if op.outputs[0].dtype.name != "string":
                self._constant(op.outputs[0], _array(op.get_attr("value")))
        elif op.type in _SAME:
            for outer, inner in zip(op.outputs, op.inputs, strict=False):
                self._alias(outer, inner)
        elif op.type in _READS:
            self._read(op)
        elif op.type in _CALLS:
            self._call(op, op.get_attr("f").name)
        elif _is_function(op):
            self._call(op, op.type)
        else:
            self._keep(op)

    def _alias(self, outer: Any, inner: Any) -> None:
        known = self._resources if inner.dtype.name == "resource" else self._values
        if self._key(inner) in known:
            known[self._key(outer)] = known[self._key(inner)]

    def _read(self, op: Any) -> None:
        import tensorflow as tf

        handle = self._resources[self._key(op.inputs[0])]
        dtype = op.outputs[0].dtype
        array = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype).numpy()
        if op.type == "ReadVariableOp":
            self._constant(op.outputs[0], array)
            return
        stored = self._new()
        real = dtype.name in REAL_DTYPES
        self._constants[stored] = array.astype(np.float64) if real else array
        axis = self._new()
        self._constants[axis] = np.asarray(0)
        self._add(op, "GatherV2", (stored, self.value(op.inputs[1]), axis), {})

    def _call(self, op: Any, name: str) -> None:
        inner = _function_graph(op, name)
        for place, given in zip(inner.inputs, op.inputs, strict=True):
            self._alias(place, given)
        self.graph(inner)
        for outer, result in zip(op.outputs, inner.outputs, strict=True):
            self._alias(outer, result)

    def _keep(self, op: Any) -> None:
        inputs = list(op.inputs)
        attributes: dict[str, Any] = {}
        if op.type in _BRANCHES:
            first = 1 if "If" in op.type or "Case" in op.type else 0
            attributes = self._branches(op, inputs[first:])
        else:
            attributes = {
                name: _plain(op.get_attr(name))
                for name in op.node_def.attr
                if not name.startswith("_")
            }
        missing = [one for one in inputs if self._key(one) not in self._values]
        if any(one.dtype.name not in {"resource", "string"} for one in missing):
            raise ProgramError(f"{self.name}: {op.type} {op.name} takes what is not known")
        known = tuple(self.value(one) for one in inputs if self._key(one) in self._values)
        self._add(op, op.type, known, attributes)

    def _add(
        self, op: Any, kind: str, inputs: tuple[int, ...], attributes: dict[str, Any]
    ) -> None:
        results = tuple(self._new() for _ in op.outputs)
        for tensor, value in zip(op.outputs, results, strict=True):
            self._values[self._key(tensor)] = value
        self._operations.append(
            Operation(
                kind=kind,
                inputs=inputs,
                results=results,
                outputs=tuple(_type_of(tensor) for tensor in op.outputs),
                attributes=attributes,
                source=_source(op),
            )
        )

    def _branches(self, op: Any, given: list[Any]) -> dict[str, Any]:
        """Branches and bodies as programs of what the operation is given."""
        found: dict[str, Any] = {}
        for attribute in ("then_branch", "else_branch", "cond", "body"):
            if attribute in op.node_def.attr:
                name = op.get_attr(attribute).name
                found[attribute] = self._subprogram(_function_graph(op, name), given)
        if "branches" in op.node_def.attr:
            for place, branch in enumerate(op.get_attr("branches")):
                found[f"branch_{place}"] = self._subprogram(
                    _function_graph(op, branch.name), given
                )
        return found

    def _subprogram(self, graph: Any, given: list[Any]) -> Program:
        walk = _Walk(self.name)
        for place, outer in zip(graph.inputs, given, strict=True):
            if outer.dtype.name == "resource":
                if self._key(outer) in self._resources:
                    walk._resources[self._key(place)] = self._resources[self._key(outer)]
            elif self._key(outer) in self._values:
                walk.add_input(place.op.name, place)
        walk.graph(graph)
        return walk.program(
            [walk.value(one) for one in graph.outputs if walk._key(one) in walk._values]
        )


def _is_function(op: Any) -> bool:
    """Whether an operation is a call of a function by its name, as older code makes them."""
    return op.graph._get_function(op.type) is not None  # noqa: SLF001 - there is no public way


def _function_graph(op: Any, name: str) -> Any:
    found = op.graph._get_function(name)  # noqa: SLF001 - there is no public way
    if hasattr(found, "graph"):
        return found.graph
    from tensorflow.python.framework.function_def_to_graph import (
        function_def_to_graph,
    )

    with op.graph.as_default():  # an older kind of function, which has no graph of its own
        return function_def_to_graph(found.definition)


def _type_of(tensor: Any) -> TensorType:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return TensorType(shape=shape, dtype=tensor.dtype.base_dtype.name)


def _array(proto: Any) -> NDArray[Any]:
    import tensorflow as tf

    return np.asarray(tf.make_ndarray(proto))


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one for each of TensorFlow's kinds
    """An attribute as a plain Python or NumPy value."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list | tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, int | float | str | bool) or value is None:
        return value
    if hasattr(value, "as_numpy_dtype"):
        return value.base_dtype.name
    if type(value).__name__ == "TensorShapeProto":
        return None if value.unknown_rank else tuple(one.size for one in value.dim)
    if type(value).__name__ == "TensorProto":
        return _array(value)
    return str(value)


def _folders() -> list[str]:
    """Where frames are not the user's."""
    known = [sys.modules.get(name) for name in ("tensorflow", "keras", "tf_keras")]
    files = [one.__file__ for one in known if one is not None and one.__file__]
    return [str(Path(file).parent) + os.sep for file in (*files, __file__)] + ["<"]


def _source(op: Any) -> str:
    ours = tuple(_folders())
    for frame in reversed(op.traceback or []):
        if not frame.filename.startswith(ours) and "__autograph_generated" not in frame.filename:
            return f"{frame.filename}:{frame.lineno}"
    return str(op.name)


def _refuse_unknown(program: Program) -> None:
    from lossfuzz.harness.programs.operations import is_known

    for operation in program.operations:
        if not is_known(operation.kind):
            what = "is random" if "Random" in operation.kind else "has no entry in the table"
            raise ProgramError(
                f"{program.name}: operation {operation.kind} {what} ({operation.source})"
            )
        for value in operation.attributes.values():
            if isinstance(value, Program):
                _refuse_unknown(value)
