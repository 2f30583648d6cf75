"""How long the page of a large campaign takes, and how large it is.

Every path is measured in every format, in eager mode, on few rows, or a stored run is taken. Then
each cell stands for all three modes, with its summary merged with itself until it holds so many
logits: what a campaign of that size would leave. Nothing about it is made up but its size.

    python benchmarks/report.py [FOLDER] [--logits 1e8]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.summary import Summary
from lossfuzz.plan import Plan
from lossfuzz.reports import html
from lossfuzz.running import run
from lossfuzz.stored import read

if TYPE_CHECKING:
    from lossfuzz.harness.results.run import CellResult, RunResult

ROWS = 1536
LONGEST_SECONDS = 10.0
LARGEST_BYTES = 5_000_000


def in_every_mode(result: RunResult) -> list[CellResult]:
    """The cells, those of a run in one mode once for each mode."""
    if len({one.cell.mode for one in result.cells}) > 1:
        return result.cells
    return [
        replace(one, cell=replace(one.cell, mode=mode)) for one in result.cells for mode in MODES
    ]


def grown(summary: Summary, logits: float) -> Summary:
    """A summary merged with itself, doubling, until it holds so many logits."""
    total = Summary.from_json(summary.to_json())
    while 0 < total.gradient_ulp.total < logits:
        total.merge(Summary.from_json(total.to_json()))
    return total


def main() -> None:
    """Print the figures; exits with an error if a bound is exceeded."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", help="of a stored run or campaign")
    parser.add_argument("--logits", type=float, default=1e8, help="measured, of every cell")
    options = parser.parse_args()
    small = read(options.folder) if options.folder else run(Plan(modes=("eager",), rows=ROWS))
    cells = [
        replace(one, summary=grown(one.summary, options.logits)) for one in in_every_mode(small)
    ]
    measured = [one.summary.gradient_ulp.total for one in cells if one.summary.judged]
    started = time.perf_counter()
    page = html.render(replace(small, cells=cells))
    seconds, size = time.perf_counter() - started, len(page.encode())
    print(
        f"{len(cells)} cells, {min(measured):.2g} logits each or more, {sum(measured):.2g} in all"
    )
    print(f"{len(small.worst)} findings, {len(small.causes)} causes")
    print(f"page made in {seconds:.2f} s; {size / 1e6:.2f} MB")
    if seconds > LONGEST_SECONDS or size > LARGEST_BYTES:
        raise SystemExit(f"expected {LONGEST_SECONDS:g} s and {LARGEST_BYTES / 1e6:g} MB at most")


if __name__ == "__main__":
    main()
