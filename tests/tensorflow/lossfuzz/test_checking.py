"""`lossfuzz.check` as a test calls it, on real TensorFlow."""

import pytest

import lossfuzz
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.own import own_path, own_path_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.results import kinds

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 6)]}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def clipped(logits, labels):
    import tensorflow as tf

    probability = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.clip_by_value(probability, 1e-7, 1.0))


def test_a_sound_loss_passes_in_all_formats_and_modes():
    result = lossfuzz.check(fused, NAME, rows=300, shapes=[(32, 6)])
    assert len(result.cells) == 9
    assert all(one.summary.judged for one in result.cells)
    assert not result.defective_cells


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("fmt", ["float16", "bfloat16", "float32"])
def test_a_clipped_loss_fails_with_a_row_that_a_person_can_read(fmt, mode):
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(clipped, NAME, formats=[fmt], modes=[mode], rows=2000, shapes=[(64, 6)])
    finding = failure.value.finding
    assert (finding.format, finding.mode, finding.tier) == (fmt, mode, kinds.DEFECT)
    assert len(finding.logits) == 2
    assert all(value == round(value) for value in finding.logits)
    assert failure.value.result.defective_cells


def test_the_message_says_what_is_what_should_be_and_how_to_replay_it():
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(clipped, NAME, **QUICK)
    message = str(failure.value)
    finding = failure.value.finding
    for part in (
        "clipped does not compute softmax cross-entropy",
        f"{finding.observed_loss:.9g}",
        f"{finding.exact_loss:.9g}",
        f"{finding.ulp_error:.3g} ULP",
        "seed=0",
        "tf.GradientTape",
    ):
        assert part in message


def test_the_script_in_the_message_runs_and_prints_the_same():
    import contextlib
    import io

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(clipped, NAME, **QUICK)
    script = str(failure.value).partition("as a script:\n")[2].replace("\n    ", "\n").lstrip()
    script = script.replace(f"import {__name__}\n", "").replace(f"{__name__}.clipped", "clipped")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(script, {"clipped": clipped})  # noqa: S102 - of the message that is tested
    assert repr(failure.value.finding.observed_loss)[:8] in printed.getvalue()


def test_the_same_arguments_find_the_same_row():
    rows = []
    for _ in range(2):
        with pytest.raises(lossfuzz.LossDefect) as failure:
            lossfuzz.check(clipped, NAME, **QUICK)
        rows.append(failure.value.finding)
    assert rows[0] == rows[1]


def refused(loss, **options):
    with pytest.raises(lossfuzz.LossRefusal) as refusal:
        lossfuzz.check(loss, NAME, **{**QUICK, **options})
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_a_loss_raises_is_told_with_its_line():
    def raising(logits, labels):
        raise RuntimeError("no such luck")

    message = refused(raising)
    assert "raised RuntimeError (test_checking.py, line" in message
    assert "no such luck" in message


def test_a_loss_that_returns_nothing_is_told():
    assert "returned None" in refused(lambda logits, labels: None)


def test_a_mean_that_was_not_announced_is_told_what_to_say():
    import tensorflow as tf

    assert "reduction='mean'" in refused(lambda x, y: tf.reduce_mean(fused(x, y)))


def test_a_mean_that_was_announced_is_measured():
    import tensorflow as tf

    result = lossfuzz.check(
        lambda x, y: tf.reduce_mean(fused(x, y)), NAME, reduction="mean", **QUICK
    )
    assert all(one.summary.judged for one in result.cells)


def test_an_axis_too_many_is_told():
    assert "keepdims" in refused(lambda x, y: fused(x, y)[..., None])


def test_one_loss_for_each_class_is_told():
    assert "one loss for each class" in refused(lambda x, y: x)


def test_an_integer_loss_is_told():
    import tensorflow as tf

    message = refused(lambda x, y: tf.cast(fused(x, y), tf.int32), formats=["float16", "float32"])
    assert "returned dtype int32" in message


def test_a_loss_without_a_gradient_is_told():
    import tensorflow as tf

    assert "no gradient" in refused(lambda x, y: tf.stop_gradient(fused(x, y)))


def test_a_loss_that_is_not_deterministic_is_told():
    import tensorflow as tf

    assert "not deterministic" in refused(lambda x, y: fused(tf.nn.dropout(x, 0.3), y))


def test_a_loss_that_changes_a_state_is_told():
    calls = []

    def drifting(logits, labels):
        calls.append(1)
        return fused(logits, labels) * len(calls)

    assert "not deterministic" in refused(drifting)


def test_a_loss_that_refuses_large_logits_is_a_defect_with_its_row():
    import tensorflow as tf

    def particular(logits, labels):
        tf.debugging.assert_less(logits, tf.constant(50.0, logits.dtype))
        return fused(logits, labels)

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(particular, NAME, **QUICK)
    assert failure.value.finding.kind == kinds.REFUSAL
    assert "raised" in str(failure.value)


def test_tensors_may_decide_in_graphs():
    import tensorflow as tf

    def branching(logits, labels):
        if tf.reduce_max(logits) > 0:
            return fused(logits, labels)
        return fused(logits - 1, labels)

    lossfuzz.check(branching, NAME, **{**QUICK, "modes": ["graph"], "families": ["normal"]})


def test_a_loss_with_keras_order_of_arguments_is_called_in_that_order():
    def keras_like(y_true, y_pred):
        return fused(y_pred, y_true)

    lossfuzz.check(keras_like, NAME, **QUICK)


def test_a_keras_loss_object_is_called_in_its_order():
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    lossfuzz.check(loss, NAME, **QUICK)


def test_a_gradient_of_slices_is_measured():
    import tensorflow as tf

    def by_gather(logits, labels):
        flat = tf.reshape(logits, [-1])
        rows = tf.range(logits.shape[0])
        chosen = tf.gather(flat, rows * logits.shape[1] + tf.cast(labels, tf.int32))
        largest = tf.stop_gradient(tf.reduce_max(logits, -1))
        shifted = tf.exp(logits - largest[:, None])
        return tf.math.log(tf.reduce_sum(shifted, -1)) - (chosen - largest)

    lossfuzz.check(by_gather, NAME, **QUICK)


@pytest.mark.parametrize(
    ("loss", "options", "error", "part"),
    [
        (3, {}, TypeError, "can be called"),
        (lambda logits: logits, {}, TypeError, "cannot"),
        (fused, {"against": "softmax"}, ValueError, "unknown loss 'softmax'"),
        (fused, {"against": 3}, TypeError, "expected a loss's name"),
        (fused, {"formats": ["float8"]}, ValueError, "known formats"),
        (fused, {"modes": ["jit"]}, ValueError, "known modes"),
        (fused, {"families": ["nice"]}, ValueError, "known families"),
        (fused, {"reduction": "median"}, ValueError, "unknown reduction"),
        (fused, {"rows": 0}, ValueError, "rows of 1 or more"),
        (fused, {"rows": 5, "seconds": 1}, ValueError, "not both"),
        (fused, {"device": "GPU:99"}, lossfuzz.BackendError, "unknown device"),
        (fused, {"shapes": [(3,)]}, ValueError, "shape"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(loss, options, error, part):
    with pytest.raises(error, match=part) as raised:
        lossfuzz.check(loss, **{"against": NAME, **QUICK, **options})
    assert "\n" not in str(raised.value)


def test_an_own_path_is_found_again_by_its_name():
    path = own_path(fused, SOFTMAX_CROSS_ENTROPY)
    assert path_named(path.name) is path
    again = own_path_named("math:hypot as softmax cross-entropy with an integer label")
    assert again is not None
    assert again.source == "math.hypot(logits, labels)"


@pytest.mark.parametrize("name", ["nowhere:loss", "math:nothing", "math:pi"])
def test_a_name_that_leads_nowhere_is_told(name):
    with pytest.raises(ValueError, match=name):
        own_path_named(f"{name} as {SOFTMAX_CROSS_ENTROPY.name}")


def with_custom_gradient(forgets):
    import tensorflow as tf

    @tf.custom_gradient
    def loss(logits, labels):
        def gradient(upstream):
            one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            slope = tf.nn.softmax(logits) - one_hot
            return slope if forgets else slope * upstream[..., None], None

        return fused(logits, labels), gradient

    return loss


def test_a_custom_gradient_that_forgets_what_comes_from_above_is_found():
    lossfuzz.check(with_custom_gradient(forgets=False), NAME, **QUICK)
    with pytest.raises(lossfuzz.LossDefect, match="upstream gradient ignored"):
        lossfuzz.check(with_custom_gradient(forgets=True), NAME, **QUICK)


def test_what_overflows_only_near_the_largest_number_is_no_defect():
    import tensorflow as tf

    def dense(logits, labels):
        one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), -1)

    near = {"formats": ["float32", "float16"], "families": ["largest_finite", "normal"]}
    result = lossfuzz.check(dense, NAME, **{**QUICK, **near})
    shown = {kind for one in result.cells for kind, tier in one.findings if tier == "inaccuracy"}
    assert kinds.NON_FINITE_LOSS in shown
    with pytest.raises(lossfuzz.LossDefect, match="non-finite loss"):
        lossfuzz.check(dense, NAME, **{**QUICK, "families": ["masks"]})
