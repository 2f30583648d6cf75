"""What lossfuzz finds of the planted losses, how soon and how small; beside Hypothesis alone.

For each planted loss of tests/planted: found or not, rows and seconds to the first finding, the
minimal row. Beside it what a careful user would write without lossfuzz: Hypothesis with NumPy
arrays and assert_allclose against float64 (`plain_hypothesis`), for as many seconds. Then the
sound twins, none of which may be flagged.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

import lossfuzz
from lossfuzz.checking import CHECK_SHAPES
from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.records.modes import MODES

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "planted")]

from plain_hypothesis import plain_hypothesis  # noqa: E402 - beside this file
from planted_collection import PLANTED  # noqa: E402 - of the tests
from sound_rows import SOUND_OF_ROWS, of_rows_alone  # noqa: E402 - of the tests
from sound_twins import SOUND  # noqa: E402 - of the tests

if TYPE_CHECKING:
    from planted_entry import Planted, Sound

    from lossfuzz.harness.results.run import RunResult

SECONDS = 20.0
SOUND_ROWS = 10_000_000
MANY_ROWS = ((4096, 2), (4096, 3), (2048, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunt:
    """How a search for a defect ended.

    Attributes:
        found: whether it found one.
        kind: of finding.
        rows: that were run, over all cells.
        seconds: until it was found and made small, or until the budget was spent.
        row: the minimal logits.
        where: the cell.
    """

    found: bool
    kind: str
    rows: int
    seconds: float
    row: tuple[float, ...] = ()
    where: str = ""


def hunt(
    entry: Planted | Sound,
    *,
    rows: int | None = None,
    seconds: float | None = None,
    shapes: tuple[tuple[int, ...], ...] | None = None,
    seed: int = 0,
) -> Hunt:
    """Check one loss in all formats that it is listed for and all modes."""
    started = time.perf_counter()
    most = getattr(entry, "most_classes", None)
    if most and shapes is None:
        shapes = tuple(one for one in CHECK_SHAPES if one[-1] <= most)
    try:
        result = lossfuzz.check(
            entry.loss,
            entry.against,
            formats=[name for name in ("float32", "float16", "bfloat16") if name in entry.formats],
            modes=[mode for mode in MODES if mode in getattr(entry, "modes", MODES)],
            reduction=entry.reduction,
            rows=rows,
            seconds=seconds,
            shapes=shapes,
            seed=seed,
        )
    except lossfuzz.LossDefect as defect:
        finding = defect.finding
        return Hunt(
            found=True,
            kind=finding.kind,
            rows=_rows(defect.result),
            seconds=time.perf_counter() - started,
            row=finding.logits,
            where=f"{finding.format} {finding.mode}",
        )
    except lossfuzz.LossRefusal as refusal:
        return Hunt(
            found=False,
            kind=f"refused: {refusal}",
            rows=_rows(refusal.result),
            seconds=time.perf_counter() - started,
        )
    seconds = time.perf_counter() - started
    return Hunt(found=False, kind="", rows=_rows(result), seconds=seconds)


def _rows(result: RunResult) -> int:
    return sum(one.summary.rows + one.searched for one in result.cells)


def hunt_planted(options: argparse.Namespace, console: Console) -> dict[str, object]:
    """Every planted loss, with lossfuzz and with Hypothesis alone."""
    table = Table("planted loss", "found", "rows", "s", "minimal row", "Hypothesis", "s")
    records = []
    for entry in _chosen(PLANTED, options.only):
        ours = hunt(entry, seconds=options.seconds, seed=options.seed)
        plain = plain_hypothesis(entry, options.seconds) if options.hypothesis else None
        console.print(
            f"{entry.name}: {_verdict(ours)}, {ours.rows} rows, {ours.seconds:.1f} s, "
            f"{_short(ours.row)} {ours.where}"
            + (f"; Hypothesis {_verdict(plain)}, {plain.seconds:.1f} s" if plain else ""),
            highlight=False,
            markup=False,
        )
        table.add_row(
            entry.name,
            ours.kind if ours.found else "NOT FOUND",
            f"{ours.rows:,}",
            f"{ours.seconds:.1f}",
            _short(ours.row),
            (plain.kind if plain.found else "not found") if plain else "",
            f"{plain.seconds:.1f}" if plain else "",
        )
        records.append(
            {
                "name": entry.name,
                "lossfuzz": asdict(ours),
                "hypothesis": asdict(plain) if plain else None,
            }
        )
    console.print(table)
    _conclude(records, console)
    return {"planted": records}


def _conclude(records: list[dict[str, object]], console: Console) -> None:
    for tool in ("lossfuzz", "hypothesis"):
        hunts = [one[tool] for one in records if one[tool]]
        if not hunts:
            continue
        found = [one for one in hunts if one["found"]]
        line = (
            f"{tool}: {len(found)} of {len(hunts)} found ({100 * len(found) / len(hunts):.1f} %)"
        )
        if found:
            seconds = statistics.median(one["seconds"] for one in found)
            classes = statistics.median(len(one["row"]) for one in found)
            line += f"; median {seconds:.2f} s, {classes:g} classes in the minimal row"
        console.print(line, highlight=False)


def hunt_sound(options: argparse.Namespace, console: Console) -> dict[str, object]:
    """Every sound twin, in all its formats and modes, and in the style of [rows, classes] too."""
    records = []
    styles = [of_rows_alone(one) for one in SOUND if one.reduction is None]
    for entry in _chosen((*SOUND, *SOUND_OF_ROWS, *styles), options.only):
        cells = len(entry.formats) * len(MODES)
        rows = -(-options.sound_rows // cells)
        one = hunt(entry, rows=rows // 10, seed=options.seed)
        if not one.kind:  # the other rows where they are cheap: in large batches of few classes
            more = hunt(entry, rows=rows - rows // 10, shapes=MANY_ROWS, seed=options.seed)
            one = replace(more, rows=more.rows + one.rows, seconds=more.seconds + one.seconds)
        console.print(
            f"{entry.name}: {'FLAGGED: ' + one.kind if one.kind else 'not flagged'} in "
            f"{one.rows:,} rows of {cells} cells, {one.seconds:.0f} s "
            f"{_short(one.row) if one.row else ''} {one.where}",
            highlight=False,
            markup=False,
        )
        plain = plain_hypothesis(entry, options.seconds) if options.hypothesis else None
        if plain:
            console.print(f"    Hypothesis: {'flagged' if plain.found else 'not flagged'}")
        records.append(
            {
                "name": entry.name,
                "lossfuzz": asdict(one),
                "hypothesis": asdict(plain) if plain else None,
            }
        )
    flagged = sum(bool(one["lossfuzz"]["kind"]) for one in records)
    console.print(f"{flagged} of {len(records)} sound twins flagged", highlight=False)
    return {"sound": records}


def _chosen(
    entries: tuple[Planted, ...] | tuple[Sound, ...], only: list[str] | None
) -> list[Planted | Sound]:
    return [
        one
        for one in entries
        if not only or any(fnmatchcase(one.name, pattern) for pattern in only)
    ]


def _verdict(hunted: Hunt) -> str:
    return hunted.kind if hunted.found else "not found"


def _short(row: tuple[float, ...]) -> str:
    shown = ", ".join(f"{value:g}" for value in row[:4])
    return f"[{shown}{', …' if len(row) > 4 else ''}]" + (f" {len(row)}" if len(row) > 4 else "")


def main() -> None:
    """Run what was asked for, print it, and keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("planted", "sound", "all"), nargs="?", default="all")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="names of losses")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each planted loss")
    parser.add_argument("--seed", type=int, default=0, help="of all rows")
    parser.add_argument("--sound-rows", type=int, default=SOUND_ROWS, help="for each sound twin")
    parser.add_argument(
        "--hypothesis", action=argparse.BooleanOptionalAction, default=True, help="beside it"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the figures as JSON")
    options = parser.parse_args()
    console = Console(width=160)
    start_tensorflow()
    hunt(SOUND[0], rows=300)  # what loads on first use is not counted
    found: dict[str, object] = {}
    if options.what in ("planted", "all"):
        found |= hunt_planted(options, console)
    if options.what in ("sound", "all"):
        found |= hunt_sound(options, console)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
