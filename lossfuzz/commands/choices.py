"""What a user may choose, from text to values; unknown names list the known ones."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from lossfuzz.errors import UsageError
from lossfuzz.harness.backend import load_quietly
from lossfuzz.harness.losses.table import losses_matching
from lossfuzz.harness.numbers.formats import BINARY32, training_format
from lossfuzz.harness.paths.own import loss_imported, own_path
from lossfuzz.harness.paths.table import PATHS, paths_matching
from lossfuzz.harness.records.modes import MODES, mode_named
from lossfuzz.mathematics import spec_of
from lossfuzz.strategies.bounds import checked_bounds
from lossfuzz.strategies.families import family_named
from lossfuzz.strategies.recipes import SHAPES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.path import LossPath


def split(values: Iterable[str] | None) -> list[str]:
    """The parts of options that may be repeated and hold comma lists."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def chosen(
    values: list[str] | None, parse: Callable[[str], Any], default: Iterable[Any]
) -> list[Any]:
    """What was chosen, parsed, or the default.

    Raises:
        UsageError: a part is not known.
    """
    if values is None:
        return list(default)
    try:
        return [parse(part) for part in split(values)]
    except ValueError as error:
        raise UsageError(str(error)) from None


def family(name: str) -> str:
    """The name itself, if a family has it."""
    family_named(name)
    return name


def chosen_paths(options: argparse.Namespace) -> list[LossPath]:
    """The paths that ``--paths`` and ``--losses`` leave, all by default; users' own losses alone.

    Raises:
        ValueError: a pattern matches nothing, no path matches both, or an own loss cannot be had.
    """
    own = own_paths(options)
    if own:
        return own + (paths_matching(split(options.paths)) if options.paths else [])
    paths = paths_matching(split(options.paths)) if options.paths else list(PATHS)
    if options.losses:
        losses = {loss.name for loss in losses_named(options.losses)}
        kept = [path for path in paths if path.loss.name in losses]
        if paths and not kept:
            raise ValueError(
                f"none of the chosen paths computes one of the chosen losses: {'; '.join(losses)}"
            )
        return kept
    return paths


def losses_named(
    patterns: list[str], among: Callable[[Iterable[str]], Iterable[LossSpec]] = losses_matching
) -> list[LossSpec]:
    """The losses that ``--losses`` names.

    Args:
        patterns: a name or shell pattern for each time that the option was given.
        among: what knows the losses that can be chosen.

    Raises:
        ValueError: a pattern matches nothing.
    """
    try:
        return list(among(patterns))
    except ValueError as error:
        for pattern in patterns:
            parts = split([pattern])
            if len(parts) > 1 and not _matches(among, pattern):
                if not any(_matches(among, part) for part in parts):
                    raise ValueError(f"{error}; {_NO_COMMA_LIST}") from None
                again = " ".join(f"--losses {shlex.quote(part)}" for part in parts)
                raise ValueError(
                    f"no loss is named {pattern!r}; {_NO_COMMA_LIST}, as in {again}"
                ) from None
        raise


_NO_COMMA_LIST = (
    "--losses takes no comma list, since names hold commas: repeat the option for each"
)


def _matches(among: Callable[[Iterable[str]], Iterable[LossSpec]], pattern: str) -> bool:
    try:
        among([pattern])
    except ValueError:
        return False
    return True


def chosen_cells(
    options: argparse.Namespace,
) -> tuple[list[LossPath], list[FloatFormat], list[str]]:
    """The paths, formats and modes of a command that takes float32 and all modes by default.

    Raises:
        UsageError: a choice is unknown or empty.
    """
    formats = chosen(options.formats, training_format, (BINARY32,))
    modes = [mode for mode in MODES if mode in chosen(options.modes, mode_named, MODES)]
    try:
        paths = chosen_paths(options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not (paths and formats and modes):
        raise UsageError("expected at least one path, format and mode, got an empty choice")
    return paths, formats, modes


def own_paths(options: argparse.Namespace) -> list[LossPath]:
    """The paths of the losses that ``--loss`` names, computing what ``--as`` names.

    Raises:
        ValueError: a loss cannot be imported, ``--as`` is missing or unknown.
    """
    names = split(getattr(options, "loss", None))
    if not names:
        for option in ("against", "reduction"):
            if getattr(options, option, None):
                written = {"against": "--as"}.get(option, f"--{option}")
                raise ValueError(f"{written} belongs to --loss package.module:function")
        return []
    if options.against is None:
        raise ValueError(
            f"--loss {names[0]} needs --as: the mathematics that it is to compute, such as "
            "softmax-cross-entropy, or package.module:formula; `lossfuzz paths` lists all losses"
        )
    load_quietly()  # before a formula's module does
    against = spec_of(options.against, options.reduction)
    said = getattr(options, "bounds", None)
    bounds = None if said is None else bounds_of(said)
    try:
        return [own_path(loss_imported(name), against, name=name, bounds=bounds) for name in names]
    except TypeError as error:
        raise ValueError(str(error)) from None


def shape_group(text: str) -> tuple[tuple[int, ...], ...]:
    """The shape that a text such as ``256x10`` gives, or all shapes for ``all``."""
    if text == "all":
        return SHAPES
    parts = text.lower().split("x")
    if not 2 <= len(parts) <= _MOST_AXES or not all(map(_is_size, parts)):
        text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
        known = ", ".join("x".join(map(str, shape)) for shape in SHAPES)
        raise ValueError(f"expected a shape such as 256x10 or 'all', got {text!r}; usual: {known}")
    return (tuple(int(part) for part in parts),)


_MOST_AXES = 8
_MOST_DIGITS = 18
_LONGEST = 60


def _is_size(text: str) -> bool:
    """Whether a text is a number above 0 that an index can be."""
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) > 0


def bounds_of(text: str) -> tuple[float, float]:
    """The interval that a text such as ``-1:1`` gives.

    Raises:
        ValueError: it is none.
    """
    low, separator, high = text.partition(":")
    try:
        return checked_bounds((float(low), float(high if separator else "nan")))
    except ValueError as error:
        raise ValueError(
            f"expected bounds such as --bounds=-1:1, got {text!r} ({error})"
        ) from None
