"""``lossfuzz cliffs``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from lossfuzz.cliffs import cliffs
from lossfuzz.commands.choices import chosen_cells, make_writable
from lossfuzz.commands.console import progress_bar, wide_console
from lossfuzz.errors import UsageError
from lossfuzz.harness.backend import BackendError, versions
from lossfuzz.harness.findings import DEFECT
from lossfuzz.reports import cliffs as cliff_table

if TYPE_CHECKING:
    import argparse

    from lossfuzz.harness.cliffs import CellCliffs


def cliffs_command(options: argparse.Namespace) -> int:
    """``lossfuzz cliffs``: returns 0.

    Raises:
        UsageError: a choice is unknown, or TensorFlow is missing or lacks the device.
    """
    paths, formats, modes = chosen_cells(options)
    if options.classes < 2:
        raise UsageError(f"--classes expects 2 or more, got {options.classes}")
    if options.out is not None:
        make_writable(options.out.parent)
    found: list[CellCliffs] = []
    console = wide_console()
    try:
        with progress_bar() as bar:
            task = bar.add_task("looking", total=len(paths) * len(formats) * len(modes))
            for one in cliffs(paths, formats, modes, options.device, options.classes):
                found.append(one)
                bar.update(task, advance=1, description=one.cell.name)
    except BackendError as error:
        raise UsageError(str(error)) from None
    console.print(_table(found))
    for line in cliff_table.legend(found):
        console.print(line, highlight=False, markup=False)
    if options.out is not None:
        record = {"versions": versions(), "cells": [one.to_json() for one in found]}
        options.out.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", "utf-8")
        console.print(f"written: {options.out}", highlight=False, markup=False)
    return 0


def _table(found: list[CellCliffs]) -> Table:
    table = Table(
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title="First margins, to the last number of the format",
    )
    for column in cliff_table.COLUMNS:
        heading = column if column in _SHORT else column.replace(" ", "\n", 1)
        table.add_column(heading, overflow="fold", no_wrap=column != "path")
    previous: tuple[str, ...] = ()
    for row in cliff_table.cliff_rows(found):
        head = row.texts[:3]
        shown = ("", "", "") if head == previous else head
        previous = head
        style = "red" if row.tier == DEFECT else None
        table.add_row(*map(escape, (*shown, *row.texts[3:])), style=style)
    return table


_SHORT = ("path", "format", "modes", "side")
