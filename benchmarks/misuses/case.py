"""One misuse: what is typed, where, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping
    from pathlib import Path

MISUSE = 2
"""The exit code of what the user must change."""

NOT_WRITTEN = (2, 74)
"""Those of an output that could not be written."""

ERROR = r"lossfuzz( \w+)?: error: "
"""How the one line begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """A signal that a command gets.

    Attributes:
        signal: which one.
        seconds: after the start, or after the file is there.
        file: that is waited for, in the case's folder; none by default.
        worker: whether the first child gets it, and not the command itself.
    """

    signal: signal.Signals
    seconds: float = 0.0
    file: str = ""
    worker: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One misuse.

    Attributes:
        name: unique within its category.
        command: a line of bash, run in a folder of its own in which only `files` and `needs` lie;
            ``lossfuzz`` and ``python`` are those of this environment.
        says: a regular expression that must be found in what it printed.
        codes: the exit codes that are right.
        seconds: after which it hangs.
        needs: what is copied into its folder: ``night``, a campaign; ``plain``, a run;
            ``finding.json``, a finding's record; ``baseline.json``, what pytest saved.
        files: name to content of further ones.
        prepare: what is done to its folder before.
        environment: variables that are set; of value None removed.
        interruptions: signals that it gets.
        promised: files that are there if it exits with 0.
        absent: regular expressions that must not be found: in a file by its name, in what was
            printed by an empty one.
        one_line: whether misuse must be told in exactly one line.
        speaks: whether a code other than 0 and 1 needs a line on standard error.
        changes: whether it may change what it was given, even where it is refused.
        own_traceback: whether a traceback may be shown, since Python itself runs a user's script.
    """

    name: str
    command: str
    says: str = ERROR
    codes: tuple[int, ...] = (MISUSE,)
    seconds: float = 60.0
    needs: tuple[str, ...] = ()
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    interruptions: tuple[Interruption, ...] = ()
    promised: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    one_line: bool = True
    speaks: bool = True
    changes: bool = False
    own_traceback: bool = False


Table = list[Case]
