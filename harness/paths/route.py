"""Routes: what stands between logits and loss, named by the operations that were executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FUSED = "fused on logits"
CACHED = "cached logits"
SKIPPED = "softmax skipped"
SIGMOID_SKIPPED = "sigmoid skipped"
CLIPPED = "clip + log"
LOG_SOFTMAX = "log-softmax"
LOG_OF_SOFTMAX = "log of softmax"

LOG_OF_SIGMOID = "log of sigmoid"
POWER_OF_SOFTMAX = "power of softmax"
LOG1P = "log1p(exp) on logits"
SHIFTED = "max-shifted log-sum-exp"
UNSHIFTED = "log of sum of exp"
OTHER = "other"

_FUSED_OPERATIONS = frozenset(
    {"SparseSoftmaxCrossEntropyWithLogits", "SoftmaxCrossEntropyWithLogits"}
)
_BY_OPERATIONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"Softmax", "Log"}), LOG_OF_SOFTMAX),
    (frozenset({"Sigmoid", "Log"}), LOG_OF_SIGMOID),
    (frozenset({"Softmax", "Xlogy"}), LOG_OF_SOFTMAX),
    (frozenset({"Softmax", "Pow"}), POWER_OF_SOFTMAX),
    (frozenset({"LogSoftmax"}), LOG_SOFTMAX),
    (frozenset({"Exp", "Log", "Max"}), SHIFTED),
    (frozenset({"Exp", "Log"}), UNSHIFTED),
)
"""What a route passes, most telling first, when it does not end in a fused operation."""

_ON_LOGITS = _FUSED_OPERATIONS | {"Log1p", "Softplus"}
_CLIPS = frozenset({"ClipByValue", "Minimum", "Maximum"})
_BOOKKEEPING = frozenset({"Const", "Shape", "StridedSlice", "Reshape", "Pack"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The route from logits to loss.

    Attributes:
        name: one of the names of this module, or ``other``.
        operations: the operations between them, in order of execution.
    """

    name: str
    operations: tuple[str, ...]

    @property
    def on_logits(self) -> bool:
        """Whether the loss was computed from the logits, so that no clip was passed."""
        return self.name in (FUSED, LOG1P, CACHED, SKIPPED, SIGMOID_SKIPPED)


def route_from(passed: list[str], executed: Iterable[tuple[str, bool]]) -> Route:
    """The route that passes some operations.

    Args:
        passed: between logits and loss, in order of execution.
        executed: all that were executed, each with whether Keras noted its logits at the result.
    """
    return Route(
        name=_route_name(set(passed), executed),
        operations=tuple(name for name in passed if name not in _BOOKKEEPING),
    )


def _route_name(present: set[str], executed: Iterable[tuple[str, bool]]) -> str:
    for passed, name in _BY_OPERATIONS:
        if passed <= present:
            clipped = name in (LOG_OF_SOFTMAX, LOG_OF_SIGMOID) and present & _CLIPS
            return CLIPPED if clipped else name
    if not present & _ON_LOGITS:
        return OTHER
    made = [one for one in executed if one[0] in {"Softmax", "Sigmoid"} - present]
    if not made:
        return FUSED if present & _FUSED_OPERATIONS else LOG1P
    if any(cached for _, cached in made):
        return CACHED
    return SKIPPED if made[0][0] == "Softmax" else SIGMOID_SKIPPED
