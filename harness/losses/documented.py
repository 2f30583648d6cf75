"""What libraries promise where it is not the loss itself: clips and added epsilons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.losses import documented_binary, documented_softmax
from lossfuzz.harness.losses.reduced import (
    MEAN,
    MEAN_BINARY_CROSS_ENTROPY,
    MEAN_CROSS_ENTROPY,
    MEAN_ONE_HOT_CROSS_ENTROPY,
    reduced,
)

if TYPE_CHECKING:
    from lossfuzz.harness.losses.spec import LossSpec

DOCUMENTED: tuple[LossSpec, ...] = (*documented_softmax.DOCUMENTED, *documented_binary.DOCUMENTED)
"""All of a row; `reduced` reduces them as it does the losses."""


def clipped_mean(loss: LossSpec) -> LossSpec:
    """What Keras promises for the mean of a loss that is given probabilities.

    Raises:
        KeyError: it is not one of the losses that models are compiled with.
    """
    return _CLIPPED_MEANS[loss.name]


_CLIPPED_MEANS: dict[str, LossSpec] = {
    MEAN_CROSS_ENTROPY.name: reduced(documented_softmax.CLIPPED_CROSS_ENTROPY, MEAN),
    MEAN_ONE_HOT_CROSS_ENTROPY.name: reduced(
        documented_softmax.CLIPPED_ONE_HOT_CROSS_ENTROPY, MEAN
    ),
    MEAN_BINARY_CROSS_ENTROPY.name: reduced(documented_binary.CLIPPED_BINARY, MEAN),
}
