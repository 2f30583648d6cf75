"""The end of a command's process is told, whatever code of a user's did to it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = """
import ctypes, os, signal, sys, time
from lossfuzz.supervised import supervised

def work():
    {body}
    return 1

sys.exit(supervised(work, ["mine:loss"]))
"""


def started(body):
    line = [sys.executable, "-c", HEAD.format(body=body)]
    return subprocess.Popen(  # noqa: S603 - ours
        line,
        cwd=Path(__file__).parent,  # not where the sources' folders would hide the package
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("os._exit(0)", 2, "with exit code 0 before it had a result"),
        ("os._exit(3)", 2, "with exit code 3 before it had a result"),
        ("ctypes.string_at(0)", 2, "with signal SIGSEGV before"),
        ("os.abort()", 2, "with signal SIGABRT before"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 2, "with signal SIGKILL before"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "with signal SIGTERM before"),
        ("os.closerange(0, 1000)", 2, "with exit code 1"),
    ],
)
def test_an_end_without_a_result_is_one_line_that_names_the_code(body, code, told):
    with started(body) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    (line,) = [line for line in err.splitlines() if line.startswith("lossfuzz: error: ")]
    assert told in line
    assert "mine:loss" in line


def test_work_that_stops_itself_is_ended():
    started_at = time.monotonic()
    with started("os.kill(os.getpid(), signal.SIGSTOP)") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "stopped itself and was ended after 10 s before it had a result" in err
    assert time.monotonic() - started_at < 30


def test_work_that_is_stopped_for_a_moment_goes_on():
    body = "print(os.getpid(), flush=True)\n    sys.stdin.readline()\n    print('on', flush=True)"
    line = [sys.executable, "-c", HEAD.format(body=body)]
    with subprocess.Popen(  # noqa: S603 - ours
        line, cwd=Path(__file__).parent, stdin=-1, stdout=-1, text=True
    ) as process:
        worker = int(process.stdout.readline())
        os.kill(worker, signal.SIGSTOP)
        time.sleep(0.5)
        os.kill(worker, signal.SIGCONT)
        out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (1, "on\n")


def test_processes_that_are_left_are_ended():
    sleeping = "[sys.executable, '-c', 'import time; time.sleep(1000)']"
    body = (
        "import subprocess\n"
        f"    one = subprocess.Popen({sleeping}, start_new_session=True)\n"
        "    print(one.pid, flush=True)"
    )
    with started(body) as process:
        left = int(process.stdout.readline())
        process.communicate(timeout=60)
    assert process.returncode == 1
    with pytest.raises(ProcessLookupError):
        state_of(left)


def test_a_thread_that_is_left_does_not_keep_the_process():
    body = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "import atexit; atexit.register(print, 'at exit')\n"
        "from lossfuzz.supervised import leave; print('shown'); leave(3)"
    )
    ended = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", body],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "shown\nat exit\n")


def test_a_result_is_passed_on_and_nothing_is_told():
    with started("print('shown', flush=True)") as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (1, "shown\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_work_once(number):
    body = (
        "got = []\n    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "        signal.signal(one, lambda number, _: got.append(number))\n"
        "    print('ready', flush=True)\n    time.sleep(1); time.sleep(1)\n"
        "    print(*got, flush=True)"
    )
    with started(body) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (1, f"{int(number)}\n", "")


def test_the_work_ends_with_the_process_that_was_started():
    with started("print(os.getpid(), flush=True)\n    time.sleep(1000)") as process:
        worker = int(process.stdout.readline())
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline and state_of(worker) != "Z":
                time.sleep(0.05)
        assert time.monotonic() < deadline


def state_of(number):
    """Of a process, as Linux tells it; Z of one that has ended and is not awaited yet."""
    try:
        with open(f"/proc/{number}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        raise ProcessLookupError from None
