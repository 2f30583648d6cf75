"""lossfuzz: does this loss compute the right value and the right gradient?

Public names are loaded when they are first used, so that importing the package, or asking the
command line for help, loads neither TensorFlow nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossfuzz.checking import (
        LossDefect,
        LossNotJudged,
        LossRefusal,
        NotReachedWarning,
        check,
    )
    from lossfuzz.harness.backend import BackendError
    from lossfuzz.harness.exact.judge import Reference, reference_of
    from lossfuzz.harness.formula.spec import formula
    from lossfuzz.harness.losses.reduced import sample_weights
    from lossfuzz.harness.numbers.formats import (
        BFLOAT16,
        BINARY16,
        BINARY32,
        BINARY64,
        FloatFormat,
    )
    from lossfuzz.plan import Plan
    from lossfuzz.running import run
    from lossfuzz.strategies.cases import Case, cases, labels, logits, recipes
    from lossfuzz.strategies.floats import floats
    from lossfuzz.strategies.recipes import Batch, Recipe, expand

__version__ = "0.1.0"

_HOMES = {
    "lossfuzz.checking": (
        "LossDefect",
        "LossNotJudged",
        "LossRefusal",
        "NotReachedWarning",
        "check",
    ),
    "lossfuzz.harness.backend": ("BackendError",),
    "lossfuzz.harness.numbers.formats": (
        "BFLOAT16",
        "BINARY16",
        "BINARY32",
        "BINARY64",
        "FloatFormat",
    ),
    "lossfuzz.harness.formula.spec": ("formula",),
    "lossfuzz.harness.losses.reduced": ("sample_weights",),
    "lossfuzz.harness.exact.judge": ("Reference", "reference_of"),
    "lossfuzz.plan": ("Plan",),
    "lossfuzz.running": ("run",),
    "lossfuzz.strategies.cases": ("Case", "cases", "labels", "logits", "recipes"),
    "lossfuzz.strategies.floats": ("floats",),
    "lossfuzz.strategies.recipes": ("Batch", "Recipe", "expand"),
}

__all__ = [
    "BFLOAT16",
    "BINARY16",
    "BINARY32",
    "BINARY64",
    "BackendError",
    "Batch",
    "Case",
    "FloatFormat",
    "LossDefect",
    "LossNotJudged",
    "LossRefusal",
    "NotReachedWarning",
    "Plan",
    "Recipe",
    "Reference",
    "cases",
    "check",
    "expand",
    "floats",
    "formula",
    "labels",
    "logits",
    "recipes",
    "reference_of",
    "run",
    "sample_weights",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'lossfuzz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
