"""The standard streams of a command: a print that fails costs the print, and nothing else.

While a command runs they stand behind `GuardedStream`, which drops what cannot be written and
remembers why, and which replaces the characters that an encoding lacks.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from lossfuzz.harness.users.streams import reopened

if TYPE_CHECKING:
    from collections.abc import Iterator

_READABLE = "lossfuzz-readable"
_INSTEAD = {
    **dict(zip("·×–—−│┃╭╮╰╯─━“”‘’", "-x---||++++-=\"\"''", strict=True)),  # noqa: RUF001
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "≈": "~",
    "∞": "inf",
    "✅": "ok",
    "❌": "!!",
    "☑": "ok",
    "\ufe0f": "",
}
"""What a stream without these characters shows in their place."""


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Handle an encoding's error: a readable replacement, or the character as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    told = (_INSTEAD.get(one, one.encode("ascii", "backslashreplace").decode()) for one in missing)
    return "".join(told), error.end


codecs.register_error(_READABLE, _replaced)


class GuardedStream:
    """A text stream that drops what cannot be written.

    Attributes:
        failure: why something could not be written; empty if nothing failed, or if whoever read
            it has had enough and closed his end of a pipe.
    """

    closed = False
    """A loss that closes it closes nothing: what the command prints afterwards is still read."""

    def __init__(self, stream: TextIO | None, descriptor: int) -> None:
        """Guard a stream.

        Args:
            stream: to be written to; None where the process was started without one.
            descriptor: that it writes to.
        """
        self._descriptor = descriptor
        self.failure = ""
        self._is_missing = stream is None
        self._is_over = False
        self._before: str | None = None
        self._stream: TextIO = stream if stream is not None else _nowhere()
        if isinstance(stream, io.TextIOWrapper):
            self._before = stream.errors
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=_READABLE)

    def write(self, text: str) -> int:
        """Write a text, if that is possible."""
        if self._is_missing and text:
            self._fail("it is closed")
        if not self._is_over:
            if self._stream.closed:
                self._stream = reopened(self._descriptor, self._stream) or self._stream
            with self._noted():
                self._stream.write(text)
        return len(text)

    def close(self) -> None:
        """Flush what was written; the stream stays open."""
        self.flush()

    def flush(self) -> None:
        """Flush what was written, if that is possible."""
        if not self._is_over:
            with self._noted():
                if not self._stream.closed:
                    self._stream.flush()

    def release(self) -> TextIO | None:
        """Give the stream back as it was; what cannot be written any more is dropped for good."""
        self.flush()
        if self._is_missing:
            return None
        if self._is_over:
            self._drop()
        elif self._before is not None and isinstance(self._stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                self._stream.reconfigure(errors=self._before)
        return self._stream

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._is_over = True
        except OSError as error:
            self._fail(error.strerror or str(error))
        except ValueError as error:  # somebody has closed it
            self._fail(str(error))

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why
        self._is_over = True

    def _drop(self) -> None:
        """Lead a standard stream nowhere, so that the interpreter can flush it when it ends."""
        if self._stream not in (sys.__stdout__, sys.__stderr__):
            return
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded_streams() -> Iterator[GuardedStream]:
    """Guard standard output and error while a block runs; gives that of standard output.

    A standard descriptor that is closed leads nowhere from here on: the next file to be opened
    would get its number, and with it all that TensorFlow's C++ side prints.
    """
    _fill_descriptors()
    before = sys.stdin, sys.stdout, sys.stderr
    output, errors = GuardedStream(sys.stdout, 1), GuardedStream(sys.stderr, 2)
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    sys.stdout, sys.stderr = cast("TextIO", output), cast("TextIO", errors)
    try:
        yield output
    finally:
        sys.stdin = before[0]
        sys.stdout, sys.stderr = output.release(), errors.release()


def _fill_descriptors() -> None:
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
