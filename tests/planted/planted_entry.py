"""What an entry of the collection is: a loss as a user writes it, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Loss = Callable[[Any, Any], Any]

ALL_FORMATS = ("float16", "bfloat16", "float32")
HALF_FORMATS = ("float16", "bfloat16")
ALL_MODES = ("eager", "graph", "xla")
OP_BY_OP = ("eager", "graph")
"""Modes that round after every operation; XLA keeps half formats in float32 inside a fusion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A loss with a known defect.

    Attributes:
        name: of its function.
        against: slug of the loss that it is meant to be: the name in the table of losses, in
            lower case, with one "-" for every run of other characters.
        loss: ``(logits, labels) -> losses`` on tensors, as a user writes it.
        reported: where, as ``owner/repository#number``; or what kind of bug it is.
        formats: in which the defect shows.
        modes: in which the defect shows.
        reduction: over the batch; None for a loss of each row.
        kinds: of finding that are expected, one of them at least; empty for any.
    """

    name: str
    against: str
    loss: Loss
    reported: str
    formats: tuple[str, ...] = ALL_FORMATS
    modes: tuple[str, ...] = ALL_MODES
    reduction: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """A loss without a defect: it must never be flagged.

    Attributes:
        name: of its function.
        against: slug of the loss that it is.
        loss: ``(logits, labels) -> losses`` on tensors.
        why: what makes it sound.
        formats: in which it is sound.
        reduction: over the batch; None for a loss of each row.
        most_classes: in float16, up to which it is sound; a plain sum in it holds 65,504 ones.
    """

    name: str
    against: str
    loss: Loss
    why: str
    formats: tuple[str, ...] = ALL_FORMATS
    reduction: str | None = None
    most_classes: int | None = None


def planting(collected: list[Planted], against: str) -> Callable[..., Callable[[Loss], Loss]]:
    """A decorator ``planted(reported, **fields)`` that adds functions to a module's list."""

    def planted(reported: str, **fields: Any) -> Callable[[Loss], Loss]:
        def add(loss: Loss) -> Loss:
            entry = {"against": against, "name": loss.__name__, **fields}
            collected.append(Planted(loss=loss, reported=reported, **entry))
            return loss

        return add

    return planted
