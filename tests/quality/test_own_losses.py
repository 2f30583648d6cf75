"""Own losses as users write them: their shapes, bounds, gradients from above, and states."""

import pytest

import lossfuzz
from lossfuzz.harness.results import kinds

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
EAGER32 = {"formats": ["float32"], "modes": ["eager"]}
QUICK = {"rows": 200, "shapes": [(32, 6)], **EAGER32}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@lossfuzz.formula(name="cross-entropy weighted for four classes")
def weighted_formula(x, logits, label):
    return -x.constant([0.5, 1.0, 2.0, 4.0])[label] * x.log_softmax(logits)[label]


def weighted(logits, labels):
    import tensorflow as tf

    return tf.gather(tf.constant([0.5, 1.0, 2.0, 4.0], logits.dtype), labels) * fused(
        logits, labels
    )


@pytest.mark.parametrize("shapes", [None, [(64, 4)]])
def test_a_loss_of_four_classes_is_judged_on_four_classes(shapes):
    result = lossfuzz.check(weighted, weighted_formula, rows=500, shapes=shapes, **EAGER32)
    assert all(shape.endswith("x4") for shape in result.plan["shapes"])
    assert all(one.summary.judged for one in result.cells)


def test_a_loss_of_every_element_is_judged_on_elements():
    import tensorflow as tf

    def elements(logits, targets):
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)

    result = lossfuzz.check(elements, "binary-cross-entropy", rows=500, **EAGER32)
    assert any("a loss for every element" in note for note in result.notes)


def test_a_loss_of_three_axes_is_judged_on_its_own_shape():
    import tensorflow as tf

    def by_time(logits, labels):
        batch, time, classes = logits.shape
        del batch, time, classes
        return fused(logits, labels)

    assert lossfuzz.check(by_time, NAME, **{**QUICK, "shapes": [(4, 8, 10)]})
    del tf


@lossfuzz.formula(target="none", name="a sum of squares")
def squares_formula(x, logits, label):
    return x.sum(logits * logits)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (0.5, float("inf"))])
def test_no_number_that_a_loss_is_given_lies_beyond_its_bounds(bounds):
    import tensorflow as tf

    def guarded(logits):
        tf.debugging.assert_greater_equal(logits, tf.cast(bounds[0], logits.dtype))
        tf.debugging.assert_less_equal(logits, tf.cast(bounds[1], logits.dtype))
        return tf.reduce_sum(logits * logits, -1)

    lossfuzz.check(guarded, squares_formula, bounds=bounds, families=["normal", "ties"], **QUICK)


def with_gradient(of_upstream):
    """Cross-entropy with a gradient of its own, given what comes from above."""
    import tensorflow as tf

    @tf.custom_gradient
    def loss(logits, labels):
        def gradient(upstream):
            one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
            return of_upstream(upstream) * (tf.nn.softmax(logits) - one_hot), None

        return fused(logits, labels), gradient

    return loss


@pytest.mark.parametrize("misuse", ["forget", "mean", "abs", "round", "cap", "first", "square"])
def test_a_gradient_that_misuses_what_comes_from_above_is_found(misuse):
    import tensorflow as tf

    above = {
        "forget": lambda up: tf.ones_like(up)[..., None],
        "mean": tf.reduce_mean,
        "abs": lambda up: tf.abs(up)[..., None],
        "round": lambda up: tf.round(up)[..., None],
        "cap": lambda up: tf.minimum(up, tf.cast(2, up.dtype))[..., None],
        "first": lambda up: tf.reshape(up, [-1])[0],
        "square": lambda up: (up * up)[..., None],
    }[misuse]
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(with_gradient(above), NAME, families=["normal"], **QUICK)
    finding = failure.value.finding
    assert finding.kind == kinds.UPSTREAM_IGNORED
    assert not finding.unconfirmed
    assert f"for a gradient of {finding.factor:g} from above" in str(failure.value)


def test_a_gradient_that_minds_what_comes_from_above_is_sound():
    lossfuzz.check(with_gradient(lambda up: up[..., None]), NAME, families=["normal"], **QUICK)


def test_rows_that_are_coupled_by_rounding_alone_do_not_misuse_it():
    import tensorflow as tf

    def shifted(logits, labels):
        moved = logits - tf.reduce_max(logits)
        log_sum = tf.math.log(tf.reduce_sum(tf.exp(moved), -1))
        return log_sum - tf.gather(moved, labels, batch_dims=labels.shape.rank)

    with pytest.raises(lossfuzz.LossDefect) as failure:  # for its rows of another size
        lossfuzz.check(shifted, NAME, families=["whole_numbers"], **QUICK)
    (cell,) = failure.value.result.cells
    assert (kinds.UPSTREAM_IGNORED, kinds.DEFECT) not in cell.findings


@lossfuzz.formula(name="mean absolute error of a softmax")
def absolute_formula(x, logits, label):
    return 2 - 2 * x.softmax(logits)[label]


def test_small_gradients_of_many_classes_are_held_to_what_the_loss_can_have():
    import tensorflow as tf

    def absolute(logits, labels):
        one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return tf.reduce_sum(tf.abs(one_hot - tf.nn.softmax(logits)), -1)

    lossfuzz.check(absolute, absolute_formula, rows=2000, shapes=[(64, 438), (64, 10)], **EAGER32)


@lossfuzz.formula(target="none", name="a sum of magnitudes")
def magnitudes_formula(x, logits, label):
    return x.sum(abs(logits))


def test_logits_that_kernels_flush_to_zero_excuse_a_users_loss():
    import tensorflow as tf

    lossfuzz.check(
        lambda logits: tf.reduce_sum(tf.abs(logits), -1),
        magnitudes_formula,
        families=["subnormals", "normal"],
        **QUICK,
    )


def test_a_loss_that_does_not_return_the_same_twice_is_refused_whatever_else_it_shows():
    calls = []

    def drifting(logits, labels):
        calls.append(1)
        return fused(logits, labels) * (1 + 0.001 * len(calls))

    with pytest.raises(lossfuzz.LossRefusal, match="not deterministic"):
        lossfuzz.check(drifting, NAME, modes=["eager"], rows=200, shapes=[(32, 6)])


def test_a_loop_that_infinity_never_ends_is_asked_for_no_policy():
    import tensorflow as tf

    def looping(logits, labels):
        left = tf.reduce_max(logits)
        while left > 100:
            left = left - tf.maximum(left / 2, 1)
        return fused(logits, labels) + 0 * left

    for mode in ("eager", "graph"):
        result = lossfuzz.check(looping, NAME, families=["normal"], **{**QUICK, "modes": [mode]})
        assert not result.cells[0].policy
