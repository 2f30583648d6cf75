"""Every loss path, and the choice of some by name."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lossfuzz.harness.backend import load_quietly
from lossfuzz.harness.losses.documented import clipped_mean
from lossfuzz.harness.paths import compat_v1, keras_api, tf_nn
from lossfuzz.harness.paths.models import model_paths
from lossfuzz.harness.paths.own import own_path_named
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.spelling import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.losses.spec import LossSpec

PATHS: tuple[LossPath, ...] = (
    *tf_nn.PATHS,
    *compat_v1.PATHS,
    *keras_api.PATHS,
    *model_paths("keras", documented=clipped_mean),
    *model_paths("tf_keras", documented=clipped_mean),
)


def paths_matching(patterns: Iterable[str], table: tuple[LossPath, ...] = PATHS) -> list[LossPath]:
    """The paths whose names match any of the shell patterns, in the table's order.

    A pattern ``package.module:attribute`` is a path of the user's, by that name.

    Raises:
        ValueError: a pattern matches nothing; the message lists the known names.
    """
    chosen = set()
    others = []
    for pattern in patterns:
        if ":" in pattern:
            others.append(path_named(pattern, table))
            continue
        matching = {path.name for path in table if fnmatchcase(path.name, pattern)}
        if not matching:
            told = unknown("path", pattern, [path.name for path in table])
            raise ValueError(f"{told} (shell patterns work: 'keras/*')")
        chosen |= matching
    return [path for path in table if path.name in chosen] + others


def path_named(name: str, table: tuple[LossPath, ...] = PATHS) -> LossPath:
    """The path of that name: of the table, a user's own loss, or ``package.module:attribute``.

    Raises:
        ValueError: there is none.
    """
    for path in table:
        if path.name == name:
            return path
    own = own_path_named(name)
    if own is not None:
        return own
    module, _, attribute = name.partition(":")
    load_quietly()
    try:
        path = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"unknown path {name!r}: {error}") from None
    if not isinstance(path, LossPath):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong, not its type
            f"{name!r} is a {type(path).__name__}, expected a LossPath"
        )
    return replace(path, name=name)  # so that any process finds it again


def paths_of(loss: LossSpec, table: tuple[LossPath, ...] = PATHS) -> list[LossPath]:
    """The paths that are used for a loss, in the table's order."""
    return [path for path in table if path.loss is loss]
