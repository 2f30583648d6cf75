"""Shrinking on real TensorFlow: ugly rows of 257 classes end as rows that a person can read."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lossfuzz.harness.losses.binary import BINARY_CROSS_ENTROPY
from lossfuzz.harness.losses.cross_entropy import SOFT_CROSS_ENTROPY
from lossfuzz.harness.losses.reduced import MEAN_CROSS_ENTROPY
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.measuring.measure import disagreements
from lossfuzz.harness.measuring.outcome import outcome_of, refusal_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.shrinking import shrunk
from lossfuzz.shrinking.rows import Row, labelled
from lossfuzz.shrinking.simplicity import simplicity

pytestmark = pytest.mark.usefixtures("tf")


def log_sum(logits):
    import tensorflow as tf

    return tf.reduce_logsumexp(logits, axis=-1)


def at_label(values, labels):
    import tensorflow as tf

    return tf.gather(values, labels, batch_dims=labels.shape.rank)


def sound(logits, labels, _):
    return log_sum(logits) - at_label(logits, labels)


def no_shift(logits, labels, _):
    import tensorflow as tf

    total = tf.math.log(tf.reduce_sum(tf.exp(logits), axis=-1))
    return total - at_label(logits, labels)


def clipped_probability(logits, labels, _):
    import tensorflow as tf

    probability = at_label(tf.nn.softmax(logits), labels)
    return -tf.math.log(tf.clip_by_value(probability, 1e-7, 1.0))


def masks_times_zero(logits, labels, fmt):
    """0 times -inf beside a loss that is sound without masks."""
    import tensorflow as tf

    return sound(logits, labels, fmt) + 0 * tf.reduce_sum(logits, axis=-1)


def soft_with_zero_times_log(logits, labels, _):
    import tensorflow as tf

    return -tf.reduce_sum(labels * tf.math.log(tf.nn.softmax(logits)), axis=-1)


def binary_without_care(logits, labels, _):
    import tensorflow as tf

    chance = tf.sigmoid(logits)
    return -tf.reduce_mean(
        labels * tf.math.log(chance) + (1 - labels) * tf.math.log(1 - chance), axis=-1
    )


def mean_by_a_sum_in_half(logits, labels, _):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(losses) / tf.cast(tf.size(losses), losses.dtype)


def mean_of_clipped(logits, labels, fmt):
    import tensorflow as tf

    return tf.reduce_mean(clipped_probability(logits, labels, fmt))


def shifted_by_the_whole_batch(logits, labels, _):
    import tensorflow as tf

    moved = logits - tf.stop_gradient(tf.reduce_max(logits))
    total = tf.math.log(tf.reduce_sum(tf.exp(moved), axis=-1))
    return total - at_label(moved, labels)


def picky(logits, labels, fmt):
    import tensorflow as tf

    tf.debugging.assert_less(tf.reduce_max(logits), tf.cast(50.0, logits.dtype), "too large")
    return sound(logits, labels, fmt)


def doubled_in_graphs(logits, labels, fmt):
    import tensorflow as tf

    losses = sound(logits, labels, fmt)
    return losses if tf.executing_eagerly() else 2 * losses


def label_ids_in_half(logits, labels, fmt):
    import tensorflow as tf

    rounded = tf.cast(tf.cast(labels, tf.bfloat16), tf.int32)
    return sound(logits, tf.minimum(rounded, logits.shape[-1] - 1), fmt)


def runner_of(call, loss=SOFTMAX_CROSS_ENTROPY, fmt=BINARY32, mode="eager"):
    path = LossPath(
        name=f"planted/{call.__name__}",
        loss=loss,
        api="tensorflow",
        call=call,
        source="",
        documented=loss,
    )
    return CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0"))


def ugly(rows=64, classes=257, scale=40.0, masked=0.0, seed=5):
    """Logits with all their digits, and a label for each row."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(rows, classes)) * scale
    logits[generator.random((rows, classes)) < masked] = -np.inf
    labels = np.where(
        np.arange(rows) % 2, logits.argmax(axis=1), generator.integers(0, classes, rows)
    )
    logits[np.arange(rows), labels] = np.maximum(logits[np.arange(rows), labels], -3 * scale)
    return logits, labels


def prepared_for(runner, logits, labels):
    cell = runner.cell
    recipe = {"family": "ugly"}
    return prepare(cell.format.cast(logits), labels.astype(np.int32), recipe, cell.path.loss)


def finding_of(runner, kind, tier=DEFECT, **options):
    outcome = outcome_of(runner, prepared_for(runner, *ugly(**options)))
    (row,) = [row for found, its, row, _ in outcome.worst_rows() if (found, its) == (kind, tier)]
    return outcome.finding(kind, tier, row)


def readable(value):
    return value == -math.inf or (float(value).is_integer() and abs(value) < 1000)


CASES = [
    (no_shift, kinds.NON_FINITE_LOSS, {}),
    (no_shift, kinds.NON_FINITE_GRADIENT, {}),
    (clipped_probability, kinds.SATURATION, {}),
    (clipped_probability, kinds.GRADIENT_COLLAPSE, {}),
    (masks_times_zero, kinds.NON_FINITE_LOSS, {"masked": 0.3}),
    (soft_with_zero_times_log, kinds.NON_FINITE_LOSS, {}),
    (binary_without_care, kinds.NON_FINITE_LOSS, {}),
]
LOSSES = {
    soft_with_zero_times_log: SOFT_CROSS_ENTROPY,
    binary_without_care: BINARY_CROSS_ENTROPY,
}


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, BINARY32], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(
    ("call", "kind", "options"), CASES, ids=[f"{call.__name__}-{kind}" for call, kind, _ in CASES]
)
def test_an_ugly_row_of_257_classes_becomes_a_readable_one_of_the_same_kind(
    call, kind, options, fmt
):
    runner = runner_of(call, LOSSES.get(call, SOFTMAX_CROSS_ENTROPY), fmt)
    finding = finding_of(runner, kind, **options)
    small = shrunk(finding, runner)
    assert len(small.logits) <= 3
    assert all(readable(value) for value in small.logits)
    assert set(small.target) <= {0.0, 0.5, 1.0}
    assert (small.kind, small.tier, small.label) == (kind, DEFECT, 0)
    assert small.cell_name == finding.cell_name
    assert (small.recipe, small.row) == (finding.recipe, finding.row)


def test_the_margin_ends_at_the_first_integer_that_keeps_a_tenth_of_the_worst_error():
    runner = runner_of(clipped_probability)
    small = shrunk(finding_of(runner, kinds.SATURATION), runner)
    assert small.logits == (0.0, 18.0)
    assert small.observed_loss == pytest.approx(-math.log(1e-7))
    assert small.exact_loss == pytest.approx(18, abs=1e-6)


def test_a_shrunk_row_shows_its_finding_when_it_runs_alone():
    runner = runner_of(no_shift)
    small = shrunk(finding_of(runner, kinds.NON_FINITE_LOSS), runner)
    observed = runner.run(np.array([small.logits], np.float32), np.array([small.label], np.int32))
    assert not np.isfinite(observed.loss[0])
    assert small.exact_loss < 200


def test_masks_stay_where_they_are_needed_and_go_where_not():
    needed, not_needed = runner_of(masks_times_zero), runner_of(no_shift)
    kept = shrunk(finding_of(needed, kinds.NON_FINITE_LOSS, masked=0.3), needed)
    gone = shrunk(finding_of(not_needed, kinds.NON_FINITE_LOSS, masked=0.3), not_needed)
    assert kept.logits == (0.0, -math.inf)
    assert -math.inf not in gone.logits


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_cells_shrink_too(mode):
    runner = runner_of(clipped_probability, mode=mode)
    small = shrunk(finding_of(runner, kinds.GRADIENT_COLLAPSE), runner)
    assert small.logits == (0.0, 17.0)


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_cell_is_traced_for_few_shapes(mode):
    shapes = set()

    def noting(logits, labels, fmt):
        shapes.add(tuple(logits.shape))
        return clipped_probability(logits, labels, fmt)

    runner = runner_of(noting, mode=mode)
    finding = finding_of(runner, kinds.GRADIENT_COLLAPSE)
    shapes.clear()
    shrunk(finding, runner)
    assert len(shapes) <= 3


def test_shrinking_is_deterministic():
    for call, kind in ((no_shift, kinds.NON_FINITE_LOSS), (clipped_probability, kinds.SATURATION)):
        finding = finding_of(runner_of(call), kind)
        first, second = (shrunk(finding, runner_of(call)) for _ in range(2))
        assert repr(first) == repr(second)  # NaN is not equal to itself


def test_what_is_simple_already_stays():
    runner = runner_of(clipped_probability)
    small = shrunk(finding_of(runner, kinds.GRADIENT_COLLAPSE), runner)
    assert shrunk(small, runner).logits == small.logits


def test_a_sound_loss_shows_nothing_to_shrink():
    runner = runner_of(sound)
    finding = finding_of(runner_of(no_shift), kinds.NON_FINITE_LOSS)
    assert shrunk(replace(finding, path=runner.cell.path.name), runner).logits == finding.logits


def test_a_sum_that_overflows_shrinks_to_copies_of_a_readable_row():
    runner = runner_of(mean_by_a_sum_in_half, MEAN_CROSS_ENTROPY, BINARY16)
    finding = finding_of(runner, kinds.NON_FINITE_LOSS, rows=2048, classes=10, scale=100.0)
    small = shrunk(finding, runner)
    assert small.repeated
    assert small.batch_rows < finding.batch_rows
    assert len(small.logits) <= 3
    assert all(readable(value) for value in small.logits)


def test_the_mean_of_a_batch_shrinks_to_one_row():
    runner = runner_of(mean_of_clipped, MEAN_CROSS_ENTROPY)
    small = shrunk(finding_of(runner, kinds.INACCURATE_LOSS), runner)
    assert small.repeated
    assert small.batch_rows == 1
    assert len(small.logits) <= 3


def test_what_shows_only_beside_other_rows_is_left_as_it_is():
    runner = runner_of(shifted_by_the_whole_batch)
    logits, labels = ugly(classes=10, scale=1.0)
    logits[0] += 200.0
    outcome = outcome_of(runner, prepared_for(runner, logits, labels))
    assert outcome.measurement.defects[kinds.NON_FINITE_LOSS][5]
    finding = outcome.finding(kinds.NON_FINITE_LOSS, DEFECT, 5)
    assert shrunk(finding, runner) is finding


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_refusal_shrinks_to_a_row_that_is_refused_alone(mode):
    runner = runner_of(picky, mode=mode)
    prepared = prepared_for(runner, *ugly(scale=100.0))
    with pytest.raises(UnavailableError) as refused:
        outcome_of(runner, prepared)
    small = shrunk(refusal_of(runner, prepared, refused.value), runner)
    assert small.kind == kinds.REFUSAL
    assert sorted(small.logits) == [0.0, 50.0]
    assert small.message.startswith("InvalidArgumentError")


def test_a_mode_disagreement_shrinks_with_the_other_modes_and_not_without():
    runners = {mode: runner_of(doubled_in_graphs, mode=mode) for mode in ("eager", "graph")}
    prepared = prepared_for(runners["graph"], *ugly())
    outcomes = {mode: outcome_of(one, prepared) for mode, one in runners.items()}
    apart = disagreements({mode: one.measurement for mode, one in outcomes.items()})
    row = int(np.flatnonzero(apart["graph"])[0])
    finding = outcomes["graph"].finding(kinds.MODE_DISAGREEMENT, DEFECT, row)
    assert shrunk(finding, runners["graph"]) is finding
    small = shrunk(finding, runners["graph"], others=runners)
    assert len(small.logits) == 2
    assert small.observed_loss == pytest.approx(2 * small.exact_loss)


def test_what_takes_many_classes_keeps_no_more_than_it_takes():
    runner = runner_of(label_ids_in_half)
    logits, _ = ugly(rows=8, classes=400, scale=3.0)
    prepared = prepared_for(runner, logits, np.full(8, 393))
    outcome = outcome_of(runner, prepared)
    row = int(np.flatnonzero(outcome.measurement.defects[kinds.SIGN_FLIP])[0])
    finding = outcome.finding(kinds.SIGN_FLIP, DEFECT, row)
    small = shrunk(finding, runner)
    assert 257 < len(small.logits) <= 280
    assert len(set(small.logits)) <= 2


def test_a_result_that_is_not_documented_stays_so():
    path = path_named("keras/function/softmax-op")
    runner = CellRunner(Cell(path=path, format=BINARY16, mode="eager", device="CPU:0"))
    outcome = outcome_of(runner, prepared_for(runner, *ugly(classes=10)))
    designed = outcome.rounding.by_design
    tried = 0
    for kind, flags in outcome.measurement.defects.items():
        for wanted in (False, True):
            rows = np.flatnonzero(flags & (designed == wanted))
            if rows.size:
                tried += 1
                small = shrunk(outcome.finding(kind, DEFECT, int(rows[0])), runner)
                assert small.by_design == wanted
                assert small.kind == kind
    assert tried > 2


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        ([0.0, 17.0], [0.0, 17.0, 0.0]),
        ([0.0, 17.0], [0.0, 104.03125]),
        ([0.0, 17.0], [0.0, 20.0]),
        ([0.0, 17.0], [0.0, 16.5]),
        ([0.0, 16.5], [0.0, 16.118]),
        ([0.0, 0.1], [0.0, 0.12345]),
        ([0.0, 3e38], [0.0, 3.4028e38]),
        ([0.0, 17.0], [-17.0, 0.0]),
        ([5.0, 5.0], [5.0, 6.0]),
        ([0.0, 3.5], [0.0, -math.inf]),
    ],
)
def test_the_order_of_simplicity(simpler, other):
    def key(logits):
        return simplicity(labelled(logits, 0, BINARY32), BINARY32)

    assert key(simpler) < key(other)


def test_targets_and_labels_count_as_well():
    first, second = labelled([0.0, 17.0], 0, BINARY32), labelled([0.0, 17.0], 1, BINARY32)
    halves = Row(logits=(0.0, 17.0), weights=(0.5, 0.5), label=0)
    odd = Row(logits=(0.0, 17.0), weights=(0.75, 0.25), label=0)
    keys = [simplicity(row, BINARY32) for row in (first, second, halves, odd)]
    assert keys == sorted(keys)
