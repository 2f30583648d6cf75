"""``lossfuzz memory``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from lossfuzz import memory
from lossfuzz.commands.choices import (
    chosen,
    chosen_cells,
    shape_group,
)
from lossfuzz.commands.console import interrupted, progress_bar, wide_console
from lossfuzz.commands.files import check_file, write_text
from lossfuzz.errors import UsageError, code_of
from lossfuzz.harness.backend import BackendError
from lossfuzz.harness.records.seal import SCHEMA
from lossfuzz.quantities import BYTES_OF_A_STEP, check_fits
from lossfuzz.record import text_of
from lossfuzz.reports import memory as memory_table
from lossfuzz.reports.grid import Column, Line, show

if TYPE_CHECKING:
    import argparse


_LEAST = {"time": 12}
"""Widths that columns may be wrapped to; the time's tells why a cell was not measured."""


def memory_command(options: argparse.Namespace) -> int:
    """``lossfuzz memory``: returns 0.

    Raises:
        UsageError: a choice is unknown, or TensorFlow is missing or cannot count memory here.
    """
    shape = _shape(options.shape)
    paths, formats, modes = chosen_cells(options)
    check_file(options.out)
    found = []
    console = wide_console()
    code = 0
    try:
        with progress_bar() as bar:
            task = bar.add_task("measuring", total=len(paths) * len(formats) * len(modes))
            for cost in memory.costs(paths, formats, modes, options.device, shape):
                found.append(cost)
                bar.update(task, advance=1, description=cost.cell.name)
    except BackendError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt as ended:
        code = code_of(ended)
    if options.out is not None:
        record = {"schema": SCHEMA, "costs": [cost.to_json() for cost in found]}
        write_text(options.out, text_of(record, indent=1))
    columns = [
        Column(
            name=name,
            heading=name.replace(" + ", " +\n"),
            least=_LEAST.get(name),
            rank=int(name == "held"),
        )
        for name in memory_table.COLUMNS
    ]
    lines = [Line(texts=row) for row in memory_table.cost_rows(found)]
    show(console, columns, lines, leading=2, title=f"logits {options.shape}")
    for line in memory_table.answers(found):
        console.print(Text(line))
    if options.out is not None:
        console.print(Text(f"written: {options.out}"))
    if code:
        console.print(interrupted(len(found), len(paths) * len(formats) * len(modes)))
    return code


def _shape(text: str) -> tuple[int, ...]:
    """The one shape that is measured.

    Raises:
        UsageError: it is none, or has no room here.
    """
    groups = chosen([text], shape_group, ())
    shapes: list[tuple[int, ...]] = [shape for group in groups for shape in group]
    if len(shapes) != 1:
        raise UsageError(f"--shape expects one shape such as 64x512x1000, got {text!r}")
    try:
        check_fits(shapes[0], each=BYTES_OF_A_STEP)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return shapes[0]
