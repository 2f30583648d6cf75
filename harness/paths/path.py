"""One way in which users compute a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.formats import FloatFormat
    from lossfuzz.harness.losses.spec import LossSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPath:
    """A loss path: what a user calls, on logits, to get the loss of every row.

    Attributes:
        name: unique, ``api/way/variant``.
        loss: the mathematics that it computes.
        api: the package that a user imports for it.
        call: ``(logits, labels, format) -> losses`` on tensors ``[..., classes]`` and ``[...]``;
            imports TensorFlow itself, so that listing paths does not.
        source: the same as an expression of ``logits`` and ``labels``, for a pasted snippet.
        documented: the formula that the path promises.
    """

    name: str
    loss: LossSpec
    api: str
    call: Callable[[Any, Any, FloatFormat], Any]
    source: str
    documented: str
