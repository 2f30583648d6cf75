"""What a user may choose, from text to values; unknown names list the known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.errors import UsageError
from lossfuzz.harness.formats import TRAINING_FORMATS, FloatFormat, format_named
from lossfuzz.harness.losses.table import losses_matching
from lossfuzz.harness.paths.table import PATHS, paths_matching
from lossfuzz.strategies.families import family_named
from lossfuzz.strategies.recipes import SHAPES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable
    from pathlib import Path

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


def training_format(name: str) -> FloatFormat:
    """The format of that name, if losses are measured in it."""
    known = [fmt for fmt in TRAINING_FORMATS if name in (fmt.name, fmt.dtype_name)]
    if not known:
        names = ", ".join(fmt.dtype_name for fmt in TRAINING_FORMATS)
        raise ValueError(f"unknown format {name!r}; known formats: {names}")
    return format_named(name)


def family(name: str) -> str:
    """The name itself, if a family has it."""
    family_named(name)
    return name


def chosen_paths(options: argparse.Namespace) -> list[LossPath]:
    """The paths that ``--paths`` and ``--losses`` leave, all by default.

    Raises:
        ValueError: a pattern matches nothing, or no path matches both.
    """
    paths = paths_matching(split(options.paths)) if options.paths else list(PATHS)
    if options.losses:
        losses = {loss.name for loss in losses_matching(options.losses)}
        kept = [path for path in paths if path.loss.name in losses]
        if paths and not kept:
            raise ValueError(
                f"none of the chosen paths computes one of the chosen losses: {'; '.join(losses)}"
            )
        return kept
    return paths


def shape_group(text: str) -> tuple[tuple[int, ...], ...]:
    """The shape that a text such as ``256x10`` gives, or all shapes for ``all``."""
    if text == "all":
        return SHAPES
    parts = text.lower().split("x")
    if len(parts) < 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        known = ", ".join("x".join(map(str, shape)) for shape in SHAPES)
        raise ValueError(f"expected a shape such as 256x10 or 'all', got {text!r}; usual: {known}")
    return (tuple(int(part) for part in parts),)


def make_writable(folder: Path) -> None:
    """Make a folder, and see that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    probe = folder / ".lossfuzz-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to the output folder {str(folder)!r} ({error.strerror}); "
            "choose another with --out"
        ) from None
