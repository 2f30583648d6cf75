"""What a process has to know of another one on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def module_paths() -> list[str]:
    """Where a worker finds this package and TensorFlow; users' modules by `folders` alone.

    Never the folder here, nor another one whose own folder named lossfuzz would hide the package.
    """
    here, package = str(Path.cwd()), Path(__file__).parents[1]
    return [path for path in sys.path if path not in ("", here) and not _hides(path, package)]


def _hides(folder: str, package: Path) -> bool:
    other = Path(folder) / package.name
    return other.is_dir() and other.resolve() != package.resolve()


def resident_bytes(pid: int) -> int:
    """The memory that a process holds, in bytes; 0 where that cannot be seen."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0  # gone, or a system without /proc: then no limit is watched
    return pages * os.sysconf("SC_PAGESIZE")


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped, as by SIGSTOP; False where that cannot be seen."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "T"


def end_with_parent(parent: int) -> None:
    """End this process with its parent, even from the midst of C code that lets no thread run.

    Args:
        parent: the number of the process that started this one.
    """
    with contextlib.suppress(OSError, AttributeError):  # only Linux knows it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
