"""Losses of masks: flattened per example, or over the whole batch; each is told what it is."""

import math
import sys

import pytest
from planted_collection import PLANTED

import lossfuzz
from lossfuzz.harness.fitting.fit import fit_of
from lossfuzz.harness.fitting.ranks import takes_rows_only
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.running.trial import Trial
from lossfuzz.mathematics import spec_of

pytestmark = pytest.mark.usefixtures("tf")

DEEP, WIDE, FLAT = (4, 8, 33), (2, 16, 257), (32, 33)
WHOLE = "a loss of the whole batch that is no mean or sum of its rows cannot be stated yet"
SAY_SO = "of a mean or a sum over the batch say so"


@lossfuzz.formula(target="binary")
def dice(x, logits, targets):
    p = x.sigmoid(logits)
    return 1 - (2 * x.sum(p * targets) + 1) / (x.sum(p) + x.sum(targets) + 1)


@lossfuzz.formula(target="binary")
def jaccard(x, logits, targets):
    both = x.sum(x.sigmoid(logits) * targets)
    return 1 - (both + 1) / (x.sum(x.sigmoid(logits)) + x.sum(targets) - both + 1)


@lossfuzz.formula(target="none")
def root_of_a_sum(x, logits, _):
    return x.sqrt(1 + x.sum(logits * logits))


def _wide(values):
    import tensorflow as tf

    return tf.cast(values, tf.float32)


def _flat(values):
    import tensorflow as tf

    return tf.reshape(_wide(values), [tf.shape(values)[0], -1])


def overlap(of, axis=-1, *, jaccard=False):
    """One minus the overlap of masks, averaged over what is left of them."""

    def loss(logits, targets):
        import tensorflow as tf

        p, t = tf.sigmoid(of(logits)), of(targets)
        both, sums = tf.reduce_sum(p * t, axis), tf.reduce_sum(p, axis) + tf.reduce_sum(t, axis)
        share = (both + 1) / (sums - both + 1) if jaccard else (2 * both + 1) / (sums + 1)
        return tf.reduce_mean(1 - share)

    return loss


def root(of, axis=-1):
    def loss(logits):
        import tensorflow as tf

        return tf.reduce_mean(tf.sqrt(1 + tf.reduce_sum(of(logits) ** 2, axis)))

    return loss


def trial(loss, against, fmt=BINARY32, **how):
    path = own_path(loss, spec_of(against, **how))
    return Trial(CellRunner(Cell(path=path, format=fmt, mode="eager", device="CPU:0")))


FLATTENING = [
    (overlap(_flat), dice),
    (overlap(_flat, jaccard=True), jaccard),
    (root(_flat), root_of_a_sum),
]
OF_ROWS = [
    (overlap(_wide), dice),
    (overlap(_wide, jaccard=True), jaccard),
    (root(_wide), root_of_a_sum),
]
OF_THE_BATCH = [
    (overlap(_wide, None), dice),
    (overlap(_wide, None, jaccard=True), jaccard),
    (root(_wide, None), root_of_a_sum),
]
IDS = ["dice", "jaccard", "root of a sum"]


@pytest.mark.parametrize("fmt", [BINARY32, BINARY16], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shape", [DEEP, WIDE, (2, 3, 4, 5)])
@pytest.mark.parametrize(("loss", "against"), FLATTENING, ids=IDS)
def test_a_mean_that_flattens_its_examples_takes_rows_only(loss, against, shape, fmt):
    if fmt is BINARY16 and len(shape) > 3:
        pytest.skip("the rounding of half formats hides the difference there")
    found = fit_of(trial(loss, against, fmt, reduction="mean"), [(128, 10), shape], chosen=False)
    assert found.shapes == ((128, 10), (math.prod(shape[:-1]), shape[-1]))
    assert "takes [rows, classes] only" in found.notes[0]


@pytest.mark.parametrize("shape", [DEEP, WIDE])
@pytest.mark.parametrize(("loss", "against"), OF_ROWS, ids=IDS)
def test_a_mean_of_rows_keeps_its_rank(loss, against, shape):
    assert not takes_rows_only(trial(loss, against, reduction="mean"), shape)


def test_a_mean_over_all_elements_keeps_its_rank():
    """Of a mean over the classes both readings are the same."""

    def loss(logits, targets):
        import tensorflow as tf

        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits))

    assert not takes_rows_only(trial(loss, "binary-cross-entropy", reduction="mean"), DEEP)


def test_a_sound_loss_of_flattened_masks_is_not_flagged():
    result = lossfuzz.check(overlap(_flat), dice, reduction="mean", modes=["eager"], rows=2000)
    assert "32x33" in result.plan["shapes"]
    assert any("takes [rows, classes] only" in one for one in result.notes)


def test_a_bad_loss_of_flattened_masks_is_shown_on_rows():
    def loss(logits, targets):
        import tensorflow as tf

        e = tf.exp(_flat(logits))
        p, t = e / (1 + e), _flat(targets)
        sums = tf.reduce_sum(p, -1) + tf.reduce_sum(t, -1)
        return tf.reduce_mean(1 - (2 * tf.reduce_sum(p * t, -1) + 1) / (sums + 1))

    with pytest.raises(lossfuzz.LossDefect, match="non-finite") as failure:
        lossfuzz.check(loss, dice, reduction="mean", modes=["eager"], formats=["float32"])
    assert "takes [rows, classes] only" in str(failure.value)


@pytest.mark.parametrize(
    "name", ["softmax_over_time", "mean_over_the_first_axis", "batch_and_time_swapped"]
)
def test_planted_losses_keep_their_rank(name):
    (entry,) = (one for one in PLANTED if one.loss.__name__ == name)
    one = trial(entry.loss, entry.against, reduction=entry.reduction)
    assert not takes_rows_only(one, (4, 8, 5))


@pytest.mark.parametrize("shapes", [[(128, 10), DEEP], [(64, 3)], [DEEP]], ids=str)
@pytest.mark.parametrize(("loss", "against"), OF_THE_BATCH, ids=IDS)
def test_a_loss_of_the_whole_batch_is_not_promised_a_reduction(loss, against, shapes):
    told = fit_of(trial(loss, against), shapes, chosen=True).refusal
    assert WHOLE in told
    assert "reduction=" not in told
    assert SAY_SO not in told


@pytest.mark.parametrize(("loss", "against"), OF_ROWS, ids=IDS)
def test_a_mean_is_told_to_say_so(loss, against):
    with pytest.raises(lossfuzz.LossRefusal, match=SAY_SO) as refusal:
        lossfuzz.check(loss, against, modes=["eager"], formats=["float32"])
    assert WHOLE not in str(refusal.value)


@pytest.mark.parametrize("how", ["sum", "weighted mean", "exchanged", "probabilities", "clipped"])
def test_other_reductions_are_told_to_say_so(how):
    def loss(logits, labels):
        import tensorflow as tf

        if how == "exchanged":
            logits, labels = labels, logits
        if how == "probabilities":
            return tf.reduce_mean(-tf.math.log(tf.gather(logits, labels, batch_dims=1)))
        shares = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
        losses = -tf.math.log(shares + (1e-7 if how == "clipped" else 0))
        if how == "weighted mean":
            weights = lossfuzz.sample_weights(losses.shape.num_elements())
            losses *= tf.constant(weights.reshape(losses.shape), losses.dtype)
        return tf.reduce_sum(losses) if how == "sum" else tf.reduce_mean(losses)

    told = fit_of(trial(loss, "softmax-cross-entropy"), [(32, 6)], chosen=True).refusal
    assert WHOLE not in told


def test_a_loss_divided_by_what_the_labels_say_is_of_the_whole_batch():
    def loss(logits, labels):
        import tensorflow as tf

        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(losses) / tf.cast(tf.math.count_nonzero(labels) + 1, losses.dtype)

    assert WHOLE in fit_of(trial(loss, "softmax-cross-entropy"), [(32, 6)], chosen=True).refusal


def test_one_number_that_is_nearly_right_by_chance_is_told_no_other_arguments():
    """Dice over the batch, held against a mean: softmax(logits) seemed to fit within 1 %."""
    for shape in ((256, 2), (128, 10), (64, 3), (32, 33)):
        one = trial(overlap(_wide, None), dice, reduction="mean")
        assert not fit_of(one, [shape], chosen=True).refusal
    with pytest.raises(lossfuzz.LossDefect):
        lossfuzz.check(
            overlap(_wide, None), dice, reduction="mean", modes=["eager"], formats=["float32"]
        )


def test_the_command_line_says_so_too(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_batch_masks.py").write_text(
        "import lossfuzz\n"
        "import tensorflow as tf\n\n\n"
        "@lossfuzz.formula(target='binary')\n"
        "def exact(x, v, t):\n"
        "    p = x.sigmoid(v)\n"
        "    return 1 - (2 * x.sum(p * t) + 1) / (x.sum(p) + x.sum(t) + 1)\n\n\n"
        "def dice(v, t):\n"
        "    p = tf.sigmoid(v)\n"
        "    sums = tf.reduce_sum(p) + tf.reduce_sum(t)\n"
        "    return 1 - (2 * tf.reduce_sum(p * t) + 1) / (sums + 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    out = tmp_path / "out"
    from lossfuzz.cli import main

    arguments = ["--loss", "own_batch_masks:dice", "--as", "own_batch_masks:exact"]
    assert main(["run", *arguments, "--modes", "eager", "--out", str(out), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert WHOLE in told
    assert told.count("\n") == 1
    assert not out.exists()
