"""Every loss path, and the choice of some by name."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lossfuzz.harness.losses.documented import clipped_mean
from lossfuzz.harness.paths import compat_v1, keras_api, tf_nn
from lossfuzz.harness.paths.models import model_paths
from lossfuzz.harness.paths.own import known_path, own_path_named
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.unloaded import unloaded_path
from lossfuzz.harness.records.spelling import unknown
from lossfuzz.harness.users.importing import imported

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
            others.append(path_named(pattern, table, load=True))
            continue
        matching = {path.name for path in table if fnmatchcase(path.name, pattern)}
        if not matching:
            told = unknown("path", pattern, [path.name for path in table])
            raise ValueError(f"{told} (shell patterns work: 'keras/*')")
        chosen |= matching
    return [path for path in table if path.name in chosen] + others


def path_named(name: str, table: tuple[LossPath, ...] = PATHS, *, load: bool = False) -> LossPath:
    """The path of that name: of the table, a user's own loss, or ``package.module:attribute``.

    Args:
        name: of the path.
        table: of the paths that are built in.
        load: whether a user's module is imported. A name out of a record is never asked for so:
            without, a path that this process has not loaded can be told, and not called.

    Raises:
        ValueError: there is none.
    """
    for path in table:
        if path.name == name:
            return path
    found = known_path(name) or _LOADED.get(name)
    found = found or (_imported(name) if load else unloaded_path(name))
    if found is None:
        raise ValueError(unknown("path", name, [path.name for path in table]))
    return found


_LOADED: dict[str, LossPath] = {}
"""Paths that users made themselves, by the names that they were imported by."""


def _imported(name: str) -> LossPath | None:
    """A path of a user's, its module imported; None of what is no such name.

    Raises:
        ValueError: it cannot be had.
    """
    own = own_path_named(name)
    if own is not None or ":" not in name:
        return own
    path = imported(name)
    if not isinstance(path, LossPath):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong, not its type
            f"{name!r} is a {type(path).__name__}, expected a LossPath"
        )
    _LOADED[name] = replace(path, name=name)  # so that any process finds it again
    return _LOADED[name]


def paths_of(loss: LossSpec, table: tuple[LossPath, ...] = PATHS) -> list[LossPath]:
    """The paths that are used for a loss, in the table's order."""
    return [path for path in table if path.loss is loss]
