"""How a process ended, in words."""

import signal
import subprocess
import sys

import pytest

from lossfuzz.harness.records.exit_status import ending, signal_name


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import sys; sys.exit(3)", "exit code 3"),
        ("pass", "exit code 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
        ("import os; os.kill(os.getpid(), 40)", "signal 40"),
    ],
)
def test_how_a_process_ended(program, told):
    ended = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: S603
    assert ending(ended.returncode) == told


def test_a_signal_without_a_name_is_told_by_its_number():
    assert signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert signal_name(40) == "40"
