"""``lossfuzz report``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.text import Text

from lossfuzz.commands.console import wide_console
from lossfuzz.commands.files import PAGE, STANDARD_OUTPUT, check_file, check_own, write_text
from lossfuzz.errors import UsageError
from lossfuzz.harness.backend import BackendError, start_tensorflow
from lossfuzz.harness.records.fields import items, record_of
from lossfuzz.record import parsed, read_record, read_text
from lossfuzz.reports import html, markdown, parquet, tables, tensorboard, terminal
from lossfuzz.reports.memory import CellCost, answers
from lossfuzz.reports.parquet import MissingExtraError
from lossfuzz.reports.words import amount, verb
from lossfuzz.stored import read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from lossfuzz.harness.results.run import RunResult


def report_command(options: argparse.Namespace) -> int:
    """``lossfuzz report``: returns 0.

    Raises:
        UsageError: the folder or the file of costs cannot be read, nothing was measured, a file
            cannot be written, or a library that is needed is not installed.
    """
    _check_files(options)
    result = _measured(read(options.folder, with_findings=True), options.folder)
    costs = _costs(options.memory) if options.memory is not None else []
    console = wide_console(stderr=options.markdown == STANDARD_OUTPUT)
    written = _write(result, costs, options)
    if options.quiet:
        console.print(Text(tables.verdict(result), style="bold"))
    elif not _named(options):
        terminal.show(result, console)
        for line in answers(costs):
            console.print(Text(line))
    if result.progress:
        console.print(Text(f"Not finished: {result.progress}.", style="bold yellow"))
    if written:
        console.print(Text("written: " + ", ".join(map(str, written))))
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """See that what is to be written can be, and overwrites nothing of others unasked."""
    check_file(options.html)
    check_file(options.markdown)
    if not _named(options):
        check_own(_folder(options), PAGE)


def _folder(options: argparse.Namespace) -> Path:
    """Where the page goes unless the options name another place."""
    given: Path = options.folder
    return given if given.is_dir() else given.parent


def _named(options: argparse.Namespace) -> bool:
    """Whether the options name what is to be written, and only that is."""
    return bool(options.html or options.markdown or options.parquet or options.tensorboard)


def _measured(result: RunResult, folder: Path) -> RunResult:
    """Without the cells that the campaign has not come to yet, which look sound.

    Raises:
        UsageError: it has come to none, or a finding is of a cell that it has not.
    """
    cells = {one.cell.name for one in result.cells}
    for finding in (*result.worst, *(cause.finding for cause in result.causes)):
        if finding.cell_name not in cells:
            raise UsageError(
                f"{str(folder)!r} cannot be read here (finding {finding.id} is of "
                f"{finding.cell_name!r}, which is no cell of it); it may be damaged or come from "
                "another version"
            )
    known = [one for one in result.cells if one.unavailable is not None or one.summary.rows]
    if not known:
        told = f": {result.progress}" if result.progress else ""
        raise UsageError(f"nothing has been measured yet in {str(folder)!r}{told}")
    waiting = len(result.cells) - len(known)
    have = verb(waiting, "has", "have")
    told = f", and {amount(waiting, 'cell')} {have} not been measured yet" if waiting else ""
    progress = result.progress and result.progress + told
    return replace(result, cells=known, progress=progress)


def _costs(path: Path) -> list[CellCost]:
    """What ``lossfuzz memory --out`` wrote; the first versions wrote a list without a digest."""
    expected = "expected what 'lossfuzz memory --out' wrote"
    try:
        record = parsed(read_text(path, expected), repr(str(path)), expected)
        if not isinstance(record, list):
            record = read_record(path, ("costs",), expected).get("costs")
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        record = items({"costs": record}, "costs")
        return [CellCost.from_json(record_of(one, "costs")) for one in record]
    except ValueError as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error}): {expected}") from None


def _write(
    result: RunResult, costs: Sequence[CellCost], options: argparse.Namespace
) -> list[Path]:
    """Write what the options name, or the page into the folder itself."""
    written: list[Path] = []
    page = options.html
    if not _named(options):
        page = _folder(options) / PAGE
    if page is not None:
        write_text(page, html.render(result, memory=costs))
        written.append(page)
    if options.markdown is not None:
        write_text(options.markdown, markdown.render(result))
        written += [options.markdown] if options.markdown != STANDARD_OUTPUT else []
    try:
        if options.parquet is not None:
            written += parquet.write(result, options.parquet)
        if options.tensorboard is not None:
            tensorboard.write(result, options.tensorboard, start_tensorflow())
            written.append(options.tensorboard)
    except OSError as error:
        where = error.filename or options.tensorboard or options.parquet
        raise UsageError(f"cannot write {str(where)!r}: {error.strerror}") from None
    except (MissingExtraError, BackendError) as error:
        raise UsageError(str(error)) from None
    return written
