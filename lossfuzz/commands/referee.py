"""``lossfuzz referee``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from lossfuzz import referee
from lossfuzz.commands.choices import chosen, losses_named, shape_group
from lossfuzz.commands.console import progress_bar, wide_console
from lossfuzz.errors import UsageError, code_of
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.plan import MOST_ROWS
from lossfuzz.quantities import check_fits, counted
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
    if options.rows > MOST_ROWS:
        raise UsageError(f"--rows expects at most {MOST_ROWS:,}, got {counted(options.rows)}")
    losses = _chosen_losses(options.losses)
    bit_by_bit = SOFTMAX_CROSS_ENTROPY in losses
    if options.without_arb and not bit_by_bit:
        raise UsageError(
            f"without Arb nothing but the {SOFTMAX_CROSS_ENTROPY.name} can be compared; leave out "
            "--without-arb, or choose that loss"
        )
    groups = chosen(options.shapes, shape_group, ())
    shapes = [shape for group in groups for shape in group]
    try:
        for shape in shapes:
            check_fits(shape)
    except ValueError as error:
        raise UsageError(str(error)) from None
    console = wide_console()
    found = _Found()
    if bit_by_bit:
        _compare_rounded(options, shapes or referee.DEFAULT_SHAPES, console, found)
    if not (options.without_arb or found.code):
        rows = -(-options.rows // _ROUNDED_FOR_EACH_ENCLOSED)
        shapes = shapes or list(referee.LOSS_SHAPES)
        _compare_enclosed(losses, rows, options.seed, shapes, console, found)
    if found.code:
        console.print(Text("interrupted: the figures are of what was compared until then"))
        return found.code
    return int(found.disagreements > 0)


@dataclass(slots=True)
class _Found:
    """What was found so far.

    Attributes:
        disagreements: between any two references.
        code: the exit code of whatever ended the command early; 0 if nothing did.
    """

    disagreements: int = 0
    code: int = 0


def _chosen_losses(patterns: list[str] | None) -> Sequence[LossSpec]:
    if patterns is None:
        return referee.ROW_LOSSES
    try:
        return losses_named(patterns, referee.row_losses_matching)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _compare_rounded(
    options: argparse.Namespace,
    shapes: Sequence[tuple[int, ...]],
    console: Console,
    found: _Found,
) -> None:
    """The correctly rounded references of the integer-label softmax cross-entropy."""
    with_arb = not options.without_arb
    verdicts = referee.compare(options.rows, options.seed, shapes=shapes, with_arb=with_arb)
    headings = "family", "mpmath vs Arb", "kernel vs mpmath"
    total = _print_verdicts(verdicts, len(FAMILIES), headings, console, found)
    rows, values, extended, by_mpmath, arb, of_kernel = total
    arb_part = (
        f"{amount(arb, 'disagreement')} between mpmath and Arb" if with_arb else "Arb left out"
    )
    console.print(
        f"{arb_part}, {of_kernel} between the float64 kernel with its judge and mpmath, in "
        f"{amount(values, 'correctly rounded value')} of {amount(rows, 'row')}; "
        f"{100 * extended / max(rows, 1):.3g} % of the rows went to extended precision, "
        f"{100 * by_mpmath / max(rows, 1):.3g} % to mpmath.",
        highlight=False,
    )
    found.disagreements += arb + of_kernel


def _compare_enclosed(
    losses: Sequence[LossSpec],
    rows: int,
    seed: int,
    shapes: Sequence[tuple[int, ...]],
    console: Console,
    found: _Found,
) -> None:
    """The enclosures of every loss against its textbook formula."""
    total = _print_verdicts(
        (referee.compare_loss(spec, rows, seed, shapes=shapes) for spec in losses),
        len(losses),
        ("loss", "reference vs Arb", "float64 vs Arb"),
        console,
        found,
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
    found.disagreements += arb + of_float64


def _print_verdicts(
    verdicts: Iterable[referee.Verdict],
    count: int,
    headings: tuple[str, str, str],
    console: Console,
    found: _Found,
) -> tuple[int, ...]:
    """Print a table, above it examples of what disagrees; returns the sums of its columns."""
    kind, first, second = headings
    table = Table(kind, "rows", "values", "to extended", "to mpmath", padding=(0, 1))
    table.add_column(first)
    table.add_column(second)
    total = referee.Verdict(name="all").counts
    try:
        with progress_bar() as bar:
            task = bar.add_task("comparing", total=count)
            for verdict in verdicts:
                total = tuple(map(sum, zip(total, verdict.counts, strict=True)))
                table.add_row(verdict.name, *(f"{count:,}" for count in verdict.counts))
                for line in verdict.examples:
                    console.print(Text(line))
                bar.advance(task)
    except KeyboardInterrupt as ended:
        found.code = code_of(ended)
    table.add_section()
    table.add_row("all", *(f"{count:,}" for count in total))
    console.print(table)
    return total
