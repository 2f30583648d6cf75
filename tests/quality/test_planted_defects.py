"""Small losses that each show one kind of finding, run on real TensorFlow, and sound twins.

A checker is believed only once it has caught something, and only while it leaves the innocent
alone. Every planted loss is beside the twin that it would be without its defect.
"""

import numpy as np
import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.measuring.measure import disagreements
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.run import CellResult
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

pytestmark = pytest.mark.usefixtures("tf")


def one_hot(logits, labels):
    import tensorflow as tf

    return tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def shifted_log_softmax(logits, labels, _):
    import tensorflow as tf

    shifted = logits - tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), axis=-1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


def upcast(logits, labels, _):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=tf.cast(logits, tf.float32)
    )


def no_shift(logits, labels, _):
    import tensorflow as tf

    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits), axis=-1))
    return log_sum - tf.gather(logits, labels, batch_dims=labels.shape.rank)


def clipped_probability(logits, labels, _):
    import tensorflow as tf

    probability = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.clip_by_value(probability, 1e-7, 1.0))


def clipped_above(logits, labels, fmt):
    import tensorflow as tf

    loss = shifted_log_softmax(logits, labels, fmt)
    return tf.where(loss < 0.5, tf.zeros_like(loss), loss)


def stopped_at_label(logits, labels, fmt):
    import tensorflow as tf

    at_label = one_hot(logits, labels)
    return shifted_log_softmax(
        logits * (1 - at_label) + tf.stop_gradient(logits) * at_label, labels, fmt
    )


def with_gradient_scaled(factor):
    def call(logits, labels, fmt):
        import tensorflow as tf

        loss = shifted_log_softmax(logits, labels, fmt)
        scale = tf.constant(factor, loss.dtype)
        return loss * scale + tf.stop_gradient(loss * (1 - scale))

    return call


def shifted_value(logits, labels, fmt):
    import tensorflow as tf

    loss = shifted_log_softmax(logits, labels, fmt)
    return loss + tf.cast(tf.constant(0.75), loss.dtype)


def other_in_graphs(logits, labels, fmt):
    import tensorflow as tf

    sound = shifted_log_softmax(logits, labels, fmt)
    return sound if tf.executing_eagerly() else sound * 2


def path(call):
    return LossPath(
        name=f"planted/{getattr(call, '__name__', 'call')}",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=call,
        source="",
        documented=SOFTMAX_CROSS_ENTROPY,
    )


def outcomes(call, fmt, mode, rows=16 * 256, seed=11):
    runner = CellRunner(Cell(path=path(call), format=fmt, mode=mode, device="CPU:0"))
    for recipe in planned_recipes(
        families=tuple(FAMILIES), fmt=fmt, shapes=((256, 10),), rows=rows, seed=seed
    ):
        batch = expand(recipe)
        yield outcome_of(runner, prepare(batch.logits, batch.labels, recipe.to_json()))


def defects_shown(call, fmt=BINARY32, mode="eager"):
    return {
        kind
        for outcome in outcomes(call, fmt, mode)
        for kind, rows in outcome.measurement.defects.items()
        if rows.any()
    }


PLANTED = [
    (no_shift, kinds.NON_FINITE_LOSS),
    (no_shift, kinds.NON_FINITE_GRADIENT),
    (clipped_above, kinds.LOSS_COLLAPSE),
    (clipped_probability, kinds.SATURATION),
    (clipped_probability, kinds.GRADIENT_COLLAPSE),
    (stopped_at_label, kinds.LABEL_GRADIENT_COLLAPSE),
    (with_gradient_scaled(-1.0), kinds.SIGN_FLIP),
    (with_gradient_scaled(0.5), kinds.INACCURATE_GRADIENT),
    (shifted_value, kinds.INACCURATE_LOSS),
]


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(("call", "kind"), PLANTED, ids=[kind for _, kind in PLANTED])
def test_a_planted_defect_is_found(call, kind, fmt, mode):
    assert kind in defects_shown(call, fmt, mode)


SOUND = [shifted_log_softmax, upcast]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("call", SOUND, ids=lambda call: call.__name__)
def test_a_sound_twin_shows_no_defect(call, fmt, mode):
    assert defects_shown(call, fmt, mode) == set()


def test_the_twin_of_the_mode_that_differs_agrees():
    for call, expected in ((other_in_graphs, True), (shifted_log_softmax, False)):
        disagreed = False
        by_mode = [outcomes(call, BINARY32, mode, rows=512) for mode in ("eager", "graph")]
        for eager, graph in zip(*by_mode, strict=True):
            apart = disagreements({"eager": eager.measurement, "graph": graph.measurement})
            assert not apart["eager"].any()
            disagreed |= bool(apart["graph"].any())
        assert disagreed == expected


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16], ids=lambda fmt: fmt.name)
def test_label_ids_in_a_half_format_are_noticed(fmt):
    def call(logits, labels, _):
        import tensorflow as tf

        rounded = tf.cast(tf.cast(labels, logits.dtype), tf.int32)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.minimum(rounded, logits.shape[-1] - 1), logits=logits
        )

    runner = CellRunner(Cell(path=path(call), format=fmt, mode="eager", device="CPU:0"))
    recipe = next(
        planned_recipes(families=("large_labels",), fmt=fmt, shapes=((4, 32000),), rows=4, seed=0)
    )
    batch = expand(recipe)
    outcome = outcome_of(runner, prepare(batch.logits, batch.labels, recipe.to_json()))
    assert (
        outcome.measurement.defects[kinds.INACCURATE_GRADIENT].any()
        or outcome.measurement.defects[kinds.SIGN_FLIP].any()
    )


def test_findings_of_a_planted_defect_carry_their_row():
    result = None
    for outcome in outcomes(clipped_probability, BINARY32, "eager"):
        result = result or CellResult(outcome.runner.cell)
        result.keep_worst(outcome)
    finding = result.findings[kinds.GRADIENT_COLLAPSE, kinds.DEFECT]
    assert finding.path == "planted/clipped_probability"
    assert np.abs(finding.observed_gradient).max() < 1e-5
    assert np.abs(finding.exact_gradient).max() > 0.05
    assert finding.mixed_error > finding.bound
