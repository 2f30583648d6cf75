"""``lossfuzz referee``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from lossfuzz import referee
from lossfuzz.commands.choices import chosen, shape_group
from lossfuzz.commands.console import progress_bar, wide_console
from lossfuzz.errors import UsageError
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.reports.words import amount
from lossfuzz.strategies.families import FAMILIES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from lossfuzz.harness.losses.spec import LossSpec

_ROUNDED_FOR_EACH_ENCLOSED = 4


def referee_command(options: argparse.Namespace) -> int:
    """``lossfuzz referee``: returns 1 if the references disagree anywhere.

    Raises:
        UsageError: the number of rows, the seed, a shape or the choice of losses makes no sense.
    """
    if options.rows < 1 or options.seed < 0:
        raise UsageError(
            f"expected --rows of 1 or more and --seed of 0 or more, "
            f"got {options.rows} and {options.seed}"
        )
    losses = _chosen_losses(options.losses)
    bit_by_bit = SOFTMAX_CROSS_ENTROPY in losses
    if options.without_arb and not bit_by_bit:
        raise UsageError(
            f"without Arb nothing but the {SOFTMAX_CROSS_ENTROPY.name} can be compared; leave out "
            "--without-arb, or choose that loss"
        )
    groups = chosen(options.shapes, shape_group, ())
    shapes = [shape for group in groups for shape in group]
    console = wide_console()
    disagreements = 0
    if bit_by_bit:
        disagreements += _compare_rounded(options, shapes or referee.DEFAULT_SHAPES, console)
    if not options.without_arb:
        rows = -(-options.rows // _ROUNDED_FOR_EACH_ENCLOSED)
        shapes = shapes or list(referee.LOSS_SHAPES)
        disagreements += _compare_enclosed(losses, rows, options.seed, shapes, console)
    return int(disagreements > 0)


def _chosen_losses(patterns: list[str] | None) -> Sequence[LossSpec]:
    if patterns is None:
        return referee.ROW_LOSSES
    try:
        return referee.row_losses_matching(patterns)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _compare_rounded(
    options: argparse.Namespace, shapes: Sequence[tuple[int, ...]], console: Console
) -> int:
    """The correctly rounded references of the integer-label softmax cross-entropy."""
    with_arb = not options.without_arb
    verdicts = referee.compare(options.rows, options.seed, shapes=shapes, with_arb=with_arb)
    total = _print_verdicts(
        verdicts,
        len(FAMILIES),
        ("family", "mpmath vs Arb", "kernel vs mpmath"),
        console,
    )
    rows, values, extended, by_mpmath, arb, of_kernel = total
    arb_part = (
        f"{amount(arb, 'disagreement')} between mpmath and Arb" if with_arb else "Arb left out"
    )
    console.print(
        f"{arb_part}, {of_kernel} between the float64 kernel with its judge and mpmath, in "
        f"{amount(values, 'correctly rounded value')} of {amount(rows, 'row')}; "
        f"{100 * extended / rows:.3g} % of the rows went to extended precision, "
        f"{100 * by_mpmath / rows:.3g} % to mpmath.",
        highlight=False,
    )
    return arb + of_kernel


def _compare_enclosed(
    losses: Sequence[LossSpec],
    rows: int,
    seed: int,
    shapes: Sequence[tuple[int, ...]],
    console: Console,
) -> int:
    """The enclosures of every loss against its textbook formula."""
    total = _print_verdicts(
        (referee.compare_loss(spec, rows, seed, shapes=shapes) for spec in losses),
        len(losses),
        ("loss", "reference vs Arb", "float64 vs Arb"),
        console,
    )
    rows, values, extended, by_mpmath, arb, of_float64 = total
    console.print(
        f"{amount(arb, 'disagreement')} between enclosed references and textbook formulas by "
        f"Arb, in {len(losses)} of {amount(len(referee.ROW_LOSSES), 'loss')}, "
        f"{of_float64} between float64 enclosures and Arb, in {amount(values, 'value')} of "
        f"{amount(rows, 'row')}; "
        f"{100 * extended / max(rows, 1):.3g} % of the rows went to extended precision, "
        f"{100 * by_mpmath / max(rows, 1):.3g} % to mpmath.",
        highlight=False,
    )
    return arb + of_float64


def _print_verdicts(
    verdicts: Iterable[referee.Verdict],
    count: int,
    headings: tuple[str, str, str],
    console: Console,
) -> tuple[int, ...]:
    """Print a table, above it examples of what disagrees; returns the sums of its columns."""
    kind, first, second = headings
    table = Table(kind, "rows", "values", "to extended", "to mpmath", padding=(0, 1))
    table.add_column(first)
    table.add_column(second)
    total = referee.Verdict(name="all").counts
    with progress_bar() as bar:
        task = bar.add_task("comparing", total=count)
        for verdict in verdicts:
            total = tuple(map(sum, zip(total, verdict.counts, strict=True)))
            table.add_row(verdict.name, *(f"{count:,}" for count in verdict.counts))
            for line in verdict.examples:
                console.print(line, highlight=False, markup=False)
            bar.advance(task)
    table.add_section()
    table.add_row("all", *(f"{count:,}" for count in total))
    console.print(table)
    return total
