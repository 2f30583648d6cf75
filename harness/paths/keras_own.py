"""Keras's own losses of probabilities, given by a user as a loss of logits."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_KERAS = ("keras.", "tf_keras.")
_OPTION = "from_logits"


def wants_probabilities(loss: Callable[..., Any]) -> str:
    """What to do with a loss of Keras's or tf_keras's that was left at ``from_logits=False``.

    Args:
        loss: a function of theirs, a `functools.partial` of one, or an object of a loss class.

    Returns:
        One sentence; empty for any other loss.
    """
    function: Callable[..., Any] = loss
    given: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        given = {**function.keywords, **given}
        function = function.func
    if inspect.isfunction(function) or inspect.isbuiltin(function):
        if not str(getattr(function, "__module__", "")).startswith(_KERAS):
            return ""
        default = inspect.signature(function).parameters.get(_OPTION)
        if default is None or given.get(_OPTION, default.default) is not False:
            return ""
        name = function.__name__
        api = function.__module__.partition(".")[0]
        return (
            f"{api}.losses.{name} is told from_logits=False, so it expects probabilities, and is "
            f"given logits here; pass functools.partial({api}.losses.{name}, from_logits=True), "
            f"or lambda logits, labels: {api}.losses.{name}(labels, {_activation(name)}(logits)) "
            "to check it behind its activation"
        )
    origin = next((one for one in type(loss).__mro__ if one.__module__.startswith(_KERAS)), None)
    if origin is None or _config(loss).get(_OPTION) is not False:
        return ""
    name, api = type(loss).__name__, origin.__module__.partition(".")[0]
    return (
        f"this {api}.losses.{name} is told from_logits=False, so it expects probabilities, and is "
        f"given logits here; make it with from_logits=True, or pass lambda logits, labels: "
        f"loss(labels, {_activation(name)}(logits)) to check it behind its activation"
    )


def _activation(name: str) -> str:
    return "tf.sigmoid" if "binary" in name.lower() else "tf.nn.softmax"


def _config(loss: Any) -> dict[str, Any]:
    """What an object of a loss class says of itself."""
    try:
        config = dict(loss.get_config())
    except Exception:  # noqa: BLE001 - a user's class may lack it, or raise what it wants
        config = {}
    kept = getattr(loss, "_fn_kwargs", None)
    own = {_OPTION: loss.from_logits} if isinstance(getattr(loss, _OPTION, None), bool) else {}
    return {**config, **(kept if isinstance(kept, dict) else {}), **own}
