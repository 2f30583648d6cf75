"""What an object is made of: its attributes, or its configuration."""

from __future__ import annotations

import inspect
import math
from typing import Any

from lossfuzz.reports.source_text import UntoldError


def attributes(value: Any) -> dict[str, Any]:
    """What an object holds, in slots and its dictionary; TensorFlow's own notes left out."""
    slots: list[str] = []
    for one in type(value).__mro__:
        named = vars(one).get("__slots__", ())
        slots += [named] if isinstance(named, str) else named
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {
        name: one
        for name, one in {**held, **getattr(value, "__dict__", {})}.items()
        if name not in ("__dict__", "__weakref__") and not name.startswith("_self_")
    }


def configuration(value: Any) -> dict[str, Any]:
    """What an object of Keras was made with, as far as it is not the default.

    That is its configuration, and parameters of its class that are attributes of its own. An
    automatic name is left out.

    Raises:
        UntoldError: a parameter without a default is neither.
    """
    parameters = inspect.signature(type(value)).parameters
    further = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    defaults = {
        name: one.default
        for base in reversed(type(value).__mro__[:-1])
        for name, one in inspect.signature(base).parameters.items()
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
    given = {
        key: one
        for key, one in value.get_config().items()
        if key in parameters or (further and key in defaults and key != "name")
    }
    for name, one in parameters.items():
        if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL):
            continue
        held = next(
            (vars(value)[key] for key in (name, f"_{name}") if key in vars(value)), one.empty
        )
        if held is not one.empty and (name not in given or callable(held)):
            given[name] = held
        if name not in given and one.default is one.empty:
            raise UntoldError(f"{name} of {type(value).__name__} is not known")
    return {
        key: one
        for key, one in given.items()
        if _differs(one, defaults.get(key, inspect.Parameter.empty))
    }


def _differs(value: Any, default: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return type(value) is not type(default) or bool(value != default)
