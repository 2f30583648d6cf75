"""A loss that was meant to be called otherwise is told so; one that is wrong is a defect."""

import functools
import re

import numpy as np
import pytest
from planted_collection import PLANTED
from planted_runner import loss_of
from sound_twins import SOUND

import lossfuzz
from lossfuzz.harness.fitting.arguments import other_arguments
from lossfuzz.harness.fitting.coupling import coupling_of
from lossfuzz.harness.fitting.fit import fit_of
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.keras_own import wants_probabilities
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.running.trial import Trial
from lossfuzz.mathematics import spec_of

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 6)]}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def of_probabilities(probabilities, labels):
    import tensorflow as tf

    return -tf.math.log(tf.gather(probabilities, labels, batch_dims=labels.shape.rank))


def binary_of_probabilities(share, target):
    import tensorflow as tf

    terms = target * tf.math.log(share) + (1 - target) * tf.math.log1p(-share)
    return -tf.reduce_mean(terms, -1)


def binary(scores, levels):
    import tensorflow as tf

    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(logits=scores, labels=levels), -1
    )


def one_hot(scores, levels):
    import tensorflow as tf

    return tf.nn.softmax_cross_entropy_with_logits(levels, scores)


def trial(loss, against=NAME, fmt=BINARY32, mode="eager", reduction=None):
    path = own_path(loss, spec_of(against, reduction))
    return Trial(CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0")))


def refused(loss, against=NAME, **options):
    with pytest.raises(lossfuzz.LossRefusal) as refusal:
        lossfuzz.check(loss, against, **{**QUICK, **options})
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def exchanged(loss):
    return lambda levels, scores: loss(scores, levels)


@pytest.mark.parametrize(
    ("loss", "against", "parts"),
    [
        (exchanged(fused), NAME, ["takes (labels, logits)", "loss(labels, logits)"]),
        (exchanged(binary), "binary-cross-entropy", ["takes (labels, logits)"]),
        (exchanged(one_hot), "categorical-cross-entropy", ["takes (labels, logits)"]),
        (of_probabilities, NAME, ["expects probabilities", "loss(tf.nn.softmax(logits), labels)"]),
        (binary_of_probabilities, "binary-cross-entropy", ["loss(tf.sigmoid(logits), labels)"]),
        (
            exchanged(of_probabilities),
            NAME,
            ["takes (labels, logits) and expects probabilities", "softmax"],
        ),
        (one_hot, NAME, ["expects one-hot labels"]),
        (fused, "categorical-cross-entropy", ["expects integer labels"]),
        (fused, lambda x, shares, label: -x.log(shares[label]), ["expects logits"]),
    ],
)
def test_what_fits_is_told(loss, against, parts):
    message = refused(loss, against)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("fmt", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_it_is_told_in_every_format_and_mode(fmt, mode):
    assert "takes (labels, logits)" in refused(exchanged(fused), formats=[fmt], modes=[mode])


def test_it_is_told_of_a_mean():
    import tensorflow as tf

    def mean(levels, scores):
        return tf.reduce_mean(fused(scores, levels))

    assert "takes (labels, logits)" in refused(mean, reduction="mean")


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: fused(x, y) + 1,
        lambda x, y: 2 * fused(x, y),
        lambda x, y: fused(-x, y),
        lambda x, y: fused(2 * x, y),
    ],
)
def test_a_loss_that_is_wrong_everywhere_stays_a_defect(loss):
    with pytest.raises(lossfuzz.LossDefect):
        lossfuzz.check(loss, NAME, **QUICK)


def test_no_planted_loss_and_no_sound_twin_is_refused_or_judged_elsewhere():
    shapes = ((256, 10), (8, 16, 33), (64, 2))
    for entry in (*PLANTED, *SOUND):
        fmt = BINARY32 if "float32" in entry.formats else BINARY16
        found = fit_of(trial(entry.loss, loss_of(entry), fmt), shapes, chosen=False)
        assert (found.refusal, found.shapes) == ("", shapes), entry.name


# --- rows that depend on each other --------------------------------------------------------


def by_count(logits, labels):
    import tensorflow as tf

    count = tf.math.count_nonzero(labels, dtype=logits.dtype)
    return fused(logits, labels) / tf.maximum(count, 1)


def by_total(logits, labels):
    import tensorflow as tf

    losses = fused(logits, labels)
    return losses / tf.reduce_sum(losses)


def less_the_mean(logits, labels):
    import tensorflow as tf

    losses = fused(logits, labels)
    return losses - tf.reduce_mean(losses)


def by_frequency(logits, labels):
    import tensorflow as tf

    alike = tf.reduce_sum(tf.cast(labels[:, None] == labels[None, :], logits.dtype), -1)
    return fused(logits, labels) / alike


def by_share_of_the_weights(logits, labels):
    import tensorflow as tf

    weights = tf.cast(labels + 1, logits.dtype)
    return fused(logits, labels) * weights / tf.reduce_sum(weights)


@pytest.mark.parametrize(
    "loss", [by_count, by_total, less_the_mean, by_frequency, by_share_of_the_weights]
)
def test_a_loss_whose_rows_depend_on_each_other_is_told_so(loss):
    message = refused(loss)
    assert re.search(r"row \d's loss changes with row [01]: from", message)
    assert "reduction='mean'" in message


def test_a_loss_of_the_rows_place_is_told_so():
    import tensorflow as tf

    def by_place(logits, labels):
        losses = fused(logits, labels)
        return losses * (1 + tf.cast(tf.range(tf.size(labels)) % 2, losses.dtype))

    found = coupling_of(trial(by_place), (8, 6))
    assert "changes with its place" in found


@pytest.mark.parametrize("fmt", [BINARY16, BINARY32], ids=lambda fmt: fmt.dtype_name)
def test_a_shift_that_the_whole_batch_shares_couples_rows_by_rounding_only(fmt):
    import tensorflow as tf

    def shared_shift(logits, labels):
        shifted = logits - tf.stop_gradient(tf.reduce_max(logits))
        log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
        return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)

    assert not coupling_of(trial(shared_shift, fmt=fmt), (8, 6))
    with pytest.raises(lossfuzz.LossDefect):
        lossfuzz.check(shared_shift, NAME, **{**QUICK, "rows": 3000})


def test_a_softmax_along_the_batch_stays_a_defect_and_is_told_its_coupling():
    import tensorflow as tf

    def along_the_batch(logits, labels):
        logs = tf.nn.log_softmax(logits, axis=0)
        return -tf.gather(logs, labels, batch_dims=labels.shape.rank)

    with pytest.raises(lossfuzz.LossDefect, match="'s loss changes with row 0"):
        lossfuzz.check(along_the_batch, NAME, **QUICK)


# --- Keras's own ---------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["keras", "tf_keras"])
@pytest.mark.parametrize(
    "name", ["SparseCategoricalCrossentropy", "BinaryCrossentropy", "BinaryFocalCrossentropy"]
)
def test_a_loss_object_of_keras_that_wants_probabilities_is_told(api, name):
    losses = pytest.importorskip(api).losses
    assert "from_logits=True" in wants_probabilities(getattr(losses, name)())
    assert not wants_probabilities(getattr(losses, name)(from_logits=True))


@pytest.mark.parametrize("api", ["keras", "tf_keras"])
@pytest.mark.parametrize(
    "name", ["sparse_categorical_crossentropy", "binary_crossentropy", "categorical_crossentropy"]
)
def test_a_loss_function_of_keras_that_wants_probabilities_is_told(api, name):
    function = getattr(pytest.importorskip(api).losses, name)
    for loss in (function, functools.partial(function, axis=-1)):
        told = wants_probabilities(loss)
        assert f"functools.partial({api}.losses.{name}, from_logits=True)" in told
    assert not wants_probabilities(functools.partial(function, from_logits=True))


def test_keras_is_not_blamed_for_logits_and_passes_on_them():
    import keras

    function = keras.losses.sparse_categorical_crossentropy
    assert "expects probabilities" in refused(function)
    lossfuzz.check(functools.partial(function, from_logits=True), NAME, **QUICK)


def test_other_losses_are_none_of_keras():
    for loss in (fused, functools.partial(fused), np.hypot, of_probabilities):
        assert not wants_probabilities(loss)
    assert not other_arguments(trial(fused), (16, 6))
