"""``lossfuzz compare``."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from lossfuzz.campaign.outcome import merged
from lossfuzz.campaign.store import FILE, Store
from lossfuzz.commands.console import wide_console
from lossfuzz.comparison import compare
from lossfuzz.errors import UsageError
from lossfuzz.harness.results import CellResult, RunResult
from lossfuzz.plan import Plan
from lossfuzz.reports import comparison as tables

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rich.console import Console

    from lossfuzz.reports.comparison import Comparison

SCHEMA = 1
"""Of the results.json that is read."""

_PLANNED = ("families", "shapes", "rows", "seed")
_RESULTS = "results.json"
_LINES = 60
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
    before, after = read(options.before), read(options.after)
    _check_common(before, after, options)
    found = compare(before, after, level=options.level)
    if options.json is not None:
        text = json.dumps(found.to_json(), indent=1, allow_nan=False)
        try:
            options.json.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {str(options.json)!r}: {error.strerror}") from None
    console = wide_console()
    if not options.quiet:
        _show(found, console)
        for name, run in ((options.before, before), (options.after, after)):
            if run.interrupted:
                console.print(Text(f"{name} was interrupted: it counts as far as it came."))
    console.print(Text(tables.verdict(found), style="bold"))
    return int(found.regression)


def read(path: Path) -> RunResult:
    """A run by its results.json, a campaign by its folder, or a run by the folder of its report.

    Raises:
        UsageError: there is nothing that can be read.
    """
    if path.is_dir():
        if (path / FILE).exists() or not (path / _RESULTS).exists():
            return _read_campaign(path)
        path = path / _RESULTS
    elif path.name == FILE and path.exists():
        return _read_campaign(path.parent)
    return _read_results(path)


def _read_campaign(folder: Path) -> RunResult:
    store = Store.open(folder)
    try:
        return merged(store, Plan.from_json(store.fact("plan")))
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise UsageError(
            f"the campaign in {str(folder)!r} cannot be read here ({_told(error)}); it may come "
            "from another version"
        ) from None
    finally:
        store.close()


def _read_results(path: Path) -> RunResult:
    expected = "expected a campaign's folder or a results.json of 'lossfuzz run'"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r} ({error.strerror}): {expected}") from None
    except ValueError:
        raise UsageError(f"{str(path)!r} is no JSON: {expected}") from None
    if not isinstance(record, dict) or "cells" not in record or "plan" not in record:
        raise UsageError(f"{str(path)!r} holds no results: {expected}")
    if record.get("schema") != SCHEMA:
        raise UsageError(
            f"{str(path)!r} has schema {record.get('schema')!r}, this lossfuzz reads {SCHEMA}: "
            "compare with the version that wrote it, or measure again"
        )
    try:
        return _result(record)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(
            f"{str(path)!r} cannot be read here ({_told(error)}); it may be damaged or come from "
            "another version"
        ) from None


def _result(record: dict[str, Any]) -> RunResult:
    plan = record["plan"]
    for one in plan.get("joined", [plan]):
        missing = [name for name in _PLANNED if name not in one]
        if missing or not (one["families"] and one["shapes"]):
            raise ValueError(f"the plan lacks {', '.join(missing) or 'families or shapes'}")
    return RunResult(
        plan=plan,
        environment=record["environment"],
        cells=[CellResult.from_json({**one, "findings": []}) for one in record["cells"]],
        worst=[],
        interrupted=record["interrupted"],
        reference_rows=record["reference_rows"],
        seconds={},
    )


def _told(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _check_common(before: RunResult, after: RunResult, options: argparse.Namespace) -> None:
    names = [{one.cell.name for one in run.cells} for run in (before, after)]
    if names[0] & names[1]:
        return
    told = []
    for path, run in ((options.before, before), (options.after, after)):
        losses = dict.fromkeys(one.cell.path.loss.name for one in run.cells)
        first = f", such as {run.cells[0].cell.name!r}" if run.cells else ""
        told.append(f"{str(path)!r} measured {', '.join(list(losses)[:3]) or 'nothing'}{first}")
    raise UsageError("the two runs have no cell in common: " + "; ".join(told))


def _show(found: Comparison, console: Console) -> None:
    lines = tables.rows(found)
    if lines:
        table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
        for column in tables.COLUMNS:
            table.add_column(column, overflow="fold", no_wrap=column not in ("path", "measure"))
        for line in lines[:_LINES]:
            style = _STYLES.get(line[0], "")
            table.add_row(Text(line[0], style=style), *(escape(text) for text in line[1:]))
        console.print(table)
    if len(lines) > _LINES:
        console.print(Text(f"and {len(lines) - _LINES} lines more: --json FILE holds them all"))
    routes = tables.route_lines(found)
    if routes:
        console.print(Text("Other routes:"))
        for change in routes:
            console.print(Text("  " + change))
    for note in tables.notes(found):
        console.print(Text(note))
