"""A command that calls users' code, in a process whose end does not pass in silence.

A loss may end its process: by a segmentation fault, or by ``os._exit``, whose code may be 0. The
command then runs in a forked process, and the one that was started waits for it and has the last
word.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from typing import TYPE_CHECKING

from lossfuzz.campaign.machine import end_with_parent
from lossfuzz.errors import USAGE_ERROR
from lossfuzz.harness.exit_status import ending
from lossfuzz.harness.printable import one_line
from lossfuzz.harness.time_limit import TIMED_OUT
from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_AWAITED = (*_PASSED_ON, signal.SIGCHLD)


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
    heard = _standard_error()
    done = mmap.mmap(-1, 1)  # shared by both, and no descriptor that a loss could close
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    parent, child = os.getpid(), os.fork()
    if child:
        return _last_word(_end_of(child), names, is_done=done[0] == 1)
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


def _end_of(child: int) -> int:
    """Wait for a process; returns its status.

    The terminal sends Ctrl-C to both processes; what somebody sends to this one is passed on.
    """
    while True:
        found = signal.sigwaitinfo(_AWAITED)
        if found.si_signo != signal.SIGCHLD:
            if found.si_code <= 0:  # SI_USER and its kin; the kernel's own are above
                os.kill(child, found.si_signo)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status


def _last_word(status: int, names: Sequence[str], *, is_done: bool) -> int:
    """The exit code of a forked process, told if nobody has told it."""
    code = os.waitstatus_to_exitcode(status)
    if (is_done and code >= 0) or code == TIMED_OUT:  # which the watchdog has told
        return code
    when = "after its result was there" if is_done else "before it had a result"
    code_of_yours = listing(names, most=4) if names else "what the stored run names"
    print(  # noqa: T201 - the command's own line
        f"lossfuzz: error: the command's process ended with {ending(code)} {when}, as "
        f"code of yours may have ended it: {one_line(code_of_yours)}; a campaign (--workers 1) "
        "makes a finding of a loss that ends its process on some rows, and goes on",
        file=sys.stderr,
    )
    return 128 - code if -code in _PASSED_ON else USAGE_ERROR
