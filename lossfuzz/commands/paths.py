"""``lossfuzz paths``."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from lossfuzz.commands.console import wide_console
from lossfuzz.harness.cells import MODES
from lossfuzz.harness.formats import TRAINING_FORMATS
from lossfuzz.harness.paths.table import PATHS


def paths_command() -> int:
    """``lossfuzz paths``: the loss paths, and how they make cells."""
    console = wide_console()
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
