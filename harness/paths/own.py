"""A user's own loss as a path: any callable of TensorFlow, ``loss(logits, labels)``.

Its name is ``package.module:function as the-loss``, from which any process finds it again. What
no other process could import, such as a function inside a test, is known in this process alone.
"""

from __future__ import annotations

import keyword
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.paths.own_call import LossError, checked_call
from lossfuzz.harness.paths.path import AS, LossPath
from lossfuzz.harness.paths.signature import signature_of
from lossfuzz.harness.records.printable import printable
from lossfuzz.harness.users.importing import imported
from lossfuzz.harness.users.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec

    Loss = Callable[..., Any]

__all__ = ["LossError", "imported", "is_importable", "loss_of", "own_path", "own_path_named"]

_KNOWN: Names[LossPath] = Names()
"""Paths of this process, by name."""


def own_path(
    loss: Loss,
    against: LossSpec,
    *,
    name: str | None = None,
    bounds: tuple[float, float] | None = None,
) -> LossPath:
    """The path of a user's loss.

    Args:
        loss: ``(logits, labels) -> losses`` on tensors: logits ``[..., classes]``, labels as
            `targets.KINDS` describes the target of the mathematics; losses ``[...]``, or a scalar
            of a reduced loss. Parameters named ``y_true, y_pred`` or ``labels, logits``, in that
            order, are given in that order; so are those of a Keras loss object. Where the
            mathematics has no target, a loss of one parameter is given the logits alone; of a
            weighted reduction, a third parameter is given `lossfuzz.sample_weights`.
        against: the mathematics that it is to compute.
        name: ``package.module:function``, where it is known.
        bounds: the interval that it takes its inputs from; None for any.

    Raises:
        TypeError: it cannot be called, or not with two arguments, or is a class.
    """
    if not callable(loss):
        raise TypeError(
            f"expected a loss that can be called with (logits, labels), got {loss!r} of type "
            f"{type(loss).__name__}"
        )
    if isinstance(loss, type):
        raise TypeError(
            f"expected a loss that can be called with (logits, labels), got the class "
            f"{loss.__name__}: make an object of it, such as {loss.__name__}(), and give that"
        )
    written = name or _written_name(loss)
    signature = signature_of(loss, against, written)
    if name is None and "<" in written:
        written = _KNOWN.free(written, loss, against, ending=f"{AS}{against.name}")
    path = LossPath(
        name=f"{written}{AS}{against.name}",
        loss=against,
        api="tensorflow",
        call=checked_call(loss, against, written, signature),
        source=written_call(written, signature.source),
        documented=against,
        own=True,
        function=loss,
        bounds=bounds,
        arguments=signature.source,
    )
    return _KNOWN.add(path.name, path, loss, against)


def loss_of(path: LossPath) -> Loss:
    """The user's loss that a path of `own_path` calls.

    Raises:
        TypeError: the path is none of a user's loss.
    """
    if path.function is None:
        raise TypeError(f"expected the path of a user's loss, got {path.name}")
    return path.function


def leave_unquoted(path: LossPath) -> None:
    """Tell this loss's source in no script of this process: it gives other values there."""
    _KNOWN.add(path.name, replace(path, quotable=False), path.function, path.loss)


def known_path(name: str) -> LossPath | None:
    """The path that `own_path` gave that name in this process, if it did."""
    return _KNOWN.get(name)


def own_path_named(name: str) -> LossPath | None:
    """The path of a name that `own_path` gave, its function imported; None of another name.

    Raises:
        ValueError: the name is one, but its function or its loss cannot be had.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    written, separator, against = name.partition(AS)
    if not separator or ":" not in written:
        return None
    return own_path(loss_imported(written), loss_named(against, load=True), name=written)


def loss_imported(name: str) -> Loss:
    """The callable that ``package.module:function`` names.

    Raises:
        ValueError: there is none; the message says what is missing.
    """
    found = imported(name)
    if not callable(found):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong, not its type
            f"{name!r} is a {type(found).__name__}, expected a callable"
        )
    loss: Loss = found
    return loss


def is_importable(name: str) -> bool:
    """Whether another process would find a path of this name."""
    module, _, attributes = name.partition(AS)[0].partition(":")
    return bool(module) and module != "__main__" and "<" not in attributes


def _written_name(loss: Loss) -> str:
    """``module:qualified.name`` of a function, of a Keras object that of its class."""
    module = str(getattr(loss, "__module__", None) or type(loss).__module__)
    qualified = getattr(loss, "__qualname__", None)
    if not isinstance(qualified, str):
        qualified = f"<{type(loss).__qualname__} object>"
    elif "<" not in qualified and (
        _found(module, qualified) is not loss or not f"{module}{qualified}".isprintable()
    ):
        qualified = f"<{qualified}>"  # the name leads to something else
    return printable(f"{module}:{qualified}")


def _found(module: str, qualified: str) -> Any:
    found: Any = sys.modules.get(module)
    for attribute in qualified.split("."):
        found = getattr(found, attribute, None)
    return found


def written_call(written: str, arguments: str) -> str:
    """The call of a loss as code.

    Args:
        written: ``package.module:function``, or what stands for it.
        arguments: that it is called with, as code.
    """
    module, _, attributes = written.partition(":")
    if is_importable(written):
        return f"{module}.{attributes}({arguments})"
    called = attributes.rpartition(".")[2].strip("<>").partition(" ")[0]
    plain = called.isidentifier() and not keyword.iskeyword(called)
    return f"{called if plain else 'loss'}({arguments})"
