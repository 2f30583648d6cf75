"""Every loss, by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lossfuzz.harness.losses import binary, cross_entropy, divergences, focal, reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.losses.spec import LossSpec

LOSSES: tuple[LossSpec, ...] = (
    SOFTMAX_CROSS_ENTROPY,
    *cross_entropy.LOSSES,
    *divergences.LOSSES,
    *binary.LOSSES,
    *focal.LOSSES,
    *reduced.LOSSES,
)
"""All losses that paths compute; rows first, reductions last."""


def loss_named(name: str) -> LossSpec:
    """The loss of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    for loss in LOSSES:
        if loss.name == name:
            return loss
    raise ValueError(f"unknown loss {name!r}; known losses: {'; '.join(x.name for x in LOSSES)}")


def losses_matching(patterns: Iterable[str]) -> list[LossSpec]:
    """The losses whose names match any of the shell patterns, in the table's order.

    Raises:
        ValueError: a pattern matches nothing; the message lists the known names.
    """
    chosen = set()
    for pattern in patterns:
        matching = {loss.name for loss in LOSSES if fnmatchcase(loss.name, pattern)}
        if not matching:
            known = "; ".join(loss.name for loss in LOSSES)
            raise ValueError(
                f"unknown loss {pattern!r}; known losses: {known} (shell patterns work: '*focal*')"
            )
        chosen |= matching
    return [loss for loss in LOSSES if loss.name in chosen]
