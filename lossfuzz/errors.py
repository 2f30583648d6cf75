"""What the command line reports in one line, what ends it from outside, and its exit codes."""

DEFECTS = 1
"""Defects were to fail the command, a cell got worse, or a finding is gone."""

USAGE_ERROR = 2
AUDIT_FAILED = 3

INTERNAL_ERROR = 70
"""lossfuzz itself failed; EX_SOFTWARE of sysexits.h."""

OUTPUT_FAILED = 74
"""What was to be printed could not be; or no room, memory or descriptors are left; EX_IOERR."""

INTERRUPTED = 130


class UsageError(Exception):
    """Something that the user asked for cannot be done; the message is one line."""


class TerminatedError(KeyboardInterrupt):
    """A signal ended the command, as Ctrl-C does.

    Attributes:
        code: the exit code that tells which one it was.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"ended with exit code {code}")
        self.code = code


def code_of(ended: KeyboardInterrupt) -> int:
    """The exit code of a command that was ended from outside."""
    return ended.code if isinstance(ended, TerminatedError) else INTERRUPTED
