"""Who ends a user's code before it returns: a signal from outside, or the clock.

A loss may raise `KeyboardInterrupt` itself, which is told as any other exception of it is. Ctrl-C
ends the command. The two are told apart by the handler of the signal, which notes what it raises.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.users import watchdog
from lossfuzz.harness.users.cancelling import Cancelling
from lossfuzz.harness.users.time_limit import OutOfTimeError, time_limit
from lossfuzz.harness.users.watchdog import Watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], Any]

_AGAIN_SECONDS = 0.25
_SOON_SECONDS = 1e-3
_LATER_SECONDS = 0.5
_NOTED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_MARK = "lossfuzz_from_outside"


def is_from_outside(error: BaseException) -> bool:
    """Whether an exception came to the code that it went through by a signal, or by the clock."""
    return isinstance(error, OutOfTimeError) or hasattr(error, _MARK)


class Interruption:
    """Of one call of a user's code: begun before it, ended after it; it may be nested.

    Attributes:
        outside: what a handler of a signal raised, if one did.
    """

    def __init__(self, name: str) -> None:
        self.outside: BaseException | None = None
        self._name = name
        self._main = threading.current_thread() is threading.main_thread()
        self._handlers: dict[int, Any] = {}
        self._call: Watched | None = None
        self._due = self._theirs = math.inf
        self._every = 0.0
        self._expired = False

    @property
    def expired(self) -> bool:
        """Whether the code took too long."""
        return self._expired or (self._call is not None and self._call.expired)

    def begin(self) -> None:
        """Note what signals raise from now on, and let the time run."""
        if self._main:
            for number in _NOTED:
                handler = self._handlers[number] = signal.getsignal(number)
                if callable(handler):
                    signal.signal(number, self._noting(handler))
            self._handlers[signal.SIGALRM] = signal.getsignal(signal.SIGALRM)
            self._before = signal.getitimer(signal.ITIMER_REAL)[0]
        limit = time_limit()
        if math.isinf(limit.seconds):
            return
        self._cancelling = Cancelling()
        self._cancelling.begin()
        self._call = Watched(
            self._name,
            limit.seconds,
            self._cancelling.cancel,
            limit.before_end,
            later=_LATER_SECONDS if self._main else 0.0,
        )
        watchdog.WATCHDOG.watch(self._call)
        if self._main:
            self._start_timer(limit.seconds)

    def end(self) -> None:
        """Let nothing more interrupt, and give the signals back; a second time does no harm."""
        if self._call is not None:
            if self._main:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            watchdog.WATCHDOG.forget(self._call)
            self._cancelling.end()
        elif self._handlers and not self._before:
            signal.setitimer(signal.ITIMER_REAL, 0.0)  # one that the code has set would kill us
        for number, handler in self._handlers.items():
            if handler is not None:  # one that Python did not set it cannot set again
                signal.signal(number, handler)
        if self._call is not None and not math.isinf(self._theirs):
            left = max(self._theirs - time.monotonic(), _SOON_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, left, self._every)

    def _noting(self, handler: Handler) -> Handler:
        def noting(number: int, frame: FrameType | None) -> None:
            self._call_noting(handler, number, frame)

        return noting

    def _call_noting(self, handler: Handler, number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except BaseException as error:
            self.outside = error
            with contextlib.suppress(AttributeError):
                setattr(error, _MARK, True)
            raise

    def _start_timer(self, seconds: float) -> None:
        """Have SIGALRM come; a timer that somebody else has set goes off when it is due, too."""
        self._due = time.monotonic() + seconds
        signal.signal(signal.SIGALRM, self._alarm)
        left, self._every = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
        if left:
            self._theirs = time.monotonic() + left
            if left < seconds:
                signal.setitimer(signal.ITIMER_REAL, left, _AGAIN_SECONDS)

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now >= self._theirs - _SOON_SECONDS:
            self._theirs = now + self._every if self._every else math.inf
            next_one = max(min(self._due, self._theirs) - now, _SOON_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, next_one, _AGAIN_SECONDS)
            handler = self._handlers[signal.SIGALRM]
            if callable(handler):
                self._call_noting(handler, number, frame)
            return
        if now < self._due - _SOON_SECONDS:
            return
        self._expired = True
        if frame is None or frame.f_code not in _OURS:
            raise OutOfTimeError


_OURS = (Interruption.end.__code__, Interruption.begin.__code__)
