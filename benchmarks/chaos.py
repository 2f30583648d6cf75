"""A chaos run: kill workers and coordinator at random moments, resume, and compare the results.

The same plan is carried out twice: undisturbed, and with ``kill -9`` of a random worker or of the
coordinator itself at random moments, resumed until it is complete. Every byte of results.json must
be the same. Exit code 1 if one is not.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOSSFUZZ = [sys.executable, "-m", "lossfuzz"]


def workers_of(pid: int) -> list[int]:
    """The workers that a coordinator started and that still run."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split() if b"campaign.worker" in _command_of(child)]


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def command(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start the command line, away from any folder that is named like the package."""
    return subprocess.Popen(  # noqa: S603 - our own command line
        [*LOSSFUZZ, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(arguments: list[str], folder: Path) -> float:
    """Run the command line to its end; returns the seconds it took."""
    started = time.monotonic()
    process = command(arguments, folder)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}: {errors.decode()}")
    return time.monotonic() - started


def disturb(process: subprocess.Popen[bytes], moments: random.Random, pause: float) -> str:
    """Wait for a random moment, then kill a worker or the coordinator; returns which.

    Returns ``end`` if the campaign ended before that moment.
    """
    deadline = time.monotonic() + moments.uniform(0.1, pause)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return "end"
        time.sleep(0.02)
    victim = moments.choice([process.pid, *workers_of(process.pid)])
    os.kill(victim, signal.SIGKILL)
    if victim != process.pid:
        return "worker"
    process.communicate()
    return "coordinator"


def begin(process: subprocess.Popen[bytes], store: Path) -> None:
    """Wait until a campaign has its store: before, there is nothing to go on from."""
    while process.poll() is None and not store.exists():
        time.sleep(0.02)


def main() -> None:
    """Print what was killed, and whether the results are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="processes to kill (20)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument(
        "--pause", type=float, default=25.0, help="longest time between kills (25)"
    )
    parser.add_argument(
        "plan", nargs="*", default=["--modes", "eager,graph", "--rows", "3000"], help="of the run"
    )
    options = parser.parse_args()
    moments = random.Random(options.seed)
    workers = ["--workers", str(options.workers), "--quiet"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        undisturbed = finish(["run", *options.plan, *workers, "--out", "calm"], folder)
        print(f"undisturbed: {undisturbed:.0f} s")
        killed = {"worker": 0, "coordinator": 0}
        run, resume = (["run", *options.plan, *workers, "--out", "chaos"], ["resume", "chaos"])
        process = command(run, folder)
        begin(process, folder / "chaos" / "campaign.sqlite")
        while sum(killed.values()) < options.kills:
            what = disturb(process, moments, options.pause)
            if what == "end":
                break
            killed[what] += 1
            print(f"{sum(killed.values())}: killed a {what}", flush=True)
            if what == "coordinator":
                begun = (folder / "chaos" / "campaign.sqlite").exists()
                process = command([*resume, *workers] if begun else run, folder)
        process.communicate()
        finish([*resume, *workers], folder)
        same = (folder / "calm" / "results.json").read_bytes() == (
            folder / "chaos" / "results.json"
        ).read_bytes()
    total = sum(killed.values())
    print(f"{killed}; results are " + ("the same, byte for byte" if same else "DIFFERENT"))
    if total < options.kills:
        print(f"the campaign ended after {total} of {options.kills} kills: give it more rows")
    sys.exit(not same or total < options.kills)


if __name__ == "__main__":
    main()
