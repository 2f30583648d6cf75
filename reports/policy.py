"""What the cells do with logits that have no exact value, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.reports.words import amount, listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.results.run import CellResult

_MOST = 4


def policy_lines(cells: Iterable[CellResult]) -> list[str]:
    """A line for each kind of such rows: what so many cells return, the commonest answer first."""
    answers: dict[str, dict[str, int]] = {}
    for one in cells:
        for row, answer in one.policy.items():
            counts = answers.setdefault(row, {})
            counts[answer] = counts.get(answer, 0) + 1
    return [f"{row}: {_told(counts)}" for row, counts in answers.items()]


def _told(counts: dict[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    texts = [f"{answer} in {amount(count, 'cell')}" for answer, count in ranked]
    return listing(texts, most=_MOST)
