"""``lossfuzz run``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.text import Text

from lossfuzz.audit import AuditError
from lossfuzz.commands import campaign
from lossfuzz.commands.choices import (
    bounds_of,
    chosen,
    chosen_paths,
    family,
    shape_group,
    split,
)
from lossfuzz.commands.console import tell_error, told_progress, wide_console
from lossfuzz.commands.files import (
    PAGE,
    RESULTS,
    STANDARD_OUTPUT,
    TIMINGS,
    check_file,
    make_writable,
    write_text,
)
from lossfuzz.commands.signals import ended_by_signals
from lossfuzz.errors import AUDIT_FAILED, UsageError
from lossfuzz.fitting import RefusedLossError
from lossfuzz.harness.backend import BackendError
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.numbers.formats import TRAINING_FORMATS, training_format
from lossfuzz.harness.records.modes import MODES, mode_named
from lossfuzz.harness.users.time_limit import limited
from lossfuzz.plan import DEFAULT_ROWS, DEFAULT_SEARCH, Plan
from lossfuzz.quantities import check_fits
from lossfuzz.record import text_of
from lossfuzz.reports import assertion, html, markdown, tables, terminal
from lossfuzz.reports.notes import not_judged
from lossfuzz.running import run
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from lossfuzz.harness.results.run import CellResult, RunResult


def run_command(options: argparse.Namespace) -> int:
    """``lossfuzz run``: 0, 1 where defects were to fail the run, 3 where the audit failed.

    Raises:
        UsageError: a choice is unknown, the folder can't be written, TensorFlow is missing.
    """
    with limited(options.time_limit):  # it imports the losses, which may have no end
        plan = _plan(options)
    if options.fail_above is not None and not 0 <= options.fail_above <= 1:
        raise UsageError(f"--fail-above expects a share from 0 to 1, got {options.fail_above:g}")
    if options.python and options.workers is None:
        options.workers = 1
    if options.python and any(path.own for path in plan.paths):
        raise UsageError(
            "--python runs no losses of your own: another interpreter runs lossfuzz's own paths "
            "alone; leave out --python or --loss"
        )
    existed = _exists(options.out)
    make_writable(options.out)
    check_file(options.markdown)
    with ended_by_signals() as ending:
        try:
            if options.workers is None:
                result = _run_with_progress(plan, options)
            else:
                with limited(options.time_limit):
                    result = campaign.start(plan, options)
        except (BackendError, FormulaError, RefusedLossError, UsageError) as error:
            if not existed:
                with contextlib.suppress(OSError):  # something was written there
                    options.out.rmdir()
            raise UsageError(str(error)) from None
        except AuditError as error:
            tell_error("audit", str(error))
            return AUDIT_FAILED
        return show_and_write(result, options, ending.code)


def _exists(folder: Path) -> bool:
    try:
        return folder.exists()
    except (OSError, ValueError):  # a name that no folder can have
        return True


def show_and_write(
    result: RunResult, options: argparse.Namespace, interrupted_code: int = 130
) -> int:
    """Print results, write them, and say by the exit code whether defects fail the run.

    Args:
        result: to be shown.
        options: of the command.
        interrupted_code: the exit code, if the run was interrupted.
    """
    markdown_file = getattr(options, "markdown", None)
    console = wide_console(stderr=markdown_file == STANDARD_OUTPUT)
    written = write(result, options.out)
    if markdown_file is not None:
        write_text(markdown_file, markdown.render(result))
        written += [markdown_file] if markdown_file != STANDARD_OUTPUT else []
    if options.quiet:
        console.print(Text(tables.verdict(result)))
    else:
        terminal.show(result, console)
    for note in result.notes:
        console.print(Text(f"note: {note}"))
    console.print(Text("written: " + ", ".join(map(str, written))))
    if result.interrupted:
        console.print("interrupted: the figures are of what was measured until then")
        return interrupted_code
    refused = _refused_losses(result)
    if refused:
        raise UsageError(refused)
    return int(_fails(result, strict=options.strict, fail_above=options.fail_above))


def _plan(options: argparse.Namespace) -> Plan:
    formats = chosen(options.formats, training_format, TRAINING_FORMATS)
    shapes = chosen(options.shapes, shape_group, (DEFAULT_SHAPES,))
    try:
        for group in shapes:
            for shape in group:
                check_fits(shape)
        return Plan(
            paths=tuple(chosen_paths(options)),
            formats=tuple(dict.fromkeys(formats)),
            modes=tuple(
                mode for mode in MODES if mode in chosen(options.modes, mode_named, MODES)
            ),
            devices=tuple(_devices(options.device)),
            families=tuple(dict.fromkeys(chosen(options.families, family, FAMILIES))),
            shapes=tuple(dict.fromkeys(shape for group in shapes for shape in group)),
            rows=None if options.seconds is not None else _rows(options.rows),
            seconds=options.seconds,
            seed=options.seed,
            search=DEFAULT_SEARCH if options.search is None else options.search,
            bounds=None if options.bounds is None else bounds_of(options.bounds),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _devices(names: list[str] | None) -> list[str]:
    found = split(names)
    if names and not found:
        raise ValueError("--device expects names of devices, such as CPU:0, got none")
    return found


def _rows(rows: int | None) -> int:
    return DEFAULT_ROWS if rows is None else rows


def _run_with_progress(plan: Plan, options: argparse.Namespace) -> RunResult:
    def keep(so_far: RunResult) -> None:
        with contextlib.suppress(UsageError):  # a disk that is full now may have room at the end
            _write_data(so_far, options.out)

    start = "starting TensorFlow, tracing routes"
    with told_progress(start, "batch", quiet=options.quiet) as progress:
        return run(
            plan,
            logical_cpus=options.logical_cpus,
            progress=progress,
            keep=keep,
            time_limit=options.time_limit,
        )


def write(result: RunResult, folder: Path) -> list[Path]:
    """Write results, times and page; returns the files."""
    page = folder / PAGE
    written = _write_data(result, folder)
    write_text(page, html.render(result))
    return [*written, page]


def _write_data(result: RunResult, folder: Path) -> list[Path]:
    """Write results and times, which is all that a report is made of."""
    texts = {
        RESULTS: text_of(result.to_json()),
        TIMINGS: text_of(result.seconds, indent=1),
    }
    written = []
    for name, text in texts.items():
        path = folder / name
        write_text(path, text)
        written.append(path)
    return written


def _refused_losses(result: RunResult) -> str:
    """What the users' own losses said that could not be measured in any cell."""
    by_path: dict[str, list[CellResult]] = {}
    for one in result.cells:
        if one.cell.path.own:
            by_path.setdefault(one.cell.path.name, []).append(one)
    refused = [
        one
        for cells in by_path.values()
        if all(cell.unavailable is not None for cell in cells)
        for one in cells
    ]
    return assertion.refused(refused)


def _could_not_run(one: CellResult) -> bool:
    """Whether a cell of a user's own loss refused to run, so that nothing is known of it."""
    return one.cell.path.own and one.unavailable is not None and not one.was_not_tried


def _fails(result: RunResult, *, strict: bool, fail_above: float | None) -> bool:
    if strict and (result.defective_cells or not_judged(result.cells)):
        return True
    if strict and any(_could_not_run(one) for one in result.cells):
        return True
    return fail_above is not None and any(
        one.summary.rate(kind) > fail_above for one in result.cells for kind in one.summary.defects
    )
