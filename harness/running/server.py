"""The far side of a subject: runs loss paths in whatever interpreter it is started by.

This file stands alone, so that an old TensorFlow can be measured without installing lossfuzz
beside it: it runs on Python 3.8 and TensorFlow 2.4 or newer and needs nothing but these. It reads
one JSON request a line and answers each in one line of JSON; arrays lie in shared memory. When
its standard input ends, so does it, even from the midst of a computation.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import json
import math
import mmap
import os
import platform
import queue
import re
import signal
import sys
import threading
import time
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PROTOCOL = 1
"""Raised with every change to the requests and answers."""

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
    "KERAS_BACKEND": "tensorflow",
}
_FIRST_WITH_JIT_COMPILE = (2, 5)
_FIRST_WITHOUT_OWN_KERAS = (2, 16)
_CPU_FEATURES = re.compile(r"avx\w*|fma|f16c|amx_\w+|asimd\w*|sve\w*|bf16")
_ALIGNMENT = 64
_KEPT_MODELS = 4  # of one cell, by shape; each holds its table twice and its compiled functions
_LOSS_SCALES = (2.0**15, 1.0)  # where loss scaling starts by default, and where it may end


class UnavailableError(RuntimeError):
    """This interpreter cannot run a cell; the message says why."""


class SharedArrays:
    """Arrays in a file that two processes have mapped; whoever needs more room makes it.

    What is read is copied: TensorFlow keeps arrays that it was given, and the other side soon
    writes the next ones.
    """

    def __init__(self, descriptor: int, dtype_named: Callable[[str], Any]) -> None:
        """Share a file.

        Args:
            descriptor: of the file, open for reading and writing.
            dtype_named: from TensorFlow's name of a dtype to NumPy's dtype.
        """
        self._descriptor = descriptor
        self._dtype_named = dtype_named
        self._mapped: Any = b""

    def put(self, *arrays: Any) -> list[dict[str, Any]]:
        """Store arrays in place of those before; returns where they lie."""
        import numpy as np

        places: list[dict[str, Any]] = []
        end = 0
        for array in arrays:
            places.append({"dtype": array.dtype.name, "shape": array.shape, "offset": end})
            end += array.nbytes + -array.nbytes % _ALIGNMENT
        self._reach(end)
        for array, place in zip(arrays, places):  # noqa: B905 - strict is of Python 3.10
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self._bytes(place["offset"], flat.size)[:] = flat
        return places

    def get(self, place: dict[str, Any]) -> Any:
        """A copy of the array at a place."""
        import numpy as np

        dtype, shape = np.dtype(self._dtype_named(place["dtype"])), tuple(place["shape"])
        size = math.prod(shape) * dtype.itemsize
        self._reach(place["offset"] + size)
        return self._bytes(place["offset"], size).copy().view(dtype).reshape(shape)

    def _bytes(self, offset: int, size: int) -> Any:
        import numpy as np

        return np.frombuffer(self._mapped, np.uint8, size, offset)

    def _reach(self, end: int) -> None:
        """Have more than so many bytes mapped."""
        if len(self._mapped) > end:
            return
        there = os.fstat(self._descriptor).st_size
        if there <= end:
            there = max(mmap.PAGESIZE, 1 << end.bit_length())
            os.ftruncate(self._descriptor, there)
        self._mapped = mmap.mmap(self._descriptor, there)


class Recording:
    """Executed operations in order, each a name, inputs and outputs.

    They hold their tensors, which are known by identity.
    """

    def __init__(self) -> None:
        self.operations: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Record what is executed, or traced, meanwhile."""
        from tensorflow.python.framework import op_callbacks

        op_callbacks.add_op_callback(self._note)
        try:
            yield
        finally:
            op_callbacks.remove_op_callback(self._note)

    def _note(
        self, op_type: Any, inputs: Any, attrs: Any, outputs: Any, *_: Any, **__: Any
    ) -> None:
        del attrs
        name = op_type.decode() if isinstance(op_type, bytes) else str(op_type)
        self.operations.append((name, tuple(inputs), tuple(outputs)))

    def between(self, logits: Any, loss: Any) -> list[str]:
        """The operations on a way from the logits to the loss, in order of execution."""
        needed = {id(loss)}
        leading = []
        for operation in reversed(self.operations):
            if any(id(output) in needed for output in operation[2]):
                needed.update(id(tensor) for tensor in operation[1])
                leading.append(operation)
        reached = {id(logits)}
        passed = []
        for name, inputs, outputs in reversed(leading):
            if any(id(tensor) in reached for tensor in inputs):
                reached.update(id(output) for output in outputs)
                passed.append(name)
        return passed

    def executed(self) -> list[tuple[str, bool]]:
        """All operations, each with whether Keras noted at its result what it was made from."""
        return [
            (name, any(hasattr(output, "_keras_logits") for output in outputs))
            for name, _, outputs in self.operations
        ]


def release() -> tuple[int, int]:
    """The first two numbers of TensorFlow's version."""
    import tensorflow as tf

    major, minor = tf.__version__.split(".")[:2]
    return int(major), int(minor)


def package_named(api: str) -> Any:
    """The package that a path needs.

    Raises:
        UnavailableError: it is not here, or another one goes by its name.
    """
    try:
        package = importlib.import_module(api)
    except ImportError as error:
        if api == "tf_keras" and release() < _FIRST_WITHOUT_OWN_KERAS:
            import tensorflow as tf

            sys.modules[api] = tf.keras  # the same Keras before it moved; scripts import it
            return tf.keras
        needed = "Keras 3" if api == "keras" else api
        raise UnavailableError(f"needs {needed}, this interpreter has none ({error})") from None
    version = getattr(package, "__version__", "none")
    if api == "keras" and not version.split(".")[0].isdigit():
        raise UnavailableError("needs Keras 3, this interpreter's keras tells no version")
    if api == "keras" and int(version.split(".")[0]) < 3:
        raise UnavailableError(f"needs Keras 3, this interpreter has {version}")
    return package


def compiled(step: Callable[..., Any], mode: str) -> Any:
    """A function of tensors, in a mode."""
    import tensorflow as tf

    if mode == "eager":
        return step
    known = release() >= _FIRST_WITH_JIT_COMPILE
    options = {"jit_compile" if known else "experimental_compile": True if mode == "xla" else None}
    return tf.function(step, autograph=False, **options)


def one_line(error: Exception) -> str:
    """What a path raised, short enough for a table."""
    message = (str(error).strip() or "no message").splitlines()[0]
    kind = "" if isinstance(error, UnavailableError) else f"{type(error).__name__}: "
    return f"{kind}{message}"[:300]


class Call:
    """A path that is a function of tensors, ready to run as the cell of a request asks for it.

    Attributes:
        step: ``(logits, labels) -> (losses, gradient)`` on tensors, in the cell's mode.
    """

    def __init__(
        self,
        cell: dict[str, Any],
        loss: Callable[[Any, Any], Any],
        upstream: Sequence[float] = (),
    ) -> None:
        """Make a path ready.

        Args:
            cell: its ``device`` and ``mode``.
            loss: ``(logits, labels) -> losses`` on tensors.
            upstream: the gradients that come from above the losses, one for each; empty for 1.
        """
        self._cell, self._loss, self._upstream = cell, loss, upstream
        self.step = compiled(self._training_step, cell["mode"])

    def _training_step(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.device(self._cell["device"]):  # again inside: a traced body does not inherit it
            with tf.GradientTape() as tape:
                tape.watch(logits)
                loss = self._loss(logits, labels)
            above = None
            if self._upstream:
                above = tf.reshape(tf.constant(self._upstream, loss.dtype), tf.shape(loss))
            gradient = tape.gradient(loss, logits, output_gradients=above)
        if gradient is None:
            raise UnavailableError(
                "the loss has no gradient with respect to the logits (does it round, take an "
                "argmax, leave TensorFlow, or stop its own gradient?)"
            )
        return loss, tf.convert_to_tensor(gradient)  # of a gather they come as slices

    def trace(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        """Compute or trace the loss once; returns the tensors that its route runs between."""
        ends: list[tuple[Any, Any]] = []

        def forward(logits: Any, labels: Any) -> Any:
            ends.append((logits, self._loss(logits, labels)))
            return ends[-1][1]

        if self._cell["mode"] == "eager":
            forward(logits, labels)
        else:
            compiled(forward, self._cell["mode"]).get_concrete_function(logits, labels)
        return ends[0]


class Expression(Call):
    """A path that is an expression of ``logits``, ``labels``, ``tf`` and its package."""

    def __init__(self, cell: dict[str, Any]) -> None:
        import tensorflow as tf

        code = compile(cell["source"], "<{}>".format(cell["path"]), "eval")
        names = {"tf": tf, cell["api"]: package_named(cell["api"])}

        def loss(logits: Any, labels: Any) -> Any:
            here = dict(names, logits=logits, labels=labels)
            return eval(code, here)  # noqa: S307 - what the client was told to run

        Call.__init__(self, cell, loss)


class Script:
    """A path that is a script, which makes a model and trains it in its last statement.

    The model is made once for every shape, and starts afresh in every step.
    """

    def __init__(self, cell: dict[str, Any]) -> None:
        self._cell = cell
        self._package = package_named(cell["api"])
        if not hasattr(self._package.optimizers.SGD, "update_step"):
            raise UnavailableError(
                "the model needs optimizers with update_step, this interpreter has Keras "
                + getattr(self._package, "__version__", "without them")
            )
        *making, training = ast.parse(cell["source"]).body
        self._making, self._training = (
            compile(ast.Module(body, []), "<{}>".format(cell["path"]), "exec")
            for body in (making, [training])
        )
        self._models: dict[tuple[int, ...], dict[str, Any]] = {}

    def step(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        """The reported loss, and the gradient that the optimizer received."""
        import tensorflow as tf

        rows, targets = _as_rows(logits, labels)
        shape = tuple(rows.shape)
        with self._policy():
            if shape not in self._models:
                if len(self._models) == _KEPT_MODELS:
                    del self._models[next(iter(self._models))]
                self._models[shape] = self._made(rows, targets)
            names = self._models[shape]
            self._train(names, rows, targets)
            return tf.constant(names["loss"]), tf.reshape(names["gradient"], logits.shape)

    def trace(self, logits: Any, labels: Any) -> tuple[Any, Any]:
        """Train a fresh model once; returns the tensors that the route runs between."""
        rows, targets = _as_rows(logits, labels)
        noted: tuple[list[Any], list[Any]] = ([], [])
        with self._policy():
            names = self._made(rows, targets)
            names["embedding"].call = noting(names["embedding"].call, noted[0])
            names["model"].compute_loss = noting(names["model"].compute_loss, noted[1])
            self._train(names, rows, targets)
        return noted[0][-1], noted[1][-1]  # those before are of Keras's own dry runs

    @contextlib.contextmanager
    def _policy(self) -> Iterator[None]:
        """Undo the dtype policy that the script sets for the whole interpreter."""
        before = self._package.mixed_precision.global_policy()
        try:
            yield
        finally:
            self._package.mixed_precision.set_global_policy(before)

    def _made(self, rows: Any, targets: Any) -> dict[str, Any]:
        import tensorflow as tf

        names = {"logits": rows, "labels": targets, "mode": self._cell["mode"]}
        exec(self._making, names)  # noqa: S102 - what the client was told to run
        model: Any = names["model"]
        device, train_step = self._cell["device"], model.train_step

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        @wraps(train_step)
        def placed(data: Any) -> Any:
            with tf.device(device):  # a traced body does not inherit it
                return train_step(data)

        model.train_step = placed
        model.optimizer.build(model.trainable_variables)
        return names

    def _train(self, names: dict[str, Any], rows: Any, targets: Any) -> None:
        """Train on one batch; again at the lowest loss scale if the optimizer skipped it."""
        import tensorflow as tf

        dtype = rows.dtype
        policy = "float32" if dtype == tf.float32 else "mixed_" + dtype.name
        self._package.mixed_precision.set_global_policy(policy)
        names.update(logits=rows, labels=targets)
        names["embedding"].embeddings.assign(tf.cast(rows, tf.float32))
        names["gradient"].assign(tf.fill(rows.shape, math.nan))
        for scale in _LOSS_SCALES:
            scaled = restart_loss_scale(names["model"].optimizer, scale)
            names["model"].reset_metrics()
            exec(self._training, names)  # noqa: S102 - what the client was told to run
            names["loss"] = float(names["loss"])
            if not (scaled and bool(tf.reduce_all(tf.math.is_nan(names["gradient"])))):
                break


def restart_loss_scale(optimizer: Any, scale: float) -> bool:
    """Forget what earlier batches did to a dynamic loss scale; returns whether there is one."""
    if hasattr(optimizer, "dynamic_scale"):
        optimizer.dynamic_scale.assign(scale)
        optimizer.step_counter.assign(0)
        return True
    if hasattr(optimizer, "dynamic_counter"):  # tf_keras gives out the scale as a copy only
        optimizer._loss_scale.current_loss_scale.assign(scale)  # noqa: SLF001
        optimizer.dynamic_counter.assign(0)
        return True
    return False


def noting(function: Callable[..., Any], results: list[Any]) -> Callable[..., Any]:
    """A function, whose results are also put into a list."""
    import tensorflow as tf

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        results.append(function(*args, **kwargs))
        return results[-1]

    return noted  # type: ignore[no-any-return]


def _as_rows(logits: Any, targets: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    shape = (-1, logits.shape[-1])
    dense = targets.shape == logits.shape
    return tf.reshape(logits, shape), tf.reshape(targets, shape[: 1 + dense])


class Server:
    """Answers requests; keeps what it made for a cell, so that it is traced once per shape."""

    def __init__(self, arrays: SharedArrays) -> None:
        self._arrays = arrays
        self._paths: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if request["do"] == "hello":
            return hello()
        inputs = [self._arrays.get(place) for place in request["inputs"]]
        try:
            return {"run": self._run, "route": self._route}[request["do"]](request["cell"], inputs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the path's answer
            return {"refused": one_line(error)}

    def _path(self, cell: dict[str, Any]) -> Any:
        key = json.dumps(cell, sort_keys=True)
        if key not in self._paths:
            self._paths[key] = (Script if cell["script"] else Expression)(cell)
        return self._paths[key]

    def _run(self, cell: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
        import tensorflow as tf

        step = self._path(cell).step
        start = time.perf_counter()
        with tf.device(cell["device"]):
            results = tf.nest.flatten(step(*map(tf.constant, inputs)))
            loss, gradient = (result.numpy() for result in results)
        seconds = time.perf_counter() - start
        return {"outputs": self._arrays.put(loss, gradient), "seconds": seconds}

    def _route(self, cell: dict[str, Any], inputs: list[Any]) -> dict[str, Any]:
        import tensorflow as tf

        recording = Recording()
        path = self._path(cell)
        with recording.running(), tf.device(cell["device"]):
            ends = path.trace(*map(tf.constant, inputs))
        return {"operations": recording.between(*ends), "executed": recording.executed()}


def hello() -> dict[str, Any]:
    """Start TensorFlow as it is measured, with one thread per pool; returns what is here."""
    answer = {"protocol": PROTOCOL, "versions": {"python": platform.python_version()}}
    os.environ.update(_SETTINGS)
    try:
        import tensorflow as tf
    except ImportError as error:
        return dict(answer, missing=one_line(error))
    tf.get_logger().setLevel("ERROR")  # retracing is what measuring many cells does
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    devices = [
        ":".join(device.name.split(":")[-2:])
        for kind in ("CPU", "GPU")
        for device in tf.config.list_logical_devices(kind)
    ]
    return dict(
        answer, versions=_versions(tf.__version__), devices=devices, cpu_features=cpu_features()
    )


def _versions(tensorflow: str) -> dict[str, str]:
    found = {"python": platform.python_version(), "tensorflow": tensorflow}
    for name in ("keras", "tf_keras", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    if release() < _FIRST_WITHOUT_OWN_KERAS:  # later, the mere look would import Keras
        import tensorflow as tf

        found["tf.keras"] = getattr(tf.keras, "__version__", found.get("keras", "unknown"))
    return found


def cpu_features() -> list[str]:
    """What arithmetic can depend on; nothing where the system does not list it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as listing:  # noqa: PTH123
        for line in listing:
            if line.startswith(("flags", "Features")):
                return sorted(filter(_CPU_FEATURES.fullmatch, line.split()))
    return []


def _listen(lines: Any, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in lines:
        requests.put(json.loads(line))
    os._exit(0)  # the client is gone, and a path may hang


def _dtype_named(name: str) -> Any:
    import tensorflow as tf

    return tf.as_dtype(name).as_numpy_dtype


def main() -> None:
    """Serve the client that started this process, until it closes standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client decides when to stop
    del sys.path[0]  # this folder, which is no place to import from
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what paths print goes where it cannot be taken for an answer
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines, requests), daemon=True).start()
    server = Server(SharedArrays(int(sys.argv[1]), _dtype_named))
    while True:
        answers.write(json.dumps(server.answer(requests.get())) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
