"""Losses by TensorFlow's own operations, by ``tf.nn`` and by what users compose of it."""

from __future__ import annotations

from lossfuzz.harness.paths import tf_nn_sigmoid, tf_nn_softmax

PATHS = (*tf_nn_softmax.PATHS, *tf_nn_sigmoid.PATHS)
