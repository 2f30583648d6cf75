"""What of a stored run is code, and who said that it may run.

A run, a campaign and a finding are data: reading them imports and starts nothing. To go on with a
campaign, or to run a finding of a user's own loss again, takes that loss, and perhaps another
interpreter. Their names come out of a file, so they run only where the command line names them
too, or says that the file is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.errors import UsageError
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.losses.unloaded import is_name_of_formula
from lossfuzz.harness.paths.own import is_importable
from lossfuzz.harness.paths.table import path_named
from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What a stored run would run, by the names that its file gives.

    Attributes:
        losses: ``package.module:function`` of users' losses and paths.
        formulas: ``package.module:formula`` that they are held against.
        programs: interpreters.
    """

    losses: tuple[str, ...] = ()
    formulas: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.losses or self.formulas or self.programs)


def code_of(paths: Iterable[str], programs: Iterable[str] = ()) -> Code:
    """What paths of these names, and these programs, would run.

    What has no name by which it could be imported cannot run, and so is none of it.

    Raises:
        ValueError: a name is none of a path.
    """
    users = [path_named(name) for name in paths if ":" in name and is_importable(name)]
    bases = [(path.loss.base or path.loss).name for path in users]
    return Code(
        losses=tuple(dict.fromkeys(path.written for path in users)),
        formulas=tuple(name for name in dict.fromkeys(bases) if is_name_of_formula(name)),
        programs=tuple(dict.fromkeys(programs)),
    )


def require(code: Code, what: str, options: argparse.Namespace) -> None:
    """See that the command line allows all that would run.

    Args:
        code: that would run.
        what: would run it, such as ``going on with 'night'``, for the message.
        options: with ``trust``, ``loss``, ``against`` and perhaps ``python``.

    Raises:
        UsageError: something is not allowed, or something is named that would not run.
    """
    named = {
        "--loss": (code.losses, options.loss or ()),
        "--as": (code.formulas, options.against or ()),
        "--python": (code.programs, getattr(options, "python", None) or ()),
    }
    for option, (known, given) in named.items():
        for one in given:
            if one not in known:
                rest = f"what it would run is {listing(known)}" if known else "it would run none"
                raise UsageError(f"{option} {one}: {what} does not run that; {rest}")
    if options.trust:
        return
    missing = [
        f"{option} {one}"
        for option, (known, given) in named.items()
        for one in known
        if one not in given
    ]
    if missing:
        raise UsageError(
            f"{what} would run code that its file names: {', '.join(missing)}. Read it first; "
            "then allow it by these options, or all of it by --trust"
        )


def load(paths: Iterable[str]) -> None:
    """Import the users' losses and formulas that names lead to; from now on they can be called.

    Raises:
        ValueError: one cannot be had.
    """
    for name in paths:
        if ":" in name:
            path = path_named(name, load=True)
            loss_named((path.loss.base or path.loss).name, load=True)
