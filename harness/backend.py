"""TensorFlow itself: its import with the settings that measuring needs, and its devices."""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class BackendError(RuntimeError):
    """TensorFlow cannot be had, or lacks what was asked for."""


def start_tensorflow(*, logical_cpus: int = 1) -> Any:
    """Import TensorFlow with quiet logs, one thread per pool, and so many logical CPU devices.

    One thread makes sums of the same batch come out the same every time.

    Raises:
        BackendError: it is not installed, or already runs with other settings.
    """
    theirs = "tensorflow" in sys.modules and _LOG_LEVEL not in os.environ
    _set_environment()
    if os.environ["KERAS_BACKEND"] != "tensorflow":
        raise BackendError(
            f"KERAS_BACKEND is {os.environ['KERAS_BACKEND']!r}, expected 'tensorflow': unset it"
        )
    if sys.platform == "linux" and not _knows_its_program():
        raise BackendError(
            f"TensorFlow ends every process that cannot read {_PROGRAM}, as this one cannot: "
            "mount /proc where lossfuzz runs"
        )
    try:
        with _silenced_stderr():
            import tensorflow as tf
    except ImportError as error:
        raise BackendError(
            f"TensorFlow cannot be imported ({error}): install it with "
            "pip install 'lossfuzz[tensorflow]', or put tensorflow or tf-nightly beside lossfuzz"
        ) from None
    tf.get_logger().setLevel("ERROR")  # retracing is what measuring many cells does
    atexit.unregister(_remove_generated)
    atexit.register(_remove_generated)
    with _silenced_stderr() if theirs else contextlib.nullcontext():
        _configure(tf, logical_cpus)
        if theirs:
            _warm_up(tf)
    return tf


def _knows_its_program() -> bool:
    """Whether a process can look up what program it runs, as TensorFlow does when it starts."""
    try:
        return bool(os.readlink(_PROGRAM))  # noqa: PTH115 - the link itself, wherever it leads
    except OSError:
        return False


_PROGRAM = "/proc/self/exe"


def _remove_generated() -> None:
    """Remove what AutoGraph has written for this process: it leaves the compiled half behind."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_GENERATED):
            written = (getattr(module, name, None) for name in ("__file__", "__cached__"))
            for file in filter(None, written):
                with contextlib.suppress(OSError):
                    Path(file).unlink(missing_ok=True)
                    if Path(file).parent.name == "__pycache__":
                        Path(file).parent.rmdir()  # only where it is empty


_GENERATED = "__autograph_generated_file"


def load_quietly() -> None:
    """Import TensorFlow, if it is there, before a user's module does and lets its logs through."""
    _set_environment()
    with contextlib.suppress(ImportError), _silenced_stderr():
        import tensorflow as tf  # noqa: F401


def _set_environment() -> None:
    for name, value in (
        (_LOG_LEVEL, _QUIET),
        ("TF_CPU_ALLOCATOR_USE_BFC", "1"),
        ("KERAS_BACKEND", "tensorflow"),
    ):
        os.environ.setdefault(name, value)


_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_QUIET = "3"


def _warm_up(tf: Any) -> None:
    """Have a TensorFlow that somebody else imported write its first logs while nobody hears them.

    Its log level was fixed when it was imported; its devices, XLA and the half formats each tell
    once that they are there.
    """
    tf.config.list_logical_devices()
    with tf.device("CPU:0"):
        half = tf.zeros((2, 2), tf.float16)
        tf.function(lambda x: tf.nn.softmax(x @ x), jit_compile=True)(half)


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Drop what TensorFlow's C++ side writes while it is loaded, before its log level counts.

    A user who has set a log level hears what it lets through.
    """
    if os.environ.get(_LOG_LEVEL, _QUIET) != _QUIET:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _configure(tf: Any, logical_cpus: int) -> None:
    config = tf.config
    wanted = [config.LogicalDeviceConfiguration()] * logical_cpus
    try:
        config.threading.set_intra_op_parallelism_threads(1)
        config.threading.set_inter_op_parallelism_threads(1)
        if logical_cpus > 1:
            config.set_logical_device_configuration(config.list_physical_devices("CPU")[0], wanted)
    except RuntimeError as error:
        if len(config.list_logical_devices("CPU")) < logical_cpus:
            raise BackendError(
                f"TensorFlow already runs in this process and cannot be given {logical_cpus} "
                f"logical CPU devices: {error}"
            ) from None
    for gpu in config.list_physical_devices("GPU"):
        try:
            config.experimental.set_memory_growth(gpu, enable=True)
        except RuntimeError:
            return


def devices(tf: Any) -> list[str]:
    """The CPU and GPU devices that TensorFlow lists, as ``CPU:0``."""
    return [
        ":".join(device.name.split(":")[-2:])
        for kind in ("CPU", "GPU")
        for device in tf.config.list_logical_devices(kind)
    ]


def device_named(tf: Any, name: str) -> str:
    """TensorFlow's device of that name; ``gpu`` alone means the first one.

    Raises:
        BackendError: there is no such device; the message lists those that there are.
    """
    wanted = name.upper() if ":" in name else f"{name.upper()}:0"
    known = devices(tf)
    if wanted not in known:
        raise BackendError(
            f"unknown device {name!r}; TensorFlow lists here: {', '.join(known)}"
            + ("" if not wanted.startswith("GPU") else " (no such GPU is visible to it)")
        )
    return wanted


def versions() -> dict[str, str]:
    """The installed versions of what takes part in a measurement."""
    found = {}
    for name in (
        "lossfuzz",
        "tensorflow",
        "tf-nightly",
        "keras",
        "tf_keras",
        "numpy",
        "ml_dtypes",
        "mpmath",
    ):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
