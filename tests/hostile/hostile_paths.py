"""Planted paths that a campaign must survive: each does harm on rows with a logit above 100."""

import os
import time
from typing import Any

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.path import LossPath

THRESHOLD = 100.0


def _abort(_):
    os.abort()


def _hang(_):
    time.sleep(1e6)


def _eat(_):
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * (1 << 26)))


def _refuse(_):
    raise ValueError("this path does not like large logits")


def _path(harm: Any) -> LossPath:
    def call(logits: Any, labels: Any, _: Any) -> Any:
        import tensorflow as tf

        if float(logits.numpy().astype("float64").max()) > THRESHOLD:
            harm(logits)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    return LossPath(
        name="hostile",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=call,
        source="",
        documented=SOFTMAX_CROSS_ENTROPY,
    )


ABORTS = _path(_abort)
HANGS = _path(_hang)
EATS = _path(_eat)
REFUSES = _path(_refuse)
