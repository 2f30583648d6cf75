"""``lossfuzz cliffs``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.text import Text

from lossfuzz.cliffs import cliffs
from lossfuzz.commands.choices import chosen_cells
from lossfuzz.commands.console import interrupted, progress_bar, wide_console
from lossfuzz.commands.files import check_file, write_text
from lossfuzz.errors import UsageError, code_of
from lossfuzz.harness.backend import BackendError, versions
from lossfuzz.harness.measuring.thresholds import ROWS
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.quantities import check_fits
from lossfuzz.reports import cliffs as cliff_table
from lossfuzz.reports.grid import Column, Line, show

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from lossfuzz.harness.results.cliffs import CellCliffs


def cliffs_command(options: argparse.Namespace) -> int:
    """``lossfuzz cliffs``: returns 0.

    Raises:
        UsageError: a choice is unknown, or TensorFlow is missing or lacks the device.
    """
    paths, formats, modes = chosen_cells(options)
    if options.classes < 2:
        raise UsageError(f"--classes expects 2 or more, got {options.classes}")
    try:
        check_fits((ROWS, options.classes))
    except ValueError as error:
        raise UsageError(f"--classes {options.classes}: {error}") from None
    check_file(options.out)
    found: list[CellCliffs] = []
    console = wide_console()
    code = 0
    try:
        with progress_bar() as bar:
            task = bar.add_task("looking", total=len(paths) * len(formats) * len(modes))
            for one in cliffs(paths, formats, modes, options.device, options.classes):
                found.append(one)
                bar.update(task, advance=1, description=one.cell.name)
    except BackendError as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt as ended:
        code = code_of(ended)
    if options.out is not None:
        record = {"versions": versions(), "cells": [one.to_json() for one in found]}
        write_text(options.out, json.dumps(record, indent=1, allow_nan=False))
    _show(found, console)
    for line in cliff_table.legend(found):
        console.print(Text(line))
    if options.out is not None:
        console.print(Text(f"written: {options.out}"))
    if code:
        console.print(interrupted(len(found), len(paths) * len(formats) * len(modes)))
    return code


def _show(found: list[CellCliffs], console: Console) -> None:
    columns = [
        Column(
            name=name,
            heading=name if name in _HEAD else name.replace(" ", "\n", 1),
            least=_SIDE if name == "side" else None,
            rank=_LEAST_TELLING.index(name) + 1 if name in _LEAST_TELLING else 0,
        )
        for name in cliff_table.COLUMNS
    ]
    lines = [
        Line(texts=row.texts, style="red" if row.tier == DEFECT else "")
        for row in cliff_table.cliff_rows(found)
    ]
    title = "First margins, to the last number of the format"
    show(console, columns, lines, leading=3, title=title)


_SIDE = 15
"""Width of the longest side; a longer text there tells why a cell could not run."""

_HEAD = ("path", "format", "modes", "side")
_LEAST_TELLING = (
    "gradient vanishes",
    "loss stops growing",
    "gradient is 0",
    "loss stops at",
    "gradient is not finite",
    "loss is not finite",
    "loss is 0",
    "label's gradient is 0",
)
"""Columns that a narrow terminal may lack, from the last to be left out to the first."""
