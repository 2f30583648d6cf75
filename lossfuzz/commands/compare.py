"""``lossfuzz compare``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.text import Text

from lossfuzz.commands.choices import shape_group
from lossfuzz.commands.console import wide_console
from lossfuzz.commands.files import STANDARD_OUTPUT, check_file, write_text
from lossfuzz.comparison import compare
from lossfuzz.errors import UsageError
from lossfuzz.reports import comparison as tables
from lossfuzz.reports import html_comparison, markdown_comparison
from lossfuzz.reports.grid import Column, Line, show
from lossfuzz.reports.words import amount, listing
from lossfuzz.stored import read

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rich.console import Console

    from lossfuzz.harness.results.run import RunResult
    from lossfuzz.reports.comparison import Comparison

_LINES = 60
_LEAST = {"measure": 12, "A": 12, "B": 12}
_LEAST_TELLING = ("p", "device")
_STYLES = {
    tables.WORSE: "bold red",
    tables.NOW_UNAVAILABLE: "bold red",
    tables.BETTER: "green",
    tables.NOW_AVAILABLE: "green",
}


def compare_command(options: argparse.Namespace) -> int:
    """``lossfuzz compare``: 0, or 1 where a cell got worse or no longer runs.

    Raises:
        UsageError: a run cannot be read, or the two have nothing in common.
    """
    if not 0 < options.level < 1:
        raise UsageError(f"--level expects a chance between 0 and 1, got {options.level:g}")
    for file in (options.json, options.html, options.markdown):
        check_file(file)
    before, after = read(options.before), read(options.after)
    for path, run in ((options.before, before), (options.after, after)):
        _check_shapes(path, run)
    _check_common(before, after, options)
    found = compare(before, after, level=options.level)
    if options.json is not None:
        write_text(options.json, json.dumps(found.to_json(), indent=1, allow_nan=False))
    if options.html is not None:
        names = str(options.before), str(options.after)
        write_text(options.html, html_comparison.render(found, before, after, names=names))
    if options.markdown is not None:
        names = str(options.before), str(options.after)
        write_text(options.markdown, markdown_comparison.render(found, names=names))
    console = wide_console(stderr=options.markdown == STANDARD_OUTPUT)
    if not options.quiet:
        _show(found, console)
        for name, run in ((options.before, before), (options.after, after)):
            if run.interrupted:
                console.print(Text(f"{name} was interrupted: it counts as far as it came."))
    console.print(Text(tables.verdict(found), style="bold"))
    return int(found.regression)


def _check_shapes(path: Path, run: RunResult) -> None:
    """See that the shapes of a plan that was read are some: samples are counted by them.

    Raises:
        UsageError: one is none.
    """
    for plan in run.plan.get("joined", [run.plan]):
        try:
            for text in plan["shapes"]:
                shape_group(text)
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{str(path)!r} cannot be read here ({error}); it may be damaged or come from "
                "another version"
            ) from None


def _check_common(before: RunResult, after: RunResult, options: argparse.Namespace) -> None:
    names = [{one.cell.name for one in run.cells} for run in (before, after)]
    if names[0] & names[1]:
        return
    told = []
    for path, run in ((options.before, before), (options.after, after)):
        losses = dict.fromkeys(one.cell.path.loss.name for one in run.cells)
        first = f", such as {run.cells[0].cell.name!r}" if run.cells else ""
        told.append(f"{str(path)!r} measured {listing([*losses][:3]) or 'nothing'}{first}")
    raise UsageError("the two runs have no cell in common: " + "; ".join(told))


def _show(found: Comparison, console: Console) -> None:
    lines = tables.rows(found)
    if lines:
        columns = [
            Column(
                name=name,
                heading=name,
                least=_LEAST.get(name),
                rank=_LEAST_TELLING.index(name) + 1 if name in _LEAST_TELLING else 0,
            )
            for name in tables.COLUMNS
        ]
        shown = [Line(texts=line, styles={0: _STYLES.get(line[0], "")}) for line in lines[:_LINES]]
        show(console, columns, shown, leading=2)
    if len(lines) > _LINES:
        console.print(Text(f"and {amount(len(lines) - _LINES, 'line')} more: --json FILE has all"))
    routes = tables.route_lines(found)
    if routes:
        console.print(Text("Other routes:"))
        for change in routes:
            console.print(Text("  " + change))
    for note in tables.notes(found):
        console.print(Text(note))
