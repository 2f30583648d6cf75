"""A user's own loss as a path: any callable of TensorFlow, ``loss(logits, labels)``.

Its name is ``package.module:function as the-loss``, from which any process finds it again. What
no other process could import, such as a function inside a test, is known in this process alone.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.backend import load_quietly
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.paths.path import LossPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.formats import FloatFormat
    from lossfuzz.harness.losses.spec import LossSpec

    Loss = Callable[..., Any]

_AS = " as "
_TARGETS_FIRST = frozenset({"y_true", "labels", "label", "targets", "target"})
_LOGITS_SECOND = frozenset({"y_pred", "logits", "predictions", "output"})

_KNOWN: dict[str, LossPath] = {}
"""Paths of this process, by name."""


class LossError(TypeError):
    """A user's loss returned what no loss of these logits can be; the message is one line."""


def own_path(loss: Loss, against: LossSpec, *, name: str | None = None) -> LossPath:
    """The path of a user's loss.

    Args:
        loss: ``(logits, labels) -> losses`` on tensors: logits ``[..., classes]``, labels as
            `targets.KINDS` describes the target of the mathematics; losses ``[...]``, or a scalar
            of a reduced loss. Parameters named ``y_true, y_pred`` or ``labels, logits``, in that
            order, are given in that order; so are those of a Keras loss object.
        against: the mathematics that it is to compute.
        name: ``package.module:function``, where it is known.

    Raises:
        TypeError: it cannot be called, or not with two arguments.
    """
    if not callable(loss):
        raise TypeError(
            f"expected a loss that can be called with (logits, labels), got {loss!r} of type "
            f"{type(loss).__name__}"
        )
    swapped = _takes_targets_first(loss)
    written = name or _written_name(loss)
    path = LossPath(
        name=f"{written}{_AS}{against.name}",
        loss=against,
        api="tensorflow",
        call=_call(loss, against, written, swapped=swapped),
        source=_source(written, swapped=swapped),
        documented=against,
        own=True,
        function=loss,
    )
    _KNOWN[path.name] = path
    return path


def leave_unquoted(path: LossPath) -> None:
    """Tell this loss's source in no script of this process: it gives other values there."""
    _KNOWN[path.name] = replace(path, quotable=False)


def own_path_named(name: str) -> LossPath | None:
    """The path of a name that `own_path` gave, here or in another process; else None.

    Raises:
        ValueError: the name is one, but its function or its loss cannot be had.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    written, separator, against = name.partition(_AS)
    if not separator or ":" not in written:
        return None
    return own_path(imported(written), loss_named(against), name=written)


def imported(name: str) -> Loss:
    """The callable that ``package.module:function`` names.

    Raises:
        ValueError: there is none; the message says what is missing.
    """
    module, separator, attributes = name.partition(":")
    if not separator or not module or not attributes:
        raise ValueError(f"expected package.module:function, got {name!r}")
    load_quietly()  # most such modules import TensorFlow, whose logs are in the way
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises when imported
        raise ValueError(
            f"cannot import {name!r}: {type(error).__name__}: {error} (is its folder on "
            "PYTHONPATH?)"
        ) from None
    if not callable(found):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong, not its type
            f"{name!r} is a {type(found).__name__}, expected a callable"
        )
    loss: Loss = found
    return loss


def is_importable(name: str) -> bool:
    """Whether another process would find a path of this name."""
    module, _, attributes = name.partition(_AS)[0].partition(":")
    return bool(module) and module != "__main__" and "<" not in attributes


def _written_name(loss: Loss) -> str:
    """``module:qualified.name`` of a function, of a Keras object that of its class."""
    module = getattr(loss, "__module__", None) or type(loss).__module__
    qualified = getattr(loss, "__qualname__", None)
    if qualified is None:
        qualified = f"<{type(loss).__qualname__} object>"
    elif "<" not in qualified and _found(module, qualified) is not loss:
        qualified = f"<{qualified}>"  # the name leads to something else
    return f"{module}:{qualified}"


def _found(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module)
    for attribute in qualified.split("."):
        found = getattr(found, attribute, None)
    return found


def _source(written: str, *, swapped: bool) -> str:
    module, _, attributes = written.partition(":")
    arguments = "labels, logits" if swapped else "logits, labels"
    if is_importable(written):
        return f"{module}.{attributes}({arguments})"
    called = attributes.rpartition(".")[2].strip("<>").partition(" ")[0]
    return f"{called if called.isidentifier() else 'loss'}({arguments})"


def _takes_targets_first(loss: Loss) -> bool:
    """Whether a loss is called ``(labels, logits)``, as its own parameters' names say.

    Raises:
        TypeError: it cannot be called with two arguments.
    """
    if any(base.__module__.startswith(("keras.", "tf_keras.")) for base in type(loss).__mro__):
        return True
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):
        return False
    try:
        signature.bind(None, None)
    except TypeError as error:
        name = getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(
            f"expected a loss that can be called with (logits, labels); {name}{signature} "
            f"cannot: {error}"
        ) from None
    names = [parameter.lower() for parameter in signature.parameters][:2]
    return len(names) == 2 and names[0] in _TARGETS_FIRST and names[1] in _LOGITS_SECOND


def _call(
    loss: Loss, against: LossSpec, written: str, *, swapped: bool
) -> Callable[[Any, Any, FloatFormat], Any]:
    converted: list[Loss] = []

    def call(logits: Any, labels: Any, _: FloatFormat) -> Any:
        import tensorflow as tf

        arguments = (labels, logits) if swapped else (logits, labels)
        try:
            try:
                losses = (converted[0] if converted else loss)(*arguments)
            except tf.errors.OperatorNotAllowedInGraphError:
                # tensors decide in an `if` or a loop: what tf.function would convert by itself
                converted[:] = [tf.autograph.to_graph(loss)]
                losses = converted[0](*arguments)
        except Exception as error:
            message = (str(error).strip() or "no message").splitlines()[0]
            raise LossError(
                f"{written} raised {type(error).__name__}{_place(error, loss)}: {message}"
            ) from error
        return _checked(tf, losses, logits, against, written)

    return call


def _place(error: Exception, loss: Loss) -> str:
    """The last line of the loss's own file that an error came through."""
    code: Any = getattr(loss, "__code__", None)
    if code is None:
        return ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == code.co_filename
    ]
    return f" ({Path(code.co_filename).name}, line {lines[-1]})" if lines else ""


def _checked(tf: Any, losses: Any, logits: Any, against: LossSpec, written: str) -> Any:
    """What a loss returned, if it has the shape and the kind of dtype that a loss has.

    Raises:
        LossError: it has not.
    """
    wanted = () if against.reduction else tuple(logits.shape[:-1])
    expected = f"expected losses of shape {list(wanted)} for logits {list(logits.shape)}"
    if not tf.is_tensor(losses):
        raise LossError(
            f"{written} returned {'None' if losses is None else f'a {type(losses).__name__}'}; "
            f"{expected} as a tensor"
        )
    if not losses.dtype.is_floating:
        raise LossError(
            f"{written} returned dtype {losses.dtype.name}; expected a floating one, such as the "
            "logits' own"
        )
    if losses.shape.rank is not None and tuple(losses.shape) != wanted:
        raise LossError(
            f"{written} returned shape {list(losses.shape)}; {expected}"
            + _advice(tuple(losses.shape), wanted, tuple(logits.shape))
        )
    return losses


def _advice(
    got: tuple[int | None, ...], wanted: tuple[int | None, ...], logits: tuple[int | None, ...]
) -> str:
    if not got:
        return " (of a mean or a sum over the batch say so: reduction='mean' or --reduction mean)"
    if wanted and got == (*wanted, 1):
        return " (drop the last axis: keepdims=True leaves one)"
    if got == logits:
        return " (one loss for each class: sum or average over the last axis)"
    return ""
