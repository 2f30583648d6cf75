"""Every loss path, and the choice of some by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lossfuzz.harness.paths import tf_nn
from lossfuzz.harness.paths.keras_api import keras_paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.paths.path import LossPath

PATHS: tuple[LossPath, ...] = (
    *tf_nn.PATHS,
    *keras_paths("keras", ("function", "class", "class-own-dtype")),
    *keras_paths("tf_keras", ("function", "class"), without=("ops-softmax",)),
)


def paths_matching(patterns: Iterable[str], table: tuple[LossPath, ...] = PATHS) -> list[LossPath]:
    """The paths whose names match any of the shell patterns, in the table's order.

    Raises:
        ValueError: a pattern matches nothing; the message lists the known names.
    """
    chosen = set()
    for pattern in patterns:
        matching = {path.name for path in table if fnmatchcase(path.name, pattern)}
        if not matching:
            known = ", ".join(path.name for path in table)
            raise ValueError(
                f"unknown path {pattern!r}; known paths: {known} (shell patterns work: 'keras/*')"
            )
        chosen |= matching
    return [path for path in table if path.name in chosen]
