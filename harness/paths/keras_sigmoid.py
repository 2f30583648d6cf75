"""Keras's losses of a sigmoid: which are called, with what, and in which ways."""

from __future__ import annotations

from lossfuzz.harness.losses import binary
from lossfuzz.harness.losses import documented_binary as documented
from lossfuzz.harness.losses.focal import BALANCED_BINARY_FOCAL, BINARY_FOCAL
from lossfuzz.harness.paths.keras_call import KerasLoss

_BINARY = "binary_crossentropy"
_FOCAL = "binary_focal_crossentropy"

_FOCAL_WAYS: dict[float, dict[str, tuple[str, ...]]] = {
    2.0: {
        "keras": (
            "function/from-logits",
            "function/cached-sigmoid",
            "function/sigmoid-identity",
            "class/from-logits",
        ),
        "tf_keras": ("function/from-logits", "function/sigmoid-identity"),
    },
    0.5: {
        "keras": ("function/from-logits", "function/sigmoid-identity"),
        "tf_keras": ("function/from-logits",),
    },
    0.0: {"keras": ("function/from-logits",)},
}

LOSSES = (
    KerasLoss(
        name="binary",
        function=_BINARY,
        loss=binary.BINARY_CROSS_ENTROPY,
        on_probabilities={
            "keras": documented.CLIPPED_BINARY,
            "tf_keras": documented.CLIPPED_BINARY_PLUS_EPSILON,
        },
        ways={
            "keras": (
                "function/from-logits",
                "function/cached-sigmoid",
                "function/sigmoid-op",
                "function/sigmoid-identity",
                "class/from-logits",
            ),
            "tf_keras": (
                "function/from-logits",
                "function/cached-sigmoid",
                "function/sigmoid-op",
                "function/sigmoid-identity",
            ),
        },
    ),
    KerasLoss(
        name="soft-binary",
        function=_BINARY,
        loss=binary.SOFT_BINARY_CROSS_ENTROPY,
        on_probabilities={
            "keras": documented.CLIPPED_SOFT_BINARY,
            "tf_keras": documented.CLIPPED_SOFT_BINARY_PLUS_EPSILON,
        },
        ways={
            "keras": ("function/sigmoid-identity",),
            "tf_keras": ("function/sigmoid-identity",),
        },
    ),
    KerasLoss(
        name="smoothed-binary",
        function=_BINARY,
        loss=binary.SMOOTHED_BINARY_CROSS_ENTROPY,
        on_probabilities={
            "keras": documented.CLIPPED_SMOOTHED_BINARY,
            "tf_keras": documented.CLIPPED_SMOOTHED_BINARY_PLUS_EPSILON,
        },
        arguments=("label_smoothing=0.1",),
        ways={
            "keras": ("function/from-logits", "function/sigmoid-identity"),
            "tf_keras": ("function/sigmoid-identity",),
        },
    ),
    *(
        KerasLoss(
            name=f"binary-focal-{gamma:g}",
            function=_FOCAL,
            loss=loss,
            on_probabilities={
                "keras": documented.CLIPPED_BINARY_FOCAL[gamma],
                "tf_keras": documented.CLIPPED_BINARY_FOCAL_PLUS_EPSILON[gamma],
            },
            arguments=(f"gamma={gamma}",),
            ways=_FOCAL_WAYS[gamma],
        )
        for gamma, loss in BINARY_FOCAL.items()
    ),
    KerasLoss(
        name="balanced-binary-focal",
        function=_FOCAL,
        loss=BALANCED_BINARY_FOCAL,
        on_probabilities={
            "keras": documented.CLIPPED_BALANCED_BINARY_FOCAL,
            "tf_keras": documented.CLIPPED_BALANCED_BINARY_FOCAL_PLUS_EPSILON,
        },
        arguments=("apply_class_balancing=True",),
        ways={
            "keras": ("function/sigmoid-identity",),
            "tf_keras": ("function/sigmoid-identity",),
        },
    ),
)
