"""How much may be asked for: numbers of the command line, and what this machine has room for."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

MOST_SECONDS = 1e8
"""Of a limit: three years."""

MOST_LOGICAL_CPUS = 1024

BYTES_PER_LOGIT = 512
"""What measuring a batch holds for each of its logits, reference and records included: 340 bytes
were measured for a batch of 1x4000000, 530 for the rows of ``lossfuzz cliffs``."""

BYTES_OF_A_STEP = 64
"""The same of ``lossfuzz memory``, which measures no errors: the logits, and some twelve times
their size in float32."""

BYTES_OF_A_WORKER = 500 << 20
"""What a process holds once TensorFlow has started."""

_SHOWN = 40
_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    found = [os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUPS:
        try:
            found.append(int(path.read_text("ascii")))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return min(found)


def check_fits(shape: tuple[int, ...], *, each: int = BYTES_PER_LOGIT) -> None:
    """See that a batch has room in this machine's memory.

    Args:
        shape: of its logits.
        each: bytes for one of them.

    Raises:
        ValueError: it has none; the message says what would have.
    """
    memory, logits = machine_memory(), math.prod(shape)
    if logits * each > memory:
        raise ValueError(
            f"a batch of {_short('x'.join(map(str, shape)))} is too large: {counted(logits)} "
            f"logits need some {_gib(logits * each)} ({each} bytes each), this machine has "
            f"{_gib(memory)}; expected at most {memory // each:,} logits in a batch"
        )


def whole(text: str) -> int:
    """The whole number that an argument gives.

    Raises:
        argparse.ArgumentTypeError: it gives none.
    """
    try:
        return int(text)
    except ValueError:  # of 4,300 digits and more, too
        raise argparse.ArgumentTypeError(f"invalid int value: {_short(text)!r}") from None


def logical_cpus(text: str) -> int:
    """How many devices the CPU is split into.

    Raises:
        argparse.ArgumentTypeError: fewer than one, or more than make sense.
    """
    return _between(text, MOST_LOGICAL_CPUS, "")


def workers(text: str) -> int:
    """How many worker processes a campaign gets.

    Raises:
        argparse.ArgumentTypeError: fewer than one, or more than the memory holds.
    """
    memory = machine_memory()
    return _between(
        text,
        max(1, memory // BYTES_OF_A_WORKER),
        f": a worker holds {BYTES_OF_A_WORKER >> 20} MiB at the least, this machine has "
        f"{_gib(memory)}",
    )


def mebibytes(text: str) -> int:
    """A limit of memory.

    Raises:
        argparse.ArgumentTypeError: it is below one.
    """
    found = whole(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"expects 1 MiB or more, got {counted(found)}")
    return found


def seconds(text: str) -> float:
    """A limit of time.

    Raises:
        argparse.ArgumentTypeError: it is no number, not above 0, or longer than makes sense.
    """
    try:
        found = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: {_short(text)!r}") from None
    if not 0 < found <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expects seconds above 0, and at most {MOST_SECONDS:,.0f}, got {_short(text)}"
        )
    return found


def _between(text: str, most: int, why: str) -> int:
    found = whole(text)
    if found < 1:
        raise argparse.ArgumentTypeError(f"expects 1 or more, got {counted(found)}")
    if found > most:
        raise argparse.ArgumentTypeError(f"expects at most {most:,}, got {counted(found)}{why}")
    return found


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def counted(number: int) -> str:
    """A number in full, or of a long one about how large it is, for a message."""
    return f"{number:,}" if abs(number) < 1e18 else f"{_large(number)}"


def _large(number: int) -> str:
    digits = str(abs(number))
    sign = "-" if number < 0 else ""
    return f"{sign}{digits[0]}.{digits[1:3]}e+{len(digits) - 1}"


def _gib(size: int) -> str:
    gib = size / (1 << 30) if size < 1e30 else float(size >> 30)
    return f"{gib:,.1f} GiB" if gib < 1e9 else f"{gib:.3g} GiB"
