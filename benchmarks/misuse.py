"""What a user may type wrong, what may happen around it, and what a stranger may send.

Every case of `misuses` is run in a process of its own, in a fresh folder, and judged: no
traceback of ours, no failure that we call internal, the exit code that is right, what must be
said, no hang, nothing silent, no escape sequence, no process or temporary file left behind,
nothing written outside its folder, nothing changed that was refused. Prints a table by category,
and every failure; exit code 1 if there is one.

``--flips N`` flips N single bits of a run's results, of a campaign's store and of a baseline, one
at a time: each must be refused in one line, or change no figure.
"""

from __future__ import annotations

import argparse
import collections
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from misuses.arguments import ARGUMENTS
from misuses.environment import LOCALE_CASES, NAIVE, OUTPUTS, SIGNALS, STREAMS, SURROUNDINGS
from misuses.flips import flipped
from misuses.hostile import NAMES, PROGRAMS, RECORDS, RUNNING
from misuses.judge import Verdict, judged
from misuses.losses import FORMULAS, IMPORTS, LOSSES
from misuses.plugin import PLUGIN
from misuses.stores import LINKS, ODD_FOLDERS, RESULTS_FILES, STORES, VERSIONS

from lossfuzz.baseline import StoredCheck, written
from lossfuzz.stored import read

if TYPE_CHECKING:
    from misuses.case import Case, Table

CATEGORIES: dict[str, Table] = {
    "arguments and sizes": ARGUMENTS,
    **LOSSES,
    "own losses by name": IMPORTS,
    "formulas": FORMULAS,
    "locales": LOCALE_CASES,
    "streams": STREAMS,
    "surroundings": SURROUNDINGS,
    "signals": SIGNALS,
    "outputs": OUTPUTS,
    "stores": STORES,
    "results": RESULTS_FILES,
    "odd folders": ODD_FOLDERS,
    "links": LINKS,
    "versions": VERSIONS,
    "hostile: modules": RUNNING,
    "hostile: programs": PROGRAMS,
    "hostile: names": NAMES,
    "findings' records": RECORDS,
    "pytest": PLUGIN,
}


def seeded(place: Path) -> None:
    """Make what the cases begin with: a small campaign, a small run, a finding, a baseline."""
    place.mkdir()
    made = {"night": "--workers 1 --seed 1", "plain": "--seed 2"}
    for name, options in made.items():
        line = [*NAIVE.split()[1:], *options.split(), "--quiet", "--out", name]
        subprocess.run([sys.executable, "-m", "lossfuzz", *line], cwd=place, check=True)  # noqa: S603 - our own command line
        (place / name / "report.html").unlink()
    lines = ["replay", "plain#1", "--script", "finding.py"]
    subprocess.run([sys.executable, "-m", "lossfuzz", *lines], cwd=place, check=True)  # noqa: S603 - the same
    result = read(place / "plain", with_findings=True)
    (place / "finding.json").write_text(as_json(result.worst[0].to_json()))
    check = StoredCheck(test="test_one.py::test_one", number=0, record=result.to_json())
    (place / "baseline.json").write_text(written([check]))


def as_json(record: object) -> str:
    """A record as text."""
    import json

    return json.dumps(record)


def chosen(only: list[str] | None) -> list[tuple[str, Case]]:
    """The cases whose category and name match one of the patterns, all by default."""
    cases = [(category, case) for category, table in CATEGORIES.items() for case in table]
    patterns = [re.compile(pattern, re.IGNORECASE) for pattern in only or [""]]
    return [
        (category, case)
        for category, case in cases
        if any(pattern.search(f"{category}: {case.name}") for pattern in patterns)
    ]


def told(verdict: Verdict) -> str:
    """A failure, with what was run and what it printed."""
    lines = [f"{verdict.category}: {verdict.case.name}  ({verdict.seconds:.1f} s)"]
    lines += [f"    FAULT {fault}" for fault in verdict.faults]
    lines += [f"    $ {verdict.case.command[:300]}"]
    lines += [f"    | {line}" for line in verdict.tail]
    return "\n".join(lines)


def table_of(verdicts: list[Verdict]) -> str:
    """Counts by category."""
    lines = [f"{'category':28}{'cases':>7}{'failed':>8}{'seconds':>9}"]
    for category in CATEGORIES:
        of_it = [one for one in verdicts if one.category == category]
        if of_it:
            failed = sum(bool(one.faults) for one in of_it)
            seconds = sum(one.seconds for one in of_it)
            lines.append(f"{category:28}{len(of_it):7}{failed:8}{seconds:9.0f}")
    failed = sum(bool(one.faults) for one in verdicts)
    lines.append(f"{'all':28}{len(verdicts):7}{failed:8}")
    return "\n".join(lines)


def main() -> None:
    """Run all that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", action="append", metavar="PATTERN", help="'category: name'")
    parser.add_argument("--list", action="store_true", help="print the cases, run none")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at once (2)")
    parser.add_argument("--flips", type=int, default=0, metavar="N", help="bits of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the flips (0)")
    options = parser.parse_args()
    cases = chosen(options.only)
    names = collections.Counter((category, case.name) for category, case in cases)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        parser.error(f"cases of the same name: {twice}")
    if options.list:
        print(*(f"{category}: {case.name}" for category, case in cases), sep="\n")
        print(f"{len(cases)} cases")
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="misuse-") as name:
        place = Path(name)
        seeded(place / "seeds")
        if options.flips:
            scratch = place / "flips"
            raise SystemExit(
                int(flipped(place / "seeds", scratch, options.flips, options.seed) > 0)
            )
        verdicts = []
        with ThreadPoolExecutor(options.jobs) as pool:
            runs = [
                pool.submit(judged, case, category, place / "seeds", place / f"case-{number}")
                for number, (category, case) in enumerate(cases)
            ]
            for run in runs:
                verdict = run.result()
                verdicts.append(verdict)
                if verdict.faults:
                    print(told(verdict), flush=True)
        shutil.rmtree(place / "seeds")
    print(table_of(verdicts))
    print(f"{time.monotonic() - started:.0f} s")
    raise SystemExit(any(one.faults for one in verdicts))


if __name__ == "__main__":
    main()
