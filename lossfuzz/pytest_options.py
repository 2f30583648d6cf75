"""What the plugin may be told, and where: command line, call, marker, ini file, nearest first."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import pytest

from lossfuzz.harness.records.modes import MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

FORMATS = ("float32", "float16", "bfloat16")
"""What `training_format` knows, whose module would load NumPy."""

BUDGETS = ("rows", "seconds")
"""One of them is chosen; whoever chooses one, unsets a farther one's other."""

MARKER = (
    "lossfuzz(rows=, seconds=, seed=, formats=, modes=, device=): checks losses with "
    "lossfuzz_check; the arguments are the test's defaults for it"
)

_GROUP = (
    "checks of losses (lossfuzz); these options win over the arguments of lossfuzz_check(), those "
    "over the marker's, and those over the ini file's"
)

_HELP = {
    "rows": "rows per cell of each check",
    "seconds": "time for each check, instead of rows",
    "seed": "seed of all rows (default: 0)",
    "formats": "float32, float16, bfloat16, separated by commas",
    "modes": "eager, graph, xla, separated by commas",
    "device": "TensorFlow's device, such as GPU:0",
    "profile": "Hypothesis profile: lossfuzz, lossfuzz-ci or lossfuzz-nightly",
    "baseline": "fail a check for what got worse since FILE alone: one that --lossfuzz-save "
    "wrote, or a results.json of 'lossfuzz run'",
}
_SAVE = "write what all checks measured; they then measure their whole budget"
_METAVARS = {"rows": "N", "seconds": "S", "seed": "N", "baseline": "FILE", "profile": "NAME"}


def add_options(parser: pytest.Parser) -> None:
    """The option group and the ini options."""
    group = parser.getgroup("lossfuzz", _GROUP)
    for name, text in _HELP.items():
        group.addoption(f"--lossfuzz-{name}", metavar=_METAVARS.get(name, name.upper()), help=text)
        kind = "args" if name in ("formats", "modes") else "string"
        parser.addini(f"lossfuzz_{name}", f"{text}; see --lossfuzz-{name}", type=kind, default="")  # type: ignore[arg-type]
    group.addoption("--lossfuzz-save", metavar="FILE", help=_SAVE)


class Choices:
    """What the command line and the ini file choose, checked.

    Attributes:
        nearest: argument of a check to its value by the command line.
        farthest: the same by the ini file.
        baseline: path of a stored run; None for none.
        save: path to write to; None for none.
        profile: name of a Hypothesis profile; empty for none.
    """

    def __init__(self, config: pytest.Config) -> None:
        """Read and check all.

        Raises:
            pytest.UsageError: a value is not one; the message names the option.
        """
        options = {name: config.getoption(f"lossfuzz_{name}") for name in (*_HELP, "save")}
        ini = {name: config.getini(f"lossfuzz_{name}") for name in _HELP}
        given = {name: options[name] for name in _PARSERS if options[name] is not None}
        self.nearest = _parsed(given, "--lossfuzz-")
        self.farthest = _parsed({name: ini[name] for name in _PARSERS if ini[name]}, "lossfuzz_")
        here, there = (
            config.invocation_params.dir,
            (config.inipath or config.rootpath / "_").parent,
        )
        self.baseline = _path(here, options["baseline"]) or _path(there, ini["baseline"])
        self.save = _path(here, options["save"])
        self.profile: str = options["profile"] or ini["profile"]
        if self.save and self.save.is_dir():
            raise pytest.UsageError(
                f"--lossfuzz-save: expected a file's name, got a folder's, {str(self.save)!r}"
            )
        if self.save and not os.access(self.save.parent, os.W_OK):
            raise pytest.UsageError(
                f"--lossfuzz-save: cannot write {str(self.save)!r}: is its folder there?"
            )

    def arguments(self, call: Mapping[str, Any], marker: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a check: of each the nearest choice.

        Args:
            call: what the test passes.
            marker: what its markers say.
        """
        chosen: dict[str, Any] = {}
        for choices in (self.farthest, marker, call, self.nearest):
            if any(name in choices for name in BUDGETS):
                chosen = {name: value for name, value in chosen.items() if name not in BUDGETS}
            chosen.update(choices)
        return chosen


def marked(markers: Iterable[pytest.Mark]) -> dict[str, Any]:
    """The arguments that a test's markers give, the nearest marker's winning.

    Raises:
        ValueError: an argument is not known, or has no name.
    """
    chosen: dict[str, Any] = {}
    for marker in markers:  # the nearest comes first
        unknown = [
            *map(repr, marker.args),
            *(name for name in marker.kwargs if name not in _PARSERS),
        ]
        if unknown:
            raise ValueError(
                f"the marker lossfuzz does not know {', '.join(unknown)}; known arguments: "
                f"{', '.join(_PARSERS)}"
            )
        theirs = dict(marker.kwargs)
        if any(name in chosen for name in BUDGETS):
            theirs = {name: value for name, value in theirs.items() if name not in BUDGETS}
        chosen = {**theirs, **chosen}
    return chosen


def _path(folder: Path, text: str | None) -> Path | None:
    return folder / text if text else None


def _parsed(texts: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The values that were given, by argument."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            values[name] = _PARSERS[name](text)
        except ValueError as error:
            raise pytest.UsageError(f"{prefix}{name}: {error}") from None
    if all(name in values for name in BUDGETS):
        raise pytest.UsageError(f"expected {prefix}rows or {prefix}seconds, not both")
    return values


def _whole(least: int) -> Callable[[Any], int]:
    def parse(text: Any) -> int:
        try:
            value = int(text)
        except (TypeError, ValueError):
            value = least - 1
        if value < least:
            raise ValueError(f"expected a whole number of {least} or more, got {text!r}")
        return value

    return parse


def _seconds(text: Any) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"expected seconds above 0, got {text!r}")
    return value


def _names(known: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    def parse(text: Any) -> tuple[str, ...]:
        parts = [text] if isinstance(text, str) else text
        names = [name.strip() for part in parts for name in part.split(",") if name.strip()]
        unknown = [repr(name) for name in names if name not in known]
        if unknown or not names:
            came = ", ".join(unknown) or repr(text)
            raise ValueError(f"expected some of {', '.join(known)}, got {came}")
        return tuple(dict.fromkeys(names))

    return parse


def _device(text: Any) -> str:
    if not text.strip():
        raise ValueError("expected a device such as CPU:0 or GPU:0, got nothing")
    return str(text)


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "rows": _whole(1),
    "seconds": _seconds,
    "seed": _whole(0),
    "formats": _names(FORMATS),
    "modes": _names(MODES),
    "device": _device,
}
