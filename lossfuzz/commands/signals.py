"""Signals that end a command as Ctrl-C does: with what was measured until then, reported."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from lossfuzz.errors import TerminatedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """How a command was ended, if it was.

    Attributes:
        code: the exit code that tells it: 130 of Ctrl-C, 143 of SIGTERM, 129 of SIGHUP.
    """

    def __init__(self) -> None:
        self.code = 128 + signal.SIGINT

    def handle(self, number: int, _: FrameType | None) -> None:
        """End the command; what is still to be written is not disturbed by a second signal."""
        for one in _ENDING:
            signal.signal(one, signal.SIG_IGN)
        self.code = 128 + number
        raise TerminatedError(self.code)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[Ending]:
    """Let SIGTERM and SIGHUP raise what `KeyboardInterrupt` handlers catch.

    A signal that is ignored, as SIGHUP is below nohup, stays so.
    """
    ending = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield ending
        return
    before = {one: signal.getsignal(one) for one in _ENDING}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, ending.handle)
    try:
        yield ending
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
