"""``lossfuzz referee``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lossfuzz import referee
from lossfuzz.commands.choices import chosen, shape_group
from lossfuzz.commands.console import progress_bar, wide_console
from lossfuzz.errors import UsageError
from lossfuzz.strategies.families import FAMILIES

if TYPE_CHECKING:
    import argparse


def referee_command(options: argparse.Namespace) -> int:
    """``lossfuzz referee``: returns 1 if the references disagree anywhere.

    Raises:
        UsageError: the number of rows, the seed or a shape makes no sense.
    """
    if options.rows < 1 or options.seed < 0:
        raise UsageError(
            f"expected --rows of 1 or more and --seed of 0 or more, "
            f"got {options.rows} and {options.seed}"
        )
    groups = chosen(options.shapes, shape_group, (referee.DEFAULT_SHAPES,))
    shapes = [shape for group in groups for shape in group]
    with_arb = not options.without_arb
    console = wide_console()
    table = Table("family", "rows", "values", "to extended", "to mpmath", padding=(0, 1))
    table.add_column("mpmath vs Arb")
    table.add_column("kernel vs mpmath")
    total = referee.Verdict(family="all").counts
    with progress_bar() as bar:
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
