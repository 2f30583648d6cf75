"""How a process ended, in words."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGSEGV; its number where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)  # one of real time


def ending(code: int) -> str:
    """What a process ended with, such as "signal SIGSEGV" or "exit code 3".

    Args:
        code: the exit code of `subprocess`, which is negative for a signal.
    """
    return f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
