"""Where in the space of inputs a row lies: a name that is a pure function of the row.

The regions are those where different things go wrong, first match first:

- no row: a crash or timeout that no row was found for;
- ignored rows: the target tells the loss to leave the row out;
- masked classes: a logit of -inf;
- near the largest number: a logit beyond an eighth of the format's largest number;
- common offset: all logits have the same sign, and the smallest magnitude is at least 16 and four
  times their spread;
- label loses, or wins, by far: by a margin beyond -log of the unit roundoff, where
  1 + exp(-margin) rounds to 1;
- subnormal logits: a logit that is not 0 lies below the smallest normal number;
- many classes: more than 32;
- ties: the label and the largest other logit lie within two ulps of each other;
- label loses, or wins: by a smaller margin.

The margin is that of the label against the largest other logit. Where each class is judged by
itself, the label is the class that is most wrong, against 0, and a row "wins" if all are right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat

NO_ROW = "no row"
IGNORED = "ignored rows"
MASKED = "masked classes"
LARGEST = "near the largest number"
OFFSET = "common offset"
LOSES_BY_FAR = "label loses by far"
WINS_BY_FAR = "label wins by far"
SUBNORMAL = "subnormal logits"
MANY_CLASSES = "many classes"
TIES = "ties"
LOSES = "label loses"
WINS = "label wins"

_NEAR_LARGEST = 1 / 8
_LEAST_OFFSET = 16.0
_SPREADS = 4.0
_FEW_CLASSES = 32
_TIE_ULPS = 4  # of half a unit each


def region_of(
    logits: Sequence[float],
    label: int,
    weights: Sequence[float],
    loss: LossSpec,
    fmt: FloatFormat,
) -> str:
    """The region of a row.

    Args:
        logits: shape ``[classes]``; may be empty.
        label: the true class, or that of the largest weight.
        weights: shape ``[classes]``, or empty where the label says it all.
        loss: that the row was found with.
        fmt: of the logits.
    """
    if not logits:
        return NO_ROW
    finite = [value for value in logits if math.isfinite(value)]
    largest = max(abs(value) for value in finite) if finite else 0.0
    margin = _margin(logits, label, weights, loss)
    loses = margin > 0
    tests = (
        (bool(weights) and loss.masks and not any(weights), IGNORED),
        (len(finite) < len(logits), MASKED),
        (largest >= fmt.largest_finite * _NEAR_LARGEST, LARGEST),
        (_is_offset(finite), OFFSET),
        (abs(margin) > -math.log(fmt.unit_roundoff), LOSES_BY_FAR if loses else WINS_BY_FAR),
        (any(0 < abs(value) < fmt.smallest_normal for value in finite), SUBNORMAL),
        (len(logits) > _FEW_CLASSES, MANY_CLASSES),
        (abs(margin) <= _TIE_ULPS * fmt.unit_roundoff * largest, TIES),
    )
    return next((name for holds, name in tests if holds), LOSES if loses else WINS)


def _is_offset(values: Sequence[float]) -> bool:
    if len(values) < 2:
        return False
    lowest, highest = min(values), max(values)
    smallest = min(abs(lowest), abs(highest))
    same_sign = lowest > 0 or highest < 0
    return same_sign and smallest >= max(_LEAST_OFFSET, _SPREADS * (highest - lowest))


def _margin(
    logits: Sequence[float], label: int, weights: Sequence[float], loss: LossSpec
) -> float:
    """By how much the label loses; 0 for a single class of a softmax."""
    if not loss.masks and weights:
        return max(
            (1 - 2 * round(weight)) * value for value, weight in zip(logits, weights, strict=True)
        )
    others = [value for k, value in enumerate(logits) if k != label]
    return max(others) - logits[label] if others else 0.0
