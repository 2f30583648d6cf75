"""The margins at which cells break, as tables of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.numbers.formats import BINARY32, BINARY64
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import (
    SIDES,
    ZERO_GRADIENT,
    CellCliffs,
    first_defect,
    shortest,
)
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.results.cliffs import Cliff

_HEADINGS = {
    kinds.GRADIENT_COLLAPSE: "gradient vanishes",
    ZERO_GRADIENT: "gradient is 0",
    kinds.LABEL_GRADIENT_COLLAPSE: "label's gradient is 0",
    kinds.SATURATION: "loss stops growing",
    kinds.LOSS_COLLAPSE: "loss is 0",
    kinds.NON_FINITE_LOSS: "loss is not finite",
    kinds.NON_FINITE_GRADIENT: "gradient is not finite",
}

_PLATEAU = "loss stops at"

COLUMNS = ("path", "format", "modes", "side", *_HEADINGS.values(), _PLATEAU)
"""Column headings; the last but one hold the first margin, the shortest decimal that is exact.

The last one holds the value that the loss has once it stops growing.
"""

NONE = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliffRow:
    """One line of the table: one side of a cell, or of the modes that agree on all sides.

    Attributes:
        texts: as `COLUMNS`.
        tier: the worst of its cliffs; empty without any.
    """

    texts: tuple[str, ...]
    tier: str


def cliff_rows(found: Sequence[CellCliffs]) -> list[CliffRow]:
    """A line for each side of each cell that has a cliff, or one for the cell.

    A margin in brackets begins an inaccuracy, one with a question mark was not confirmed.
    """
    rows: list[CliffRow] = []
    for modes, one in _by_agreement(found):
        cell = one.cell
        head = (cell.path.name, cell.format.dtype_name, modes)
        if one.unavailable is not None:
            rows.append(
                CliffRow(texts=(*head, one.unavailable, *[NONE] * (len(_HEADINGS) + 1)), tier="")
            )
            continue
        sides = [side for side in SIDES if any(cliff.side == side for cliff in one.cliffs)]
        rows += [_row(head, side, one) for side in sides or (NONE,)]
    return rows


def _by_agreement(found: Sequence[CellCliffs]) -> list[tuple[str, CellCliffs]]:
    """Cells, those joined that differ in their mode alone and have the same margins throughout."""
    joined: dict[tuple[object, ...], tuple[list[str], CellCliffs]] = {}
    for one in found:
        cell = one.cell
        margins = tuple((cliff.side, cliff.kind, cliff.tier, cliff.margin) for cliff in one.cliffs)
        key = (cell.path.name, cell.format.name, cell.device, one.unavailable, margins)
        joined.setdefault(key, ([], one))[0].append(cell.mode)
    return [(" ".join(modes), one) for modes, one in joined.values()]


def _row(head: tuple[str, str, str], side: str, one: CellCliffs) -> CliffRow:
    here = {cliff.kind: cliff for cliff in one.cliffs if cliff.side == side}
    texts = [margin_text(here.get(kind), one.cell.format) for kind in _HEADINGS]
    texts.append(_plateau_text(here.get(kinds.SATURATION)))
    tiers = {cliff.tier for cliff in here.values()}
    worst = DEFECT if DEFECT in tiers else INACCURACY if tiers else ""
    return CliffRow(texts=(*head, side, *texts), tier=worst)


def margin_text(cliff: Cliff | None, fmt: FloatFormat) -> str:
    """A cliff's margin, in brackets for an inaccuracy, with a question mark if not confirmed."""
    if cliff is None:
        return NONE
    text = shortest(cliff.margin, fmt) + ("" if cliff.confirmed else "?")
    return text if cliff.tier == DEFECT else f"({text})"


def _plateau_text(cliff: Cliff | None) -> str:
    """The loss at which a cell stops growing, in as few digits as its format needs."""
    if cliff is None:
        return NONE
    value = cliff.at.loss
    narrow = float(BINARY32.cast(np.array([value]))[0]) == value
    return shortest(value, BINARY32 if narrow else BINARY64) + ("" if cliff.confirmed else "?")


def begins_text(cliffs: Iterable[Cliff], kind: str, fmt: FloatFormat) -> str:
    """Where a kind begins as a defect while the target loses, as the table of cliffs tells it.

    Args:
        cliffs: that were walked; without any there is no figure.
        kind: of `CLIFF_KINDS`; of a saturation the loss's value is told instead of the margin.
        fmt: of the logits.
    """
    cliff = first_defect(cliffs, kind)
    return _plateau_text(cliff) if kind == kinds.SATURATION else margin_text(cliff, fmt)


def legend(found: Iterable[CellCliffs]) -> list[str]:
    """What the table's sides stand for, those that it has, and its brackets."""
    sides = {cliff.side for one in found for cliff in one.cliffs}
    figures = (
        "Each figure is the first margin m that shows it, the number just below does not; in "
        "brackets, where only a relative error sees it. What stands below 'loss stops at' is no "
        "margin, but the loss that it has from where it stops growing on."
    )
    return [
        *(f"{side}: {SIDES[side]}" for side in SIDES if side in sides),
        figures,
    ]
