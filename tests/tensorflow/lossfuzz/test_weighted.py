"""Weighted means, both of them; losses with weights, and losses without labels."""

import numpy as np
import pytest

import lossfuzz
from lossfuzz.harness.losses import reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.measuring.prepared import prepare

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 6), (4, 5, 3)]}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def divided_by_rows(logits, labels, sample_weight):
    import tensorflow as tf

    return tf.reduce_mean(sample_weight * fused(logits, labels))


def divided_by_weights(logits, labels, sample_weight):
    import tensorflow as tf

    return tf.reduce_sum(sample_weight * fused(logits, labels)) / tf.reduce_sum(sample_weight)


def with_own_weights(logits, labels):
    import tensorflow as tf

    weights = lossfuzz.sample_weights(int(np.prod(labels.shape))).reshape(labels.shape)
    weights = tf.cast(tf.constant(weights), logits.dtype)
    return divided_by_weights(logits, labels, weights)


BOTH = {"weighted mean": divided_by_rows, "mean with sample weight": divided_by_weights}


def test_the_two_means_of_one_row():
    logits, labels = np.zeros((1, 2), np.float32), np.zeros(1, np.int32)
    values = {
        name: prepare(logits, labels, {}, reduced.reduced(SOFTMAX_CROSS_ENTROPY, name))
        for name in BOTH
    }
    assert values["weighted mean"].reference.loss[0] == pytest.approx(0.173286795, abs=1e-9)
    assert values["mean with sample weight"].reference.loss[0] == pytest.approx(0.693147181)


@pytest.mark.parametrize("rows", [1, 7, 8, 20])
def test_the_factors_of_the_normalised_mean_are_the_weights_shares(rows):
    factors = reduced.row_factors("mean with sample weight", rows)
    weights = (np.arange(rows) % 8 + 1) / 4
    assert factors.sum() == pytest.approx(1)
    assert factors == pytest.approx(weights / weights.sum())
    assert np.array_equal(lossfuzz.sample_weights(rows), weights)
    assert reduced.row_headroom("mean with sample weight", rows) >= 1 / factors.min() * (1 - 1e-12)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("name", BOTH)
def test_a_loss_with_weights_is_given_them(name, mode):
    options = {**QUICK, "modes": [mode]}
    result = lossfuzz.check(BOTH[name], NAME, reduction=name, **options)
    assert all(one.summary.judged for one in result.cells)


@pytest.mark.parametrize("name", BOTH)
def test_each_of_the_means_is_told_from_the_other(name):
    (other,) = (loss for mean, loss in BOTH.items() if mean != name)
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(other, NAME, reduction=name, **QUICK)
    message = str(failure.value)
    assert "sample weight 0.25" in message
    assert f", {name} over the batch" in message
    assert "(logits, labels, tf.reshape(" in message


def test_a_loss_makes_the_weights_itself_where_it_takes_two_arguments():
    lossfuzz.check(with_own_weights, NAME, reduction="mean-with-sample-weight", **QUICK)


@pytest.mark.parametrize("api", ["keras", "tf_keras"])
def test_a_loss_object_of_keras_is_given_the_weights(api):
    losses = pytest.importorskip(api).losses
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    lossfuzz.check(loss, NAME, reduction="weighted mean", **{**QUICK, "shapes": [(32, 6)]})


def test_keras_mean_with_sample_weight_is_the_normalised_one():
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    lossfuzz.check(loss, NAME, reduction="mean_with_sample_weight", **QUICK)


def test_a_loss_with_weights_needs_a_weighted_mean():
    with pytest.raises(TypeError, match="a loss with sample weights takes reduction='weighted"):
        lossfuzz.check(lambda x, y, w: fused(x, y) * w, NAME, reduction="mean", **QUICK)


def test_the_normalised_mean_has_a_short_name():
    short = loss_named("softmax-cross-entropy-mean-with-sample-weight")
    assert short.reduction == "mean with sample weight"
    assert loss_named(short.name) is short


def test_a_negative_number_of_weights_is_told():
    with pytest.raises(ValueError, match="0 rows or more"):
        lossfuzz.sample_weights(-1)


# --- losses without labels -----------------------------------------------------------------


def test_a_loss_without_labels_is_given_the_logits_alone():
    import tensorflow as tf

    def log_sum(logits):
        return tf.reduce_logsumexp(logits, axis=-1)

    lossfuzz.check(log_sum, "log-sum-exp", **QUICK)
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(
            lambda logits: tf.math.log(tf.reduce_sum(tf.exp(logits), -1)), "log-sum-exp", **QUICK
        )
    assert "loss(logits)\n" in str(failure.value)


def test_a_loss_without_labels_is_given_none_by_a_formula_without_target():
    import tensorflow as tf

    spec = lossfuzz.formula(lambda x, logits, _: x.logsumexp(logits), target="none")
    lossfuzz.check(lambda logits, axis=-1: tf.reduce_logsumexp(logits, axis), spec, **QUICK)


def test_a_loss_without_labels_needs_a_formula_without_target():
    with pytest.raises(TypeError, match="target='none'"):
        lossfuzz.check(lambda logits: logits, NAME, **QUICK)
