"""What TensorFlow and Keras compute by, in a process that has loaded them."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_LOADED = ("tensorflow", "keras", "tf_keras")
_EPSILON = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One of a library's settings.

    Attributes:
        name: of library and setting.
        read: its value now.
        write: sets it.
        usual: its value in a library that was just loaded.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None]
    usual: Any


Changed = tuple[tuple[Setting, Any], ...]
"""Settings with the values that they were given."""

_AT_IMPORT: dict[str, Changed] = {}
_OURS = ("tensorflow run_functions_eagerly",)
"""What says in which mode a cell runs is never a user's."""


def keep_settings(module: str, changed: Changed) -> None:
    """Let the functions of a user's module find what it set when it was imported.

    A loss that uses Keras's epsilon is to be judged with the one that its module has set.
    """
    theirs = tuple((one, value) for one, value in changed if one.name not in _OURS)
    if theirs:
        _AT_IMPORT[module] = theirs


def settings_for(name: str) -> Changed:
    """What the module of a function ``module:name`` set when it was imported."""
    return _AT_IMPORT.get(name.partition(":")[0], ())


def settings() -> tuple[Setting, ...]:
    """The settings of what is loaded; nothing is loaded for it."""
    modules = [sys.modules.get(name) for name in _LOADED]
    try:
        return _settings_of(*modules)
    except AttributeError:  # one is being loaded at this moment
        return ()


@functools.lru_cache(maxsize=4)
def _settings_of(tensorflow: Any, keras: Any, tf_keras: Any) -> tuple[Setting, ...]:
    found: list[Setting] = []
    if tensorflow is not None:
        config = tensorflow.config
        found.append(
            Setting(
                name="tensorflow run_functions_eagerly",
                read=config.functions_run_eagerly,
                write=config.run_functions_eagerly,
                usual=False,
            )
        )
    if keras is not None:
        found += _numbers("keras", keras.config)
        state = sys.modules.get("keras.src.backend.common.global_state")
        if state is not None:  # the public `dtype_policy` would set one where there is none yet
            found.append(
                Setting(
                    name="keras policy",
                    read=functools.partial(state.get_global_attribute, "dtype_policy"),
                    write=functools.partial(state.set_global_attribute, "dtype_policy"),
                    usual=None,
                )
            )
    if tf_keras is not None:
        found += _numbers("tf_keras", tf_keras.backend)
        precision = tf_keras.mixed_precision
        found.append(
            Setting(
                name="tf_keras policy",
                read=lambda: precision.global_policy().name,
                write=precision.set_global_policy,
                usual="float32",
            )
        )
    return tuple(found)


def _numbers(library: str, module: Any) -> list[Setting]:
    return [
        Setting(
            name=f"{library} {name}",
            read=getattr(module, name),
            write=getattr(module, f"set_{name}"),
            usual=usual,
        )
        for name, usual in (("floatx", "float32"), ("epsilon", _EPSILON))
    ]
