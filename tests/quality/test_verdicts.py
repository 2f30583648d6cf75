"""What a check says is so: right values that were called wrong, and defects that passed."""

import math
import time
import warnings

import numpy as np
import pytest

import lossfuzz
from lossfuzz.harness.exact.oracle import row_reference
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.results import kinds

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
EAGER32 = {"formats": ["float32"], "modes": ["eager"]}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def clipped(logits, labels):
    import tensorflow as tf

    probability = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.clip_by_value(probability, 1e-7, 1.0))


def defect(loss, against, **options):
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(loss, against, **options)
    return failure.value.finding


def exact(spec, rows, labels):
    logits = np.array(rows, np.float32)
    return row_reference(spec, logits, targets_of(spec.target, logits, np.array(labels)))


@lossfuzz.formula(name="exponentials less their logits")
def exponentials(x, logits, label):
    return x.sum(x.exp(logits)) - 5 * x.sum(logits)


def test_a_sound_loss_is_right_within_a_factor_of_four_of_overflow_and_beyond():
    import tensorflow as tf

    right = exact(exponentials, [[88.0]], [0])
    assert right.loss[0] == pytest.approx(1.6516363e38, rel=1e-7)
    lossfuzz.check(lambda x, _: tf.reduce_sum(tf.exp(x) - 5 * x, -1), exponentials, **EAGER32)


@lossfuzz.formula(name="a plain focal loss")
def plain_focal(x, logits, label):
    q = 1 - x.softmax(logits)[label]
    return q * q * -x.log_softmax(logits)[label]


def test_a_plain_focal_loss_in_float16_is_sound():
    import tensorflow as tf

    def focal(logits, labels):
        losses = fused(logits, labels)
        q = 1 - tf.exp(-losses)
        return q * q * losses

    lossfuzz.check(focal, plain_focal, formats=["float16"], modes=["eager"])


@lossfuzz.formula(target="binary", name="a smoothed Dice loss")
def dice_formula(x, logits, targets):
    p = x.sigmoid(logits)
    return 1 - (2 * x.sum(p * targets) + 1) / (x.sum(p) + x.sum(targets) + 1)


def dice(logits, targets):
    import tensorflow as tf

    p = tf.sigmoid(logits)
    both = tf.reduce_sum(p * targets, -1)
    return 1 - (2 * both + 1) / (tf.reduce_sum(p, -1) + tf.reduce_sum(targets, -1) + 1)


@pytest.mark.parametrize("ones", [60_000, 65_536])
def test_a_sum_of_targets_that_overflows_is_no_excuse(ones):
    from lossfuzz.harness.measuring.outcome import outcome_of
    from lossfuzz.harness.numbers.formats import BINARY16
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.paths.own import own_path
    from lossfuzz.harness.running.execution import CellRunner
    from lossfuzz.shrinking.rows import Row, batch_of

    classes = 131_072
    weights = (1.0,) * ones + (0.0,) * (classes - ones)
    row = Row(logits=(0.0,) * classes, weights=weights, label=0)
    path = own_path(dice, dice_formula)
    cell = Cell(path=path, format=BINARY16, mode="eager", device="CPU:0")
    outcome = outcome_of(CellRunner(cell), batch_of([row], dice_formula, BINARY16, {}))
    if ones == 65_536:
        assert outcome.prepared.reference.loss[0] == pytest.approx(0.499996185, rel=1e-8)
        assert outcome.prepared.reference.gradient[0, 0] == pytest.approx(-2.86099e-06, rel=1e-5)
    assert any(flags.any() for flags in outcome.measurement.defects.values())


@lossfuzz.formula(name="cold cross-entropy by a quotient")
def by_quotient(x, logits, label):
    return -x.log_softmax(logits / 0.01)[label]


@lossfuzz.formula(name="cold cross-entropy by differences")
def by_differences(x, logits, label):
    return x.log(x.sum(x.exp((logits - logits[label]) / 0.01)))


@pytest.mark.parametrize("against", [by_quotient, by_differences], ids=["quotient", "differences"])
def test_the_verdict_depends_on_the_mathematics_and_not_on_how_it_is_written(against):
    found = defect(lambda x, y: fused(x / 0.01, y), against, formats=["float16"], modes=["eager"])
    assert found.kind in (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)


@lossfuzz.formula(target="none", name="a mean of squares")
def mean_square(x, logits, label):
    return x.mean(logits * logits)


def test_a_mean_of_squares_that_overflows_on_the_way_is_a_defect():
    import tensorflow as tf

    right = exact(mean_square, [[300.0, 0.0]], [0])
    assert right.loss[0] == 45000
    assert right.gradient[0].tolist() == [300, 0]
    found = defect(
        lambda x, _: tf.reduce_mean(x * x, -1), mean_square, formats=["float16"], modes=["eager"]
    )
    assert found.kind == kinds.NON_FINITE_LOSS
    assert abs(found.exact_loss) < 65520


@lossfuzz.formula(target="none", name="a sum of softplus")
def softplus_sum(x, logits, label):
    return x.sum(x.softplus(logits))


@lossfuzz.formula(target="none", name="a mean of softplus")
def softplus_mean(x, logits, label):
    return x.mean(x.softplus(logits))


def test_a_sum_has_the_verdict_of_its_mean():
    import tensorflow as tf

    for reduce, against in ((tf.reduce_sum, softplus_sum), (tf.reduce_mean, softplus_mean)):
        lossfuzz.check(lambda x, _, r=reduce: r(tf.nn.softplus(x), -1), against, **EAGER32)


@lossfuzz.formula(name="ArcFace with a scale of 64 and a margin of 0.5")
def arcface_formula(x, cosines, label):
    own = cosines[label]
    moved = own * math.cos(0.5) - x.sqrt(1 - own * own) * math.sin(0.5)
    return -x.log_softmax(64.0 * x.where(x.one_hot(label) == 1, moved + 0.0 * cosines, cosines))[
        label
    ]


def arcface(cosines, labels):
    import tensorflow as tf

    moved = cosines * math.cos(0.5) - tf.sqrt(1 - cosines * cosines) * math.sin(0.5)
    chosen = tf.one_hot(labels, cosines.shape[-1], dtype=cosines.dtype) == 1
    return fused(64 * tf.where(chosen, moved, cosines), labels)


def test_arcface_has_its_right_values():
    right = exact(arcface_formula, [[0.99999994, 1.0]], [0])
    assert right.loss[0] == pytest.approx(7.8457048, rel=1e-8)
    assert right.gradient[0] == pytest.approx([-88889.493, 63.974949], rel=1e-8)


def test_a_loss_of_which_next_to_nothing_is_judged_is_not_called_sound():
    with pytest.raises(lossfuzz.LossNotJudged, match="have an exact value") as told:
        lossfuzz.check(arcface, arcface_formula, families=["offset", "far_below_zero"], **EAGER32)
    assert "bounds=" in str(told.value)
    assert "\n" not in str(told.value)


def test_bounds_bring_the_logits_into_the_domain_and_its_edges():
    found = defect(
        arcface,
        arcface_formula,
        bounds=(-1, 1),
        formats=["float32"],
        modes=["xla"],
        shapes=[(128, 10), (64, 2)],
    )
    assert all(-1 <= value <= 1 for value in found.logits)
    assert found.kind == kinds.NON_FINITE_GRADIENT
    assert 1.0 in found.logits


@pytest.mark.parametrize("bounds", [(1, -1), (0,), "cosines", (math.nan, 1)])
def test_bounds_that_are_no_interval_are_told(bounds):
    with pytest.raises(ValueError, match="bound"):
        lossfuzz.check(fused, NAME, bounds=bounds, **EAGER32)


def test_a_budget_in_seconds_holds_for_a_defect_and_for_a_sound_loss():
    """Of the processor's seconds, of which other processes on this machine take none."""
    for loss, against, seconds in ((clipped, NAME, 3.0), (fused, NAME, 3.0)):
        started = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lossfuzz.NotReachedWarning)
            try:
                lossfuzz.check(loss, against, seconds=seconds)
            except lossfuzz.LossDefect as failure:
                assert failure.finding.logits  # noqa: PT017 - one of the two fails
        assert time.process_time() - started < 2 * (2 * seconds + 5)  # two cores


def test_what_the_budget_did_not_reach_is_said():
    calls = []

    def slow(logits, labels):
        import tensorflow as tf

        calls.extend([1] * (logits.shape[0] == 256))
        if tf.executing_eagerly() and len(calls) > 12:
            time.sleep(1.0)
        return fused(logits, labels)

    with pytest.warns(lossfuzz.NotReachedWarning, match=r"not reached.*float32 graph and xla"):
        result = lossfuzz.check(slow, NAME, formats=["float32"], seconds=9.0)
    assert any("float32 graph and xla" in note for note in result.notes)


def test_a_format_that_cannot_run_does_not_hide_a_defect_in_another():
    def without_bfloat16(logits, labels):
        import tensorflow as tf

        if logits.dtype == tf.bfloat16:
            raise TypeError("no bfloat16 here")
        return clipped(logits, labels)

    with pytest.raises(lossfuzz.LossDefect, match="no bfloat16 here") as failure:
        lossfuzz.check(without_bfloat16, NAME, formats=["bfloat16", "float32"], modes=["eager"])
    assert failure.value.finding.format == "float32"
    with pytest.raises(lossfuzz.LossRefusal, match="no bfloat16 here"):
        lossfuzz.check(
            lambda x, y: without_bfloat16(x, y) if x.dtype.name == "bfloat16" else fused(x, y),
            NAME,
            formats=["bfloat16", "float32"],
            modes=["eager"],
            rows=300,
            shapes=[(32, 6)],
        )


@lossfuzz.formula(target="none", name="a norm")
def norm_formula(x, logits, label):
    return x.sqrt(x.sum(logits * logits))


def test_nan_at_a_zero_vector_is_told_and_a_guarded_norm_is_not():
    import tensorflow as tf

    small = {"families": ["whole_numbers", "normal"], "shapes": [(64, 1), (64, 2)], **EAGER32}
    found = defect(lambda x, _: tf.norm(x, axis=-1), norm_formula, **small)
    assert found.kind == kinds.NON_FINITE_GRADIENT
    assert set(found.logits) == {0.0}

    def guarded(x, _):
        squares = tf.reduce_sum(x * x, -1)
        zero = squares == 0
        return tf.where(zero, 0.0, tf.sqrt(tf.where(zero, 1.0, squares)))

    lossfuzz.check(guarded, norm_formula, **small)


def test_a_square_root_at_zero_has_no_bounded_derivative_and_is_not_blamed():
    import tensorflow as tf

    @lossfuzz.formula(target="none", name="roots of squares to the fourth")
    def roots(x, logits, label):
        return x.sum(x.sqrt(x.sqrt(logits * logits)))

    lossfuzz.check(
        lambda x, _: tf.reduce_sum(tf.sqrt(tf.sqrt(x * x)), -1),
        roots,
        families=["zeros", "normal"],
        **EAGER32,
    )


def test_infinite_logits_are_recorded_as_a_policy_and_not_judged():
    result = lossfuzz.check(fused, NAME, rows=300, shapes=[(32, 6)], **EAGER32)
    (cell,) = result.cells
    assert set(cell.policy) == {
        "+inf at the label",
        "+inf beside the label",
        "-inf at the label",
        "-inf everywhere",
        "NaN beside the label",
    }
    assert cell.policy["NaN beside the label"] == "loss NaN, gradient NaN"

    def binary(logits, targets):
        import tensorflow as tf

        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
        return tf.reduce_mean(losses, -1)

    (cell,) = lossfuzz.check(
        binary, "binary-cross-entropy", rows=300, shapes=[(32, 6)], **EAGER32
    ).cells
    assert "+inf, target 1" in cell.policy


def test_lost_tails_are_said_in_the_result_and_in_one_line():
    result = lossfuzz.check(fused, NAME, rows=2000, shapes=[(64, 6)], **EAGER32)
    (line,) = [note for note in result.notes if note.startswith("lost tails")]
    assert "loss collapse" in line
    assert line in str(result)
    assert "\n" not in str(result)


def test_a_neighbour_of_masked_rows_is_not_blamed_for_them():
    def coupled(logits, labels):
        """Sound for every row, but a masked row's NaN reaches the others."""
        import tensorflow as tf

        losses = fused(logits, labels)
        return losses + 0 * tf.reduce_sum(tf.stop_gradient(losses))

    lossfuzz.check(coupled, NAME, families=["masks"], **EAGER32, shapes=[(32, 6)], rows=300)


def test_an_empty_mask_is_tried():
    import tensorflow as tf

    def without_smoothing(logits, targets):
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
        count = tf.reduce_sum(targets, -1)
        return tf.reduce_mean(losses, -1) * count / count

    found = defect(without_smoothing, "binary-cross-entropy", **EAGER32)
    assert not any(found.target)


def test_a_batch_of_one_row_is_tried():
    import tensorflow as tf

    def broken_alone(logits, labels):
        losses = fused(logits, labels)
        return losses if logits.shape[0] != 1 else losses * 2

    found = defect(broken_alone, NAME, **EAGER32)
    assert found.kind in (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT)
    del tf


def outcome_on(loss, against, rows, labels, fmt, mode="eager"):
    """What a loss does on rows of integer labels, in one batch."""
    from lossfuzz.harness.measuring.outcome import outcome_of
    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.paths.own import own_path
    from lossfuzz.harness.running.execution import CellRunner
    from lossfuzz.mathematics import spec_of
    from lossfuzz.shrinking.rows import batch_of, labelled

    spec = spec_of(*against) if isinstance(against, tuple) else spec_of(against)
    cell = Cell(path=own_path(loss, spec), format=fmt, mode=mode, device="CPU:0")
    made = [labelled(row, label, fmt) for row, label in zip(rows, labels, strict=True)]
    return outcome_of(CellRunner(cell), batch_of(made, spec, fmt, {}))


def defects_in(outcome):
    return {kind for kind, flags in outcome.measurement.defects.items() if flags.any()}


def test_a_focal_loss_within_a_factor_of_four_of_overflow_is_sound():
    from lossfuzz.harness.numbers.formats import BINARY16

    def focal(logits, labels):
        import tensorflow as tf

        losses = fused(logits, labels)
        q = 1 - tf.exp(-losses)
        return q * q * losses

    outcome = outcome_on(focal, plain_focal, [[-6000, 2190]], [0], BINARY16)
    assert defects_in(outcome) == set()


def test_a_float16_mean_over_65536_rows_is_0_with_a_gradient_of_0():
    import tensorflow as tf

    from lossfuzz.harness.numbers.formats import BINARY16

    count = 65_536
    outcome = outcome_on(
        lambda x, y: tf.reduce_mean(fused(x, y)),
        (NAME, "mean"),
        [[4, 4]] * count,
        [0] * count,
        BINARY16,
    )
    reference = outcome.prepared.reference
    assert reference.loss[0] == pytest.approx(0.693147, abs=1e-6)
    assert reference.gradient[0] == pytest.approx([-7.62939e-06, 7.62939e-06], rel=1e-5)
    assert outcome.observed.loss[0] == 0
    assert not outcome.observed.gradient.any()
    assert kinds.LOSS_COLLAPSE in defects_in(outcome)


@lossfuzz.formula(target="binary", name="a focal loss of sigmoids")
def sigmoid_focal(x, logits, targets):
    losses = targets * x.softplus(-logits) + (1 - targets) * x.softplus(logits)
    wrong = targets * x.sigmoid(-logits) + (1 - targets) * x.sigmoid(logits)
    return x.sum((0.75 - 0.5 * targets) * wrong * wrong * losses)


@lossfuzz.formula(target="binary", name="ordinal levels")
def ordinal(x, logits, levels):
    return x.sum(levels * x.softplus(-logits) + (1 - levels) * x.softplus(logits))


def focal_by_power(logits, targets):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    p = tf.sigmoid(logits)
    right = targets * p + (1 - targets) * (1 - p)
    alpha = targets * 0.25 + (1 - targets) * 0.75
    return tf.reduce_sum(alpha * tf.pow(1 - right, 2.0) * losses, -1)


def focal_by_log_sigmoid(logits, targets):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    signed = tf.where(targets == 1, logits, -logits)
    weights = tf.exp(2 * tf.math.log_sigmoid(-signed)) * (0.75 - 0.5 * targets)
    return tf.reduce_sum(weights * losses, -1)


def ordinal_by_log_sigmoid(logits, levels):
    import tensorflow as tf

    log_right = tf.math.log_sigmoid(logits)
    return -tf.reduce_sum(log_right * levels + (log_right - logits) * (1 - levels), -1)


def focal_by_gather(logits, labels):
    import tensorflow as tf

    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return (1 - p) ** 2 * fused(logits, labels)


def focal_by_expm1(logits, labels):
    import tensorflow as tf

    losses = fused(logits, labels)
    return tf.math.expm1(-losses) ** 2 * losses


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("loss", "against"),
    [
        (focal_by_power, sigmoid_focal),
        (focal_by_log_sigmoid, sigmoid_focal),
        (ordinal_by_log_sigmoid, ordinal),
        (focal_by_gather, plain_focal),
        (focal_by_expm1, plain_focal),
    ],
    ids=lambda one: getattr(one, "__name__", one.name if hasattr(one, "name") else ""),
)
def test_sound_focal_and_ordinal_losses_are_not_flagged(loss, against, seed):
    lossfuzz.check(loss, against, rows=2000, seed=seed, shapes=[(256, 2), (128, 10)], **EAGER32)


def test_a_shrunk_row_keeps_a_tenth_of_the_worst_error_that_was_seen():
    import tensorflow as tf

    def added(logits, labels):
        p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
        return -tf.math.log(p + 1e-3)

    for loss in (added, clipped):
        with pytest.raises(lossfuzz.LossDefect) as failure:
            lossfuzz.check(loss, NAME, rows=600, shapes=[(64, 6)], **EAGER32)
        shown, (cell,) = failure.value.finding, failure.value.result.cells
        worst = cell.findings[shown.kind, shown.tier]
        assert len(shown.logits) == 2
        u = 2.0**-24
        errors = [
            abs(one.observed_loss - one.exact_loss) / (u * max(1, one.exact_loss))
            for one in (shown, worst)
        ]
        assert errors[0] >= 0.1 * errors[1]


def test_a_saturated_row_is_shown_where_the_loss_stays_and_the_exact_one_grows():
    import tensorflow as tf

    found = defect(clipped, NAME, rows=600, shapes=[(64, 6)], **EAGER32)
    assert found.kind == kinds.SATURATION
    losses = clipped(tf.constant([found.logits, found.further]), tf.constant([0, 0])).numpy()
    assert losses[0] == losses[1] == found.observed_loss
    assert found.further_exact_loss > found.exact_loss + 0.5
