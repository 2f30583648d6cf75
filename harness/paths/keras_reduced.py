"""Keras's loss classes with the reductions that training uses."""

from __future__ import annotations

from lossfuzz.harness.losses import documented_binary, documented_softmax, reduced
from lossfuzz.harness.losses.reduced import MEAN, SUM, WEIGHTED_MEAN
from lossfuzz.harness.paths.keras_call import KerasLoss

_SPARSE = "sparse_categorical_crossentropy"
_CLIPPED = documented_softmax.CLIPPED_CROSS_ENTROPY

LOSSES = (
    KerasLoss(
        name="mean",
        function=_SPARSE,
        loss=reduced.MEAN_CROSS_ENTROPY,
        on_probabilities={"keras": reduced.reduced(_CLIPPED, MEAN)},
        reduction="",
        ways={
            "keras": ("class/from-logits", "class-own-dtype/from-logits", "class/softmax-op"),
            "tf_keras": ("class/from-logits",),
        },
    ),
    KerasLoss(
        name="sum",
        function=_SPARSE,
        loss=reduced.SUMMED_CROSS_ENTROPY,
        on_probabilities={"keras": reduced.reduced(_CLIPPED, SUM)},
        reduction='"sum"',
        ways={"keras": ("class/from-logits",)},
    ),
    KerasLoss(
        name="weighted-mean",
        function=_SPARSE,
        loss=reduced.WEIGHTED_MEAN_CROSS_ENTROPY,
        on_probabilities={"keras": reduced.reduced(_CLIPPED, WEIGHTED_MEAN)},
        reduction="",
        sample_weight=True,
        ways={"keras": ("class/from-logits",), "tf_keras": ("class/from-logits",)},
    ),
    KerasLoss(
        name="mean-one-hot",
        function="categorical_crossentropy",
        loss=reduced.MEAN_ONE_HOT_CROSS_ENTROPY,
        on_probabilities={
            "keras": reduced.reduced(documented_softmax.CLIPPED_ONE_HOT_CROSS_ENTROPY, MEAN)
        },
        reduction="",
        ways={"keras": ("class/from-logits",)},
    ),
    KerasLoss(
        name="mean-binary",
        function="binary_crossentropy",
        loss=reduced.MEAN_BINARY_CROSS_ENTROPY,
        on_probabilities={"keras": reduced.reduced(documented_binary.CLIPPED_BINARY, MEAN)},
        reduction="",
        ways={"keras": ("class/from-logits", "class/sigmoid-op")},
    ),
)
