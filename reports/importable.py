"""Where an object of a user's module can be imported from, for one that has no name of its own."""

from __future__ import annotations

import importlib.util
import sys
from types import MethodType
from typing import TYPE_CHECKING, Any

from lossfuzz.reports.public_names import is_installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def importable_place(value: Any) -> tuple[str, str] | None:
    """Module and attributes, such as ``("losses", "FOCAL.per_row")``; None if there are none.

    Args:
        value: an object, or a method of one, that a user's module may hold under a name.
    """
    owner, rest = value, ""
    if isinstance(value, MethodType):
        owner, rest = value.__self__, f".{value.__func__.__name__}"
    for module in _users_modules():
        for name, one in list(vars(module).items()):
            if one is owner and name.isidentifier():
                return module.__name__, name + rest
    return None


def _users_modules() -> Iterator[ModuleType]:
    """Modules of users that another process can import."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name.partition(".")[0] in ("__main__", "lossfuzz", "conftest"):
            continue
        if module.__name__ == name and not is_installed(module) and _is_found(name):
            yield module


def _is_found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):
        return False
