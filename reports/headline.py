"""A run in plain words: a few sentences for somebody who has a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.reports import tables
from lossfuzz.reports.advice import by_loss, recommended
from lossfuzz.reports.words import listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.results.run import CellResult, RunResult


def headline(result: RunResult) -> list[str]:
    """How the losses fare, and how the formats do, a sentence each."""
    measured = [one for one in result.cells if one.unavailable is None and one.summary.judged]
    ends = tables.ended_cells([one for one in result.cells if one.unavailable is None])
    if not measured:
        return [f"{ends}, and nothing was measured." if ends else "Nothing was measured."]
    losses = {loss: recommended(cells) for loss, cells in by_loss(measured).items()}
    sentences = [*([f"{ends}."] if ends else []), *_losses(losses)]
    sentences.append(_formats(measured))
    designed = sum(one.summary.designed for one in measured)
    if designed:
        sentences.append(
            f"In {designed:,} of the defective cells all is as the path documents: its formula, "
            "such as one with a clip, is what breaks."
        )
    return sentences


def _losses(paths: dict[str, list[str]]) -> Iterator[str]:
    good = [loss for loss, names in paths.items() if names]
    bad = [loss for loss, names in paths.items() if not names]
    if len(paths) == 1:
        (loss,) = paths
        yield (
            f"{loss[0].upper()}{loss[1:]} has a path that is without a defect wherever it ran: "
            f"{paths[loss][0]}."
            if good
            else f"No path of {loss} is without a defect wherever it ran."
        )
        return
    count = f"All {len(paths)}" if not bad else f"{len(good)} of {len(paths)}"
    yield (
        f"{count} losses have a path without a defect in every format, mode "
        f"and device it ran in{_without(bad) or '.'}"
    )


def _without(losses: Sequence[str]) -> str:
    if not losses:
        return ""
    have = "this one has" if len(losses) == 1 else "these have"
    return f"; {have} none: {listing(losses, most=3)}."


def _formats(measured: Sequence[CellResult]) -> str:
    by_format: dict[str, list[CellResult]] = {}
    for one in measured:
        by_format.setdefault(one.cell.format.dtype_name, []).append(one)
    told = []
    for fmt, cells in by_format.items():
        count = sum(tables.verdict_of(one) == "defective" for one in cells)
        told.append(f"{_percent(count, len(cells))} of the {fmt} cells")
    return f"Defects showed in {', '.join(told)}."


def _percent(count: int, of: int) -> str:
    """A share in whole percent; in digits where that would say none or all and is not."""
    whole = f"{100 * count / of:.0f} %"
    if whole in ("0 %", "100 %") and 0 < count < of:
        return tables.share(count / of)
    return whole if count else "none"
