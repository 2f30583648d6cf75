"""Where a campaign's modules are, so that every process of it finds a user's own loss.

Workers run in another folder than the coordinator, and so may whoever goes on with a campaign or
reads it. The current folder is never on a worker's PYTHONPATH, since a folder in it that is named
lossfuzz, as in a clone of this project, would hide the package; a worker takes up the
coordinator's whole path once it has the package.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz.harness.records.fields import record_of, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.campaign.store import Store

FOLDERS = "folders"
"""The name of the fact under which a store has `own_folders`."""

_FIRST, _LAST = "first", "last"
_INTERPRETER = ("stdlib", "platstdlib", "purelib", "platlib", "scripts")


def search_path() -> list[str]:
    """Where this process looks for modules, as absolute paths and in its order."""
    return list(dict.fromkeys(map(_absolute, sys.path)))


def _absolute(entry: str) -> str:
    """An entry of the path that does not depend on the current folder."""
    if not entry or Path(entry).exists():
        return str(Path(entry).absolute())
    return entry  # a mark that an import hook knows, or nothing


def search_like(path: Sequence[str]) -> None:
    """Look for modules where another process does that has the same interpreter.

    Args:
        path: its `search_path`; nothing changes if it is empty.
    """
    if path:
        sys.path[:] = path


def own_folders() -> dict[str, list[str]]:
    """The folders of `search_path` that are none of the interpreter's own.

    Returns:
        ``first`` those in front of the standard library, as those on PYTHONPATH, and ``last``
        those behind it, as the current one.
    """
    interpreters = [Path(found) for found in map(sysconfig.get_path, _INTERPRETER) if found]
    found: dict[str, list[str]] = {_FIRST: [], _LAST: []}
    place = _FIRST
    for text in search_path():
        folder = Path(text)
        if any(one == folder or one in folder.parents for one in interpreters):
            place = _LAST if folder == interpreters[0] else place
        elif folder.is_dir():
            found[place].append(text)
    return found


def look_where_begun(store: Store) -> None:
    """Look for modules in the `own_folders` of the process that began a campaign, too.

    Only of a campaign that is trusted: its folders may hold a module of any name.

    Raises:
        ValueError: the store does not tell them.
    """
    folders = record_of(store.fact(FOLDERS, {}), FOLDERS)
    known = search_path()
    sys.path[:0] = [one for one in texts(folders, _FIRST, ()) if one not in known]
    sys.path += [one for one in texts(folders, _LAST, ()) if one not in known]
