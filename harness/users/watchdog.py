"""A thread that ends what takes too long: the call if it can be, else the process.

A signal reaches Python code of the main thread alone. This thread reaches the others, by an
exception that is raised in them, and a graph that TensorFlow runs, by cancelling it. What heeds
neither, such as a loop that XLA has compiled, ends with the process: one line says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import threading
import time
from typing import TYPE_CHECKING

from lossfuzz.harness.users.time_limit import TIMED_OUT, OutOfTimeError

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE_SECONDS = 5.0
"""From the first interruption of a call to the end of the process, at most."""

_AGAIN_SECONDS = 0.25
_SAVING_SECONDS = 20.0


class Watched:
    """A call that is running.

    Attributes:
        name: of the user's function.
        seconds: that it may take.
        due: when it is interrupted, in the time of `time.monotonic`.
        ends: when the process is ended instead.
        expired: whether it was interrupted.
        thread: in which it runs.
        cancel: cancels what TensorFlow runs of it.
        before_end: called before the process is ended.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        cancel: Callable[[], object],
        before_end: Callable[[], object] | None,
        later: float,
    ) -> None:
        """A call that begins now; it is interrupted so much later than it is due."""
        self.name, self.seconds = name, seconds
        self.cancel, self.before_end = cancel, before_end
        self.due = time.monotonic() + seconds + later
        self.ends = self.due + min(GRACE_SECONDS, max(seconds, _AGAIN_SECONDS))
        self.expired = False
        self.thread = threading.get_ident()

    def interrupt(self) -> None:
        """Raise the exception in its thread, and cancel what TensorFlow runs there."""
        self.expired = True
        _raise_in(self.thread, OutOfTimeError)
        with contextlib.suppress(Exception):  # TensorFlow may be in any state
            self.cancel()

    def end_process(self) -> None:
        """Save what there is, say in one line why, and end the process."""
        if self.before_end is not None:
            saving = threading.Thread(target=self.before_end, daemon=True)
            saving.start()
            saving.join(_SAVING_SECONDS)
        told = (
            f"lossfuzz: error: {self.name} took more than {self.seconds:g} s for one call, and "
            f"cannot be interrupted, so this process ends with exit code {TIMED_OUT}\n"
        )
        with contextlib.suppress(OSError):
            os.write(2, told.encode("ascii", "backslashreplace"))
        os._exit(TIMED_OUT)


class Watchdog:
    """The thread, which runs while a call with a limit is watched, and some time longer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[Watched] = []
        self._wakes = math.inf
        self._thread: threading.Thread | None = None

    def watch(self, call: Watched) -> None:
        """Interrupt this call when it is due."""
        with self._changed:
            self._calls.append(call)
            if self._thread is None:
                self._wakes = call.due
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            elif call.due < self._wakes:
                self._changed.notify()

    def forget(self, call: Watched) -> None:
        """Leave it alone from now on; an exception that is under way to it arrives here."""
        with self._changed:
            if call in self._calls:
                self._calls.remove(call)
        if call.expired:
            _receive()

    def _run(self) -> None:
        with self._changed:  # let go of in `wait` alone, so no call is over before it is ended
            while self._calls:
                now = time.monotonic()
                for call in self._calls:
                    if call.ends <= now:
                        call.end_process()
                    if call.due <= now:
                        call.interrupt()
                wakes = [one.due if one.due > now else now + _AGAIN_SECONDS for one in self._calls]
                self._wakes = min(wakes)
                self._changed.wait(max(0.0, self._wakes - now))
            self._thread = None


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Have Python raise an exception in a thread, when it comes back to Python's code there."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _receive() -> None:
    """Take the exception that may be under way to this thread, and that nobody waits for any more.

    Taking it back would leave the mark of it in CPython 3.11, where a mark without an exception is
    never cleared: all code is slower from then on, and code that is traced, as coverage and
    Hypothesis do, never goes on. So one more takes the place of it, and arrives at once.
    """
    try:
        _raise_in(threading.get_ident(), OutOfTimeError)
        while True:
            pass
    except OutOfTimeError:
        pass


WATCHDOG = Watchdog()


def _start_anew() -> None:
    """In a process that was forked off no such thread runs."""
    global WATCHDOG  # noqa: PLW0603 - there is one for each process
    WATCHDOG = Watchdog()


os.register_at_fork(after_in_child=_start_anew)
