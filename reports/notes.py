"""What a reader of a verdict must know beside it: what it leaves out and what it tolerates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import INACCURACY
from lossfuzz.harness.results.run import LEAST_JUDGED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from lossfuzz.harness.results.run import CellResult

_TAILS = {
    kinds.LOSS_COLLAPSE: "a loss of 0 where the exact one is tiny",
    kinds.GRADIENT_COLLAPSE: "a gradient of 0 where the exact one is tiny",
    kinds.LABEL_GRADIENT_COLLAPSE: "a label's gradient of 0 where the exact one is tiny",
}
"""Inaccuracies in which a tiny value is lost as a whole, with what is seen."""


def notes(cells: Sequence[CellResult], without_value: Collection[str] = ()) -> list[str]:
    """A sentence for each thing that a verdict on some cells leaves out.

    Args:
        cells: that were to be measured.
        without_value: families none of whose rows has an exact value.
    """
    return [*_not_reached(cells), *_not_judged(cells, without_value), *_lost_tails(cells)]


def not_judged(cells: Iterable[CellResult]) -> list[CellResult]:
    """The cells that were run and of whose rows too few have an exact value."""
    return [
        one for one in cells if one.unavailable is None and one.summary.rows and not one.is_judged
    ]


def not_reached(cells: Iterable[CellResult]) -> list[CellResult]:
    """The cells that were not run at all before the budget was spent."""
    return [one for one in cells if not one.summary.rows and not one.searched]


def _not_reached(cells: Sequence[CellResult]) -> list[str]:
    missing = [one for one in not_reached(cells) if one.unavailable is None or one.was_not_tried]
    if not missing:
        return []
    return [
        f"not reached within the budget, and so not judged: {_places(missing)}; allow more seconds"
    ]


def _not_judged(cells: Sequence[CellResult], without_value: Collection[str]) -> list[str]:
    told = []
    few = not_judged(cells)
    if few:
        rows = sum(one.summary.rows for one in few)
        judged = sum(one.summary.judged for one in few)
        told.append(
            f"not judged: {judged:,} of {rows:,} rows have an exact value in {_places(few)}, "
            f"fewer than {100 * LEAST_JUDGED:.0f} %; if the loss takes cosines or other bounded "
            "numbers, say so: bounds=(-1, 1)"
        )
    elif without_value:
        told.append(
            f"no row of these families has an exact value: {', '.join(sorted(without_value))}"
        )
    return told


def _lost_tails(cells: Sequence[CellResult]) -> list[str]:
    told = []
    for kind, text in _TAILS.items():
        seen = [one for one in cells if (kind, INACCURACY) in one.findings]
        if seen:
            where = "every cell" if len(seen) == len(cells) else _places(seen)
            told.append(f"{text} ({kind}, an inaccuracy) in {where}")
    return [f"lost tails: {'; '.join(told)}"] if told else []


def _places(cells: Iterable[CellResult]) -> str:
    """Formats with their modes: ``float32 eager and graph, float16 eager``."""
    modes: dict[str, list[str]] = {}
    for one in cells:
        known = modes.setdefault(one.cell.format.dtype_name, [])
        if one.cell.mode not in known:
            known.append(one.cell.mode)
    return ", ".join(f"{fmt} {' and '.join(names)}" for fmt, names in modes.items())
