"""``lossfuzz paths``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lossfuzz.commands.console import wide_console
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.numbers.formats import TRAINING_FORMATS
from lossfuzz.harness.paths.table import PATHS
from lossfuzz.harness.records.modes import MODES

if TYPE_CHECKING:
    import argparse


def paths_command(_: argparse.Namespace) -> int:
    """``lossfuzz paths``: the losses, their paths, and how they make cells."""
    console = wide_console()
    for loss in LOSSES:
        table = Table("path", "call", "documented formula", padding=(0, 1), title_justify="left")
        table.title = Text(f"{loss.name}: {loss.formula}", style="table.title")
        for path in PATHS:
            if path.loss is loss:
                documented = "the same" if path.documented is loss else path.documented.formula
                table.add_row(*map(Text, (path.name, _call(path.source), documented)))
        console.print(table)
    formats = ", ".join(fmt.dtype_name for fmt in TRAINING_FORMATS)
    console.print(
        f"{len(LOSSES)} losses and {len(PATHS)} paths, each in {formats}; each in "
        f"{', '.join(MODES)}; on every device: "
        f"{len(PATHS) * len(TRAINING_FORMATS) * len(MODES)} cells a device.",
        highlight=False,
    )
    return 0


def _call(source: str) -> str:
    """A source in one line; of a whole model's script its first one."""
    lines = [part.strip() for part in source.splitlines() if part.strip()]
    return lines[0] + " …" if lines and "=" in lines[0].split("(")[0] else " ".join(lines)
