"""The command line. Imports what a command needs when it is given, and nothing for ``--help``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz.errors import DEFECTS, OUTPUT_FAILED
from lossfuzz.parser import command_line
from lossfuzz.streams import guarded_streams

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from lossfuzz.streams import GuardedStream


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code, which the end of ``--help`` lists.

    Args:
        arguments: what to parse; by default the process's own.
    """
    with guarded_streams() as output:
        try:
            options = command_line().parse_args(arguments)
        except SystemExit as ended:  # it has told its help, its version, or what is wrong
            if _is_lost(output, 0 if ended.code is None else ended.code):
                raise SystemExit(OUTPUT_FAILED) from None
            raise
        from lossfuzz.ending import carried_out  # which take the time that --help has not
        from lossfuzz.supervised import leave, supervised

        _look_in_current_folder(options)
        if arguments is None and _names_modules(options):
            code = supervised(lambda: carried_out(options), _modules_named(options))
        else:
            code = carried_out(options)
        code = OUTPUT_FAILED if _is_lost(output, code) else code
    if arguments is None and _names_modules(options):
        leave(code)
    return code


def _is_lost(output: GuardedStream, code: object) -> bool:
    """Tell that something could not be printed, where the exit code would not."""
    output.flush()
    if not output.failure or code not in {0, DEFECTS}:
        return False
    print(  # noqa: T201
        f"lossfuzz: error: standard output cannot be written ({output.failure}); files are not "
        "affected",
        file=sys.stderr,
    )
    return True


def _look_in_current_folder(options: argparse.Namespace) -> None:
    """Let modules be found in the current folder if the command line names some, or trusts a file.

    A command that names none imports nothing from there: it may be a folder of somebody else's. A
    folder that is gone would make each relative entry of the path an error.
    """
    try:
        folder = str(Path.cwd())
    except OSError:
        sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]  # noqa: PTH117 - entries are texts
        return
    if folder not in sys.path and _names_modules(options):
        sys.path.append(folder)


def _names_modules(options: argparse.Namespace) -> bool:
    """Whether the command may call something of a user's own."""
    return getattr(options, "trust", False) or bool(_modules_named(options))


def _modules_named(options: argparse.Namespace) -> list[str]:
    """What may be something of a user's own, as ``package.module:name``."""
    given = (getattr(options, name, None) or () for name in ("loss", "against", "losses", "paths"))
    return [name for names in given for name in names if ":" in name]
