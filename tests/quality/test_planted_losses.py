"""Planted defects of every loss beside plain cross-entropy, on real TensorFlow, with sound twins.

The twins compute in float64, by the textbook's stable forms, and round once.
"""

import numpy as np
import pytest
from in_float64 import in_float64

from lossfuzz.harness.losses.binary import (
    BINARY_CROSS_ENTROPY,
    WEIGHTED_BINARY_CROSS_ENTROPY,
)
from lossfuzz.harness.losses.cross_entropy import (
    COLD_CROSS_ENTROPY,
    IGNORING_CROSS_ENTROPY,
    ONE_HOT_CROSS_ENTROPY,
    SMOOTHED_CROSS_ENTROPY,
    WARM_CROSS_ENTROPY,
)
from lossfuzz.harness.losses.divergences import (
    GENERALISED_CROSS_ENTROPY,
    KL_DIVERGENCE,
    LOG_SUM_EXP,
)
from lossfuzz.harness.losses.focal import (
    ALPHA,
    BINARY_FOCAL,
    CATEGORICAL_FOCAL,
)
from lossfuzz.harness.losses.reduced import MEAN_CROSS_ENTROPY, SUMMED_CROSS_ENTROPY
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.results import kinds
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

pytestmark = pytest.mark.usefixtures("tf")


def path(loss, call):
    return LossPath(
        name="planted/one", loss=loss, api="tensorflow", call=call, source="", documented=loss
    )


def defects_shown(loss, call, fmt, mode="eager", families=tuple(FAMILIES), shape=(64, 6)):
    cell = Cell(path=path(loss, call), format=fmt, mode=mode, device="CPU:0")
    runner = CellRunner(cell)
    found = set()
    for recipe in planned_recipes(
        families=families, fmt=fmt, shapes=(shape,), rows=len(families) * shape[0], seed=2
    ):
        batch = expand(recipe)
        outcome = outcome_of(runner, prepare(batch.logits, batch.labels, recipe.to_json(), loss))
        found |= {kind for kind, rows in outcome.measurement.defects.items() if rows.any()}
    return found


def at_label(tf, values, labels):
    return tf.gather(values, labels, batch_dims=labels.shape.rank)


def planted(tf):
    """Loss, what is wrong, what to do, and the kind that must be found."""
    nn, math = tf.nn, tf.math

    def fused(x, y):
        return nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)

    return [
        (
            ONE_HOT_CROSS_ENTROPY,
            "zero times infinity",
            lambda x, t, _: -tf.reduce_sum(t * math.log(nn.softmax(x)), -1),
            kinds.NON_FINITE_LOSS,
        ),
        (
            SMOOTHED_CROSS_ENTROPY,
            "smoothing forgotten",
            lambda x, t, _: nn.softmax_cross_entropy_with_logits(labels=t, logits=x),
            kinds.INACCURATE_GRADIENT,
        ),
        (
            IGNORING_CROSS_ENTROPY,
            "ignored rows count",
            lambda x, y, _: fused(x, tf.maximum(y, 0)),
            kinds.INACCURATE_LOSS,
        ),
        (
            WARM_CROSS_ENTROPY,
            "gradient without the temperature",
            lambda x, y, _: fused(x, y) + tf.stop_gradient(fused(x / 2, y) - fused(x, y)),
            kinds.INACCURATE_GRADIENT,
        ),
        (
            COLD_CROSS_ENTROPY,
            "unshifted",
            lambda x, y, _: tf.reduce_logsumexp(x * 16, -1) - at_label(tf, x * 16, y),
            kinds.NON_FINITE_LOSS,
        ),
        (
            KL_DIVERGENCE,
            "0 log 0",
            lambda x, t, _: tf.reduce_sum(t * (math.log(t) - nn.log_softmax(x)), -1),
            kinds.NON_FINITE_LOSS,
        ),
        (
            GENERALISED_CROSS_ENTROPY,
            "power at 0",
            lambda x, y, _: (1 - at_label(tf, nn.softmax(x), y) ** 0.5) * 2,
            kinds.NON_FINITE_GRADIENT,
        ),
        (
            LOG_SUM_EXP,
            "no shift",
            lambda x, y, _: math.log(tf.reduce_sum(tf.exp(x), -1)),
            kinds.NON_FINITE_LOSS,
        ),
        (
            BINARY_CROSS_ENTROPY,
            "log of sigmoid",
            lambda x, t, _: (
                -tf.reduce_mean(
                    t * math.log(tf.sigmoid(x)) + (1 - t) * math.log(1 - tf.sigmoid(x)), -1
                )
            ),
            kinds.NON_FINITE_LOSS,
        ),
        (
            BINARY_CROSS_ENTROPY,
            "where trap",
            lambda x, t, _: tf.reduce_mean(
                tf.where(x > 0, x - x * t + math.log1p(tf.exp(-x)), math.log1p(tf.exp(x)) - x * t),
                -1,
            ),
            kinds.NON_FINITE_GRADIENT,
        ),
        (
            BINARY_CROSS_ENTROPY,
            "gradient lost at exactly 0",
            lambda x, t, _: tf.reduce_mean(
                nn.relu(x) - x * t + math.log1p(tf.exp(-tf.abs(x))), -1
            ),
            kinds.INACCURATE_GRADIENT,
        ),
        (
            WEIGHTED_BINARY_CROSS_ENTROPY,
            "weight on the wrong class",
            lambda x, t, _: tf.reduce_mean(
                nn.weighted_cross_entropy_with_logits(1 - t, -x, 8.0), -1
            ),
            kinds.INACCURATE_LOSS,
        ),
        (
            CATEGORICAL_FOCAL[0.5],
            "gradient at p = 1",
            lambda x, t, _: (
                ALPHA
                * (1 - tf.reduce_sum(t * nn.softmax(x), -1)) ** 0.5
                * fused(x, tf.argmax(t, -1))
            ),
            kinds.NON_FINITE_GRADIENT,
        ),
        (
            BINARY_FOCAL[2.0],
            "factor without gradient",
            lambda x, t, _: tf.reduce_mean(
                tf.stop_gradient((1 - t) * tf.sigmoid(x) + t * tf.sigmoid(-x)) ** 2
                * nn.sigmoid_cross_entropy_with_logits(labels=t, logits=x),
                -1,
            ),
            kinds.INACCURATE_GRADIENT,
        ),
        (
            SUMMED_CROSS_ENTROPY,
            "mean for sum",
            lambda x, y, _: tf.reduce_mean(fused(x, y)),
            kinds.INACCURATE_LOSS,
        ),
    ]


NAMES = (
    "zero times infinity",
    "smoothing forgotten",
    "ignored rows count",
    "gradient without the temperature",
    "unshifted",
    "0 log 0",
    "power at 0",
    "no shift",
    "log of sigmoid",
    "where trap",
    "gradient lost at exactly 0",
    "weight on the wrong class",
    "gradient at p = 1",
    "factor without gradient",
    "mean for sum",
)


WITHIN_ROUNDING = {("smoothing forgotten", BFLOAT16)}
"""A gradient that errs by 0.1 is within the bound of 0.12 for six classes and 8 bits."""


def test_every_planted_loss_has_its_test(tf):
    assert tuple(name for _, name, _, _ in planted(tf)) == NAMES


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_defect_is_found(tf, name, fmt, mode):
    ((loss, _, call, kind),) = (one for one in planted(tf) if one[1] == name)
    found = kind in defects_shown(loss, call, fmt, mode)
    assert found == ((name, fmt) not in WITHIN_ROUNDING)


def test_a_mean_that_overflows_in_half_at_an_ordinary_loss_is_found(tf):
    def call(logits, labels, _):
        rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(rows) / rows.shape[0]

    runner = CellRunner(
        Cell(path=path(MEAN_CROSS_ENTROPY, call), format=BINARY16, mode="eager", device="CPU:0")
    )
    logits = np.zeros((4096, 2), np.float16)
    logits[:, 1] = 20
    prepared = prepare(logits, np.zeros(4096, np.int32), {}, MEAN_CROSS_ENTROPY)
    assert prepared.reference.loss[0] == pytest.approx(20)
    outcome = outcome_of(runner, prepared)
    assert outcome.measurement.defects[kinds.NON_FINITE_LOSS].all()


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_sound_twin_of_every_loss_shows_no_defect(tf, loss, fmt):
    assert defects_shown(loss, in_float64(tf, loss), fmt) == set()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_sound_twin_shows_no_defect_in_graphs_with_time_and_many_classes(tf, loss):
    call = in_float64(tf, loss)
    assert defects_shown(loss, call, BINARY32, "graph", shape=(2, 8, 65)) == set()
