"""Keras's losses of a softmax: which are called, with what, and in which ways."""

from __future__ import annotations

from lossfuzz.harness.losses import cross_entropy
from lossfuzz.harness.losses import documented_softmax as documented
from lossfuzz.harness.losses.divergences import GENERALISED_CROSS_ENTROPY, KL_DIVERGENCE
from lossfuzz.harness.losses.focal import CATEGORICAL_FOCAL
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.keras_call import KerasLoss

_SPARSE = "sparse_categorical_crossentropy"
_DENSE = "categorical_crossentropy"
_FOCAL = "categorical_focal_crossentropy"

_FOUR = ("from-logits", "cached-logits", "softmax-op", "softmax-identity")
_MORE = (
    "softmax-layer",
    "activation-layer",
    "softmax-reshape",
    "softmax-cast",
    "softmax-times-one",
)

_TRANSPOSED_LOGITS = "tf.linalg.matrix_transpose(logits)"
_TRANSPOSED_LABELS = "tf.linalg.matrix_transpose(labels)"
_OTHER_AXIS = "axis=logits.shape.rank - 2"
"""The last but one, counted from the front: ``tf.nn`` refuses axis=-2."""

SPARSE = KerasLoss(
    name="",
    function=_SPARSE,
    loss=SOFTMAX_CROSS_ENTROPY,
    on_probabilities={"keras": documented.CLIPPED_CROSS_ENTROPY},
    ways={
        "keras": (
            *(f"function/{way}" for way in (*_FOUR, *_MORE[:2], "ops-softmax", *_MORE[2:])),
            *(f"{kind}/{way}" for kind in ("class", "class-own-dtype") for way in _FOUR),
        ),
        "tf_keras": (
            *(f"function/{way}" for way in (*_FOUR, *_MORE)),
            *(f"class/{way}" for way in _FOUR),
        ),
    },
)
"""The one loss that is asked in every way."""

_VARIANTS = (
    KerasLoss(
        name="other-axis",
        function=_SPARSE,
        loss=SOFTMAX_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_CROSS_ENTROPY},
        arguments=(_OTHER_AXIS,),
        logits=_TRANSPOSED_LOGITS,
        ways={"tf_keras": ("function/from-logits",)},  # Keras 3 refuses the argument
    ),
    KerasLoss(
        name="ignoring",
        function=_SPARSE,
        loss=cross_entropy.IGNORING_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_IGNORING_CROSS_ENTROPY},
        arguments=("ignore_class=-1",),
        ways={
            "keras": (
                "function/from-logits",
                "function/cached-logits",
                "function/softmax-identity",
                "class/from-logits",
            ),
            "tf_keras": ("function/from-logits", "function/cached-logits"),
        },
    ),
    KerasLoss(
        name="warm",
        function=_SPARSE,
        loss=cross_entropy.WARM_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_WARM_CROSS_ENTROPY},
        logits="logits / 2.0",
        ways={"keras": ("function/cached-logits",)},
    ),
    KerasLoss(
        name="cold",
        function=_SPARSE,
        loss=cross_entropy.COLD_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_COLD_CROSS_ENTROPY},
        logits="logits / 0.0625",
        ways={
            "keras": ("function/cached-logits", "function/softmax-op"),
            "tf_keras": ("function/softmax-op",),
        },
    ),
)

_DENSE_LOSSES = (
    KerasLoss(
        name="one-hot",
        function=_DENSE,
        loss=cross_entropy.ONE_HOT_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_ONE_HOT_CROSS_ENTROPY},
        ways={
            "keras": (*(f"function/{way}" for way in _FOUR), "class/from-logits"),
            "tf_keras": ("function/from-logits", "function/softmax-identity"),
        },
    ),
    KerasLoss(
        name="one-hot-other-axis",
        function=_DENSE,
        loss=cross_entropy.ONE_HOT_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_ONE_HOT_CROSS_ENTROPY},
        arguments=(_OTHER_AXIS,),
        logits=_TRANSPOSED_LOGITS,
        labels=_TRANSPOSED_LABELS,
        ways={"keras": ("function/from-logits",)},
    ),
    KerasLoss(
        name="soft",
        function=_DENSE,
        loss=cross_entropy.SOFT_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_SOFT_CROSS_ENTROPY},
        ways={"keras": ("function/softmax-identity",)},
    ),
    KerasLoss(
        name="smoothed",
        function=_DENSE,
        loss=cross_entropy.SMOOTHED_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_SMOOTHED_CROSS_ENTROPY},
        arguments=("label_smoothing=0.1",),
        ways={
            "keras": ("function/from-logits", "function/softmax-op", "class/from-logits"),
            "tf_keras": ("function/from-logits",),
        },
    ),
    KerasLoss(
        name="smoothed-other-axis",
        function=_DENSE,
        loss=cross_entropy.SMOOTHED_CROSS_ENTROPY,
        on_probabilities={"keras": documented.CLIPPED_SMOOTHED_CROSS_ENTROPY},
        arguments=("label_smoothing=0.1", _OTHER_AXIS),
        logits=_TRANSPOSED_LOGITS,
        labels=_TRANSPOSED_LABELS,
        ways={"keras": ("function/from-logits",), "tf_keras": ("function/from-logits",)},
    ),
    KerasLoss(
        name="kl",
        function="kl_divergence",
        loss=KL_DIVERGENCE,
        on_probabilities={"keras": documented.CLIPPED_KL_DIVERGENCE},
        takes_from_logits=False,
        ways={
            "keras": ("function/softmax-op", "class/softmax-op"),
            "tf_keras": ("function/softmax-op",),
        },
    ),
    KerasLoss(
        name="gce",
        function="categorical_generalized_cross_entropy",
        loss=GENERALISED_CROSS_ENTROPY,
        on_probabilities={"keras": GENERALISED_CROSS_ENTROPY},
        arguments=("q=0.5",),
        takes_from_logits=False,
        ways={"keras": ("function/softmax-op",)},
    ),
)

_FOCAL_WAYS: dict[float, dict[str, tuple[str, ...]]] = {
    2.0: {
        "keras": ("function/from-logits", "function/softmax-op", "class/from-logits"),
        "tf_keras": ("function/from-logits", "function/softmax-op"),
    },
    0.5: {"keras": ("function/from-logits", "function/softmax-op")},
    0.0: {"keras": ("function/from-logits",)},
}

_FOCAL_LOSSES = tuple(
    KerasLoss(
        name=f"focal-{gamma:g}",
        function=_FOCAL,
        loss=loss,
        on_probabilities={"keras": documented.CLIPPED_CATEGORICAL_FOCAL[gamma]},
        on_logits=documented.CLIPPED_CATEGORICAL_FOCAL[gamma],
        arguments=(f"gamma={gamma}",),
        ways=_FOCAL_WAYS[gamma],
    )
    for gamma, loss in CATEGORICAL_FOCAL.items()
)
"""These clip the softmax even of logits."""

LOSSES = (*_VARIANTS, *_DENSE_LOSSES, *_FOCAL_LOSSES)
