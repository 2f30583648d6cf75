"""What the command line reports in one line, and what ends it from outside."""


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
