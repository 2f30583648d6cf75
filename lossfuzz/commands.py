"""What the commands do, once their arguments are parsed."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from lossfuzz.audit import AuditError
from lossfuzz.errors import UsageError
from lossfuzz.harness.backend import BackendError
from lossfuzz.harness.cells import MODES, mode_named
from lossfuzz.harness.formats import BINARY32, TRAINING_FORMATS, FloatFormat, format_named
from lossfuzz.harness.paths.table import PATHS, paths_matching
from lossfuzz.plan import DEFAULT_ROWS, Plan
from lossfuzz.reports import html, tables, terminal
from lossfuzz.reports import memory as memory_table
from lossfuzz.run import run
from lossfuzz.strategies.families import FAMILIES, family_named
from lossfuzz.strategies.recipes import DEFAULT_SHAPES, SHAPES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from lossfuzz.harness.results import RunResult

AUDIT_FAILED = 3
_WIDTH_WITHOUT_TERMINAL = 176


def run_command(options: argparse.Namespace) -> int:
    """``lossfuzz run``: 0, 1 where defects were to fail the run, 3 where the audit failed.

    Raises:
        UsageError: a choice is unknown, the folder can't be written, TensorFlow is missing.
    """
    plan = _plan(options)
    if options.fail_above is not None and not 0 <= options.fail_above <= 1:
        raise UsageError(f"--fail-above expects a share from 0 to 1, got {options.fail_above:g}")
    if options.logical_cpus < 1:
        raise UsageError(f"--logical-cpus expects 1 or more, got {options.logical_cpus}")
    _make_writable(options.out)
    console = _console()
    try:
        result = _run_with_progress(plan, options.logical_cpus)
    except BackendError as error:
        raise UsageError(str(error)) from None
    except AuditError as error:
        print(f"lossfuzz: audit: {error}", file=sys.stderr)  # noqa: T201
        return AUDIT_FAILED
    written = write(result, options.out)
    if options.quiet:
        console.print(tables.verdict(result), highlight=False)
    else:
        terminal.show(result, console)
    console.print("written: " + ", ".join(str(path) for path in written), highlight=False)
    if result.interrupted:
        console.print("interrupted: the figures are of what was measured until then")
        return 130
    return int(_fails(result, strict=options.strict, fail_above=options.fail_above))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)


def _plan(options: argparse.Namespace) -> Plan:
    formats = _chosen(options.formats, _training_format, TRAINING_FORMATS)
    shapes = _chosen(options.shapes, _shape, (DEFAULT_SHAPES,))
    try:
        return Plan(
            paths=tuple(paths_matching(_split(options.paths)) if options.paths else PATHS),
            formats=tuple(dict.fromkeys(formats)),
            modes=tuple(
                mode for mode in MODES if mode in _chosen(options.modes, mode_named, MODES)
            ),
            devices=tuple(_split(options.device)),
            families=tuple(dict.fromkeys(_chosen(options.families, _family, FAMILIES))),
            shapes=tuple(dict.fromkeys(shape for group in shapes for shape in group)),
            rows=None if options.seconds is not None else _rows(options.rows),
            seconds=options.seconds,
            seed=options.seed,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _rows(rows: int | None) -> int:
    return DEFAULT_ROWS if rows is None else rows


def _split(values: Iterable[str] | None) -> list[str]:
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def _chosen(
    values: list[str] | None, parse: Callable[[str], Any], default: Iterable[Any]
) -> list[Any]:
    if values is None:
        return list(default)
    try:
        return [parse(part) for part in _split(values)]
    except ValueError as error:
        raise UsageError(str(error)) from None


def _training_format(name: str) -> FloatFormat:
    known = [fmt for fmt in TRAINING_FORMATS if name in (fmt.name, fmt.dtype_name)]
    if not known:
        names = ", ".join(fmt.dtype_name for fmt in TRAINING_FORMATS)
        raise ValueError(f"unknown format {name!r}; known formats: {names}")
    return format_named(name)


def _family(name: str) -> str:
    family_named(name)
    return name


def _shape(text: str) -> tuple[tuple[int, ...], ...]:
    if text == "all":
        return SHAPES
    parts = text.lower().split("x")
    if len(parts) < 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        known = ", ".join("x".join(map(str, shape)) for shape in SHAPES)
        raise ValueError(f"expected a shape such as 256x10 or 'all', got {text!r}; usual: {known}")
    return (tuple(int(part) for part in parts),)


def _make_writable(folder: Path) -> None:
    probe = folder / ".lossfuzz-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to the output folder {str(folder)!r} ({error.strerror}); "
            "choose another with --out"
        ) from None


def _run_with_progress(plan: Plan, logical_cpus: int) -> RunResult:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with _progress(*columns) as bar:
        task = bar.add_task("starting TensorFlow, tracing routes", total=None)

        def progress(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total or None, description=what)

        return run(plan, logical_cpus=logical_cpus, progress=progress)


def _progress(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def write(result: RunResult, folder: Path) -> list[Path]:
    """Write results, times and page; returns the files."""
    texts = {
        "results.json": json.dumps(result.to_json(), indent=1, sort_keys=True, allow_nan=False),
        "timings.json": json.dumps(result.seconds, indent=1, sort_keys=True),
        "report.html": html.render(result),
    }
    written = []
    for name, text in texts.items():
        path = folder / name
        unfinished = folder / f".{name}.{os.getpid()}"
        try:
            unfinished.write_text(text + "\n", encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:
            raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from None
        written.append(path)
    return written


def _fails(result: RunResult, *, strict: bool, fail_above: float | None) -> bool:
    if strict and result.defective_cells:
        return True
    return fail_above is not None and any(
        one.summary.rate(kind) > fail_above for one in result.cells for kind in one.summary.defects
    )


def paths_command() -> int:
    """``lossfuzz paths``: the loss paths, and how they make cells."""
    console = _console()
    table = Table("path", "call", "documented formula", padding=(0, 1))
    for path in PATHS:
        call = " ".join(part.strip() for part in path.source.splitlines())
        table.add_row(escape(path.name), escape(call), escape(path.documented))
    console.print(table)
    formats = ", ".join(fmt.dtype_name for fmt in TRAINING_FORMATS)
    console.print(
        f"{len(PATHS)} paths, each in {formats}; each in {', '.join(MODES)}; "
        f"on every device: {len(PATHS) * len(TRAINING_FORMATS) * len(MODES)} cells a device.",
        highlight=False,
    )
    return 0


def referee_command(options: argparse.Namespace) -> int:
    """``lossfuzz referee``: returns 1 if the references disagree anywhere.

    Raises:
        UsageError: the number of rows, the seed or a shape makes no sense.
    """
    from lossfuzz import referee

    if options.rows < 1 or options.seed < 0:
        raise UsageError(
            f"expected --rows of 1 or more and --seed of 0 or more, "
            f"got {options.rows} and {options.seed}"
        )
    groups = _chosen(options.shapes, _shape, (referee.DEFAULT_SHAPES,))
    shapes = [shape for group in groups for shape in group]
    with_arb = not options.without_arb
    console = _console()
    table = Table("family", "rows", "values", "to extended", "to mpmath", padding=(0, 1))
    table.add_column("mpmath vs Arb")
    table.add_column("kernel vs mpmath")
    total = referee.Verdict(family="all").counts
    with _progress() as bar:
        task = bar.add_task("comparing", total=len(FAMILIES))
        for verdict in referee.compare(
            options.rows, options.seed, shapes=shapes, with_arb=with_arb
        ):
            total = tuple(map(sum, zip(total, verdict.counts, strict=True)))
            table.add_row(verdict.family, *(f"{count:,}" for count in verdict.counts))
            for line in verdict.examples:
                console.print(line, highlight=False, markup=False)
            bar.advance(task)
    table.add_section()
    table.add_row("all", *(f"{count:,}" for count in total))
    console.print(table)
    rows, values, extended, by_mpmath, arb, of_kernel = total
    arb_part = f"{arb} disagreements between mpmath and Arb" if with_arb else "Arb left out"
    console.print(
        f"{arb_part}, {of_kernel} between the float64 kernel with its judge and mpmath, in "
        f"{values:,} correctly rounded values of {rows:,} rows; {100 * extended / rows:.3g} % of "
        f"the rows went to extended precision, {100 * by_mpmath / rows:.3g} % to mpmath.",
        highlight=False,
    )
    return int(arb + of_kernel > 0)


def memory_command(options: argparse.Namespace) -> int:
    """``lossfuzz memory``: returns 0.

    Raises:
        UsageError: a choice is unknown, or TensorFlow is missing or cannot count memory here.
    """
    from lossfuzz import memory

    formats = _chosen(options.formats, _training_format, (BINARY32,))
    modes = [mode for mode in MODES if mode in _chosen(options.modes, mode_named, MODES)]
    shape = _chosen([options.shape], _shape, ())[0]
    if len(shape) != 1:
        raise UsageError("--shape expects one shape such as 64x512x1000, got 'all'")
    try:
        paths = paths_matching(_split(options.paths)) if options.paths else list(PATHS)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if options.out is not None:
        _make_writable(options.out.parent)
    found = []
    console = _console()
    try:
        with _progress() as bar:
            task = bar.add_task("measuring", total=len(paths) * len(formats) * len(modes))
            for cost in memory.costs(paths, formats, modes, options.device, shape[0]):
                found.append(cost)
                bar.update(task, advance=1, description=cost.cell.name)
    except BackendError as error:
        raise UsageError(str(error)) from None
    table = Table(*memory_table.COLUMNS, padding=(0, 1), title=f"logits {options.shape}")
    for row in memory_table.cost_rows(found):
        table.add_row(*map(escape, row))
    console.print(table)
    for line in memory_table.answers(found):
        console.print(line, highlight=False)
    if options.out is not None:
        text = json.dumps([cost.to_json() for cost in found], indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")
        console.print(f"written: {options.out}", highlight=False)
    return 0
