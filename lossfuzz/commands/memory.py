"""``lossfuzz memory``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lossfuzz import memory
from lossfuzz.commands.choices import (
    chosen,
    chosen_cells,
    make_writable,
    shape_group,
)
from lossfuzz.commands.console import progress_bar, wide_console
from lossfuzz.errors import UsageError
from lossfuzz.harness.backend import BackendError
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
    shape = chosen([options.shape], shape_group, ())[0]
    if len(shape) != 1:
        raise UsageError("--shape expects one shape such as 64x512x1000, got 'all'")
    paths, formats, modes = chosen_cells(options)
    if options.out is not None:
        make_writable(options.out.parent)
    found = []
    console = wide_console()
    try:
        with progress_bar() as bar:
            task = bar.add_task("measuring", total=len(paths) * len(formats) * len(modes))
            for cost in memory.costs(paths, formats, modes, options.device, shape[0]):
                found.append(cost)
                bar.update(task, advance=1, description=cost.cell.name)
    except BackendError as error:
        raise UsageError(str(error)) from None
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
        console.print(line, highlight=False)
    if options.out is not None:
        text = json.dumps([cost.to_json() for cost in found], indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")
        console.print(f"written: {options.out}", highlight=False)
    return 0
