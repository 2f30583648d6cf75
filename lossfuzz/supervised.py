"""A command that calls users' code, in a process whose end does not pass in silence.

A loss may end its process: by a segmentation fault, or by ``os._exit``, whose code may be 0. The
command then runs in a forked process, and the one that was started waits for it and has the last
word: it tells how the other one ended, ends one that was stopped, and ends what the loss has
started and left.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz.campaign.machine import end_with_parent
from lossfuzz.errors import USAGE_ERROR
from lossfuzz.harness.records.exit_status import ending
from lossfuzz.harness.records.printable import one_line
from lossfuzz.harness.users.time_limit import TIMED_OUT
from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_AWAITED = (*_PASSED_ON, signal.SIGCHLD)
_STOPPED_SECONDS = 10.0
_GRACE_SECONDS = 3.0
_PR_SET_CHILD_SUBREAPER = 36


def supervised(work: Callable[[], int], names: Sequence[str]) -> int:
    """Do a command's work in a forked process, and tell if that ends before the work does.

    Returns in both processes: the work's exit code in the forked one, and that of the forked one
    in the first. Signals that end a command are passed on. Where the system cannot tell who sent a
    signal, the work is done here.

    Args:
        work: to be done, before which no thread has been started.
        names: of the users' code that it calls.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS has none
        return work()
    _adopt()
    heard = _standard_error()
    done = mmap.mmap(-1, 1)  # shared by both, and no descriptor that a loss could close
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    parent, child = os.getpid(), os.fork()
    if child:
        status, stopped = _end_of(child)
        _end_what_is_left()
        return _last_word(status, names, is_done=done[0] == 1, stopped=stopped)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end_with_parent(parent)
    code = work()
    done[0] = _standard_error() == heard
    return code


def _standard_error() -> tuple[int, int] | None:
    """Where descriptor 2 leads, which a loss may have closed so that nothing is told any more."""
    try:
        found = os.fstat(2)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _adopt() -> None:
    """Become the parent of whatever is left of the forked process when it ends."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux knows it
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_of(child: int) -> tuple[int, bool]:
    """Wait for a process; returns its status, and whether it was ended since it was stopped.

    The terminal sends Ctrl-C to both processes; what somebody sends to this one is passed on. A
    whole command that is stopped, such as by Ctrl-Z, waits for as long as it is; a process that
    is stopped alone, as a loss can do to its own, is ended after a while.
    """
    kill_at = math.inf
    while True:
        found = signal.sigtimedwait(_AWAITED, min(max(0.0, kill_at - time.monotonic()), 3600.0))
        if found is None and time.monotonic() >= kill_at:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1], True
        if found is not None and found.si_signo != signal.SIGCHLD:
            if found.si_code <= 0:  # SI_USER and its kin; the kernel's own are above
                os.kill(child, found.si_signo)
            continue
        while True:
            ended, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not ended:
                break
            if os.WIFSTOPPED(status):
                kill_at = time.monotonic() + _STOPPED_SECONDS
            elif os.WIFCONTINUED(status):
                kill_at = math.inf
            else:
                return status, False


def _end_what_is_left() -> None:
    """End the processes that the forked one has started and left, once they had time to end."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while children := _children():
        for child in children:
            if time.monotonic() >= deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


def _children() -> list[int]:
    """Processes whose parent this one is; none where the system does not tell."""
    own = os.getpid()
    try:
        return list(map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split()))
    except OSError:
        return []


def leave(code: int) -> None:
    """End this process, if a thread that a loss has left would keep it for ever."""
    main = threading.main_thread()
    if any(one is not main and not one.daemon for one in threading.enumerate()):
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()  # noqa: SLF001 - what `sys.exit` would run, but for the threads
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _last_word(status: int, names: Sequence[str], *, is_done: bool, stopped: bool) -> int:
    """The exit code of a forked process, told if nobody has told it."""
    code = os.waitstatus_to_exitcode(status)
    if (is_done and code >= 0) or code == TIMED_OUT:  # which the watchdog has told
        return code
    when = "after its result was there" if is_done else "before it had a result"
    code_of_yours = listing(names, most=4) if names else "what the stored run names"
    how = f"stopped itself and was ended after {_STOPPED_SECONDS:g} s" if stopped else ""
    print(  # noqa: T201 - the command's own line
        f"lossfuzz: error: the command's process {how or f'ended with {ending(code)}'} {when}, as "
        f"code of yours may have ended it: {one_line(code_of_yours)}; a campaign (--workers 1) "
        "makes a finding of a loss that ends its process on some rows, and goes on",
        file=sys.stderr,
    )
    return 128 - code if -code in _PASSED_ON and not stopped else USAGE_ERROR
