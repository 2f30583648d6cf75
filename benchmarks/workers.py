"""Rows a second of a campaign with one worker and with two, and the coordinator's memory.

Each campaign is run twice as long for the second figure, so that start-up, tracing and compiling
cancel in the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHOICES = ["--modes", "eager,graph", "--formats", "float32", "--shapes", "256x10", "--quiet"]


def campaign(folder: Path, workers: int, rows: int, paths: str) -> tuple[float, int, float]:
    """Seconds, rows and the coordinator's peak memory in MiB of one campaign."""
    out = folder / f"{workers}-{rows}"
    arguments = ["run", *CHOICES, "--paths", paths, "--rows", str(rows), "--out", str(out)]
    started = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - our own command line
        [sys.executable, "-m", "lossfuzz", *arguments, "--workers", str(workers)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        sys.exit(f"the campaign with {workers} workers ended with {code}")
    cells = json.loads((out / "results.json").read_text())["cells"]
    measured = sum(cell["summary"]["rows"] for cell in cells)
    return time.monotonic() - started, measured, usage.ru_maxrss / 1024


def main() -> None:
    """Print the figures and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000, help="per cell (30000)")
    parser.add_argument("--paths", default="keras/*", help="a pattern (keras/*)")
    options = parser.parse_args()
    speeds = {}
    with tempfile.TemporaryDirectory() as name:
        for workers in (1, 2):
            found = [
                campaign(Path(name), workers, rows, options.paths)
                for rows in (options.rows, 2 * options.rows)
            ]
            (seconds, rows, memory), (longer, more, memory_after) = found
            speeds[workers] = (more - rows) / (longer - seconds)
            print(
                f"{workers} workers: {speeds[workers]:,.0f} rows a second; whole campaigns took "
                f"{seconds:.0f} s and {longer:.0f} s; coordinator's peak memory {memory:.0f} MiB "
                f"for {rows:,} rows, {memory_after:.0f} MiB for {more:,}",
                flush=True,
            )
    print(f"two workers do {speeds[2] / speeds[1]:.2f} times the rows of one")


if __name__ == "__main__":
    main()
