"""A loss that stops growing is told from one that is merely rounded."""

import numpy as np
import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.measuring.growth import growth_of
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.running.execution import CellRunner

pytestmark = pytest.mark.usefixtures("tf")


def stopped(loss, rows, fmt=BINARY32):
    path = own_path(loss, SOFTMAX_CROSS_ENTROPY)
    runner = CellRunner(Cell(path=path, format=fmt, mode="eager", device="CPU:0"))
    logits = fmt.cast(np.array(rows, np.float64))
    prepared = prepare(logits, np.zeros(len(rows), np.int32), {})
    return growth_of(runner, outcome_of(runner, prepared))


def clipped(logits, labels):
    import tensorflow as tf

    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=1)
    return -tf.math.log(tf.clip_by_value(p, 1e-7, 1.0))


def added(logits, labels):
    import tensorflow as tf

    return -tf.math.log(tf.gather(tf.nn.softmax(logits), labels, batch_dims=1) + 1e-3)


def test_a_loss_beyond_its_clip_has_stopped_and_one_before_it_has_not():
    found = stopped(clipped, [[0, 17], [0, 40], [0, 12], [3, 0]])
    assert found.stopped.tolist() == [True, True, False, False]
    assert (found.exact_loss[:2] > [17.0, 40.0]).all()


@pytest.mark.parametrize("fmt", [BINARY32, BINARY16], ids=lambda one: one.name)
def test_a_loss_that_is_too_small_and_still_grows_has_not_stopped(fmt):
    found = stopped(added, [[0, 4], [0, 6]], fmt)
    assert found.stopped.tolist() == [False, False]
