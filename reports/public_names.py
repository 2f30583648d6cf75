"""Names under which packages offer functions and classes, and which modules come with one."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_PUBLIC = (
    *("keras.losses", "keras.ops", "keras.activations", "keras", "tf_keras.losses", "tf_keras"),
    *("tensorflow.nn", "tensorflow.math", "tensorflow", "numpy"),
)
_ROOTS = {"tensorflow": "tf", "keras": "keras", "tf_keras": "tf_keras", "numpy": "numpy"}


def public_name(value: Any) -> str | None:
    """``keras.losses.binary_crossentropy`` of a function or class of these packages."""
    owner = str(getattr(value, "__module__", "") or "").partition(".")[0]
    if not callable(value) or owner not in _ROOTS:
        return None
    for name in _PUBLIC:
        root, _, rest = name.partition(".")
        module = sys.modules.get(root)
        if module is None or root != owner:
            continue
        place: Any = vars(module).get(rest) if rest else module
        for attribute, one in vars(place).items() if isinstance(place, ModuleType) else ():
            if one is value and not attribute.startswith("_"):
                return ".".join([_ROOTS[root], *([rest] if rest else []), attribute])
    return None


def is_installed(module: ModuleType) -> bool:
    """Whether a module comes with a package or with Python, and so is found everywhere."""
    if module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return module.__name__ != "__main__"
    place = getattr(module, "__file__", None) or ""
    return "site-packages" in place or "dist-packages" in place
