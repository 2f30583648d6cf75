"""Losses as users write them, traced, agree with TensorFlow in float64."""

import keras
import numpy as np
import pytest
from flint import ctx

from lossfuzz.harness.programs.balls import Balls
from lossfuzz.harness.programs.dependence import dependent_rows
from lossfuzz.harness.programs.evaluation import exact_values
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.program import ProgramError
from lossfuzz.harness.programs.tape import Tape
from lossfuzz.harness.programs.tracing import traced

RNG = np.random.default_rng(2)
LOGITS = RNG.normal(size=(6, 5)) * 4
ONE_HOT = np.eye(5)[[0, 1, 2, 3, 4, 1]]
SEQUENCES = RNG.normal(size=(2, 6, 5)) * 3
LABELS = np.array([[1, 2, 2], [3, 1, 4]], np.int32)
GROUPS = [0, 1, 0, 1, 2, 2]


def dice(tf, x, y):
    p = tf.nn.softmax(x)
    both = tf.reduce_sum(p * y, 0)
    return 1 - tf.reduce_mean((2 * both + 1) / (tf.reduce_sum(p + y, 0) + 1))


def focal(tf, x, y):
    p = tf.nn.sigmoid(x)
    right = y * p + (1 - y) * (1 - p)
    return -tf.reduce_sum((1 - right) ** 2 * tf.math.log(right), -1)


def nt_xent(tf, x, y):
    unit = tf.math.l2_normalize(x + y, 1)
    scores = tf.matmul(unit, unit, transpose_b=True) / 0.07
    scores = scores - 1e9 * tf.eye(6, dtype=x.dtype)
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits([1, 0, 3, 2, 5, 4], scores)
    )


def semi_hard_triplet(tf, x, y):
    del y
    unit = tf.math.l2_normalize(x, 1)
    apart = tf.reduce_sum((unit[:, None] - unit[None]) ** 2, -1)
    same = tf.constant(np.equal.outer(GROUPS, GROUPS))
    other = tf.where(same, tf.constant(1e3, x.dtype), apart)
    positive = apart[:, :, None]
    harder = (other[:, None, :] > positive) & ~same[:, None, :]
    nearest = tf.reduce_min(
        tf.where(harder, tf.broadcast_to(other[:, None, :], harder.shape), 1e3), -1
    )
    terms = tf.nn.relu(apart - nearest + 0.3)
    mask = tf.cast(same, x.dtype) - tf.eye(6, dtype=x.dtype)
    return tf.reduce_sum(terms * mask) / tf.reduce_sum(mask)


def by_hand(tf, x, y):
    shifted = x - tf.reduce_max(x, -1, keepdims=True)
    shares = tf.exp(shifted) / tf.reduce_sum(tf.exp(shifted), -1, keepdims=True)
    return -tf.reduce_sum(y * tf.math.log(shares + 1e-12), -1)


def ctc(tf, x, y):
    del y
    lengths = tf.constant([3, 2]), tf.constant([6, 5])
    # TensorFlow takes float32 only
    return tf.nn.ctc_loss(
        LABELS, tf.cast(x, tf.float32), *lengths, logits_time_major=False, blank_index=0
    )


def sparse_ctc(tf, x, y):
    del y
    sparse = tf.sparse.from_dense(LABELS - 1)
    return tf.compat.v1.nn.ctc_loss(
        sparse, x, tf.constant([6, 6]), time_major=False, ignore_longer_outputs_than_inputs=True
    )


def keras_ctc(tf, x, y):
    del tf, y
    return keras.losses.CTC(dtype="float64")(LABELS, x)


def crf(tf, x, y):
    scores = tf.constant(ONE_HOT[:5] * 0.7, x.dtype)

    def step(state, row):
        return tf.reduce_logsumexp(state[:, None] + scores, 0) + row

    states = tf.scan(step, x[1:], initializer=x[0])
    return tf.reduce_logsumexp(states[-1]) - tf.reduce_sum(x * y)


LOSSES = [dice, focal, nt_xent, semi_hard_triplet, by_hand, crf]


def agrees(tf, loss, inputs, bound=1e-9):
    def function(*tensors):
        return loss(tf, *tensors)

    program = traced(function, [tf.TensorSpec(one.shape, one.dtype) for one in inputs])
    found = exact_values(program, inputs, wrt=[0])
    given = [tf.constant(one) for one in inputs]
    with tf.GradientTape() as tape:
        tape.watch(given[0])
        value = function(*given)
    slope = tape.gradient(value, given[0]).numpy()
    assert found.judged.all(), found.reason
    assert found.gradients_judged[0].all(), found.reason
    np.testing.assert_allclose(found.value, value.numpy(), rtol=bound, atol=1e-11)
    np.testing.assert_allclose(found.gradients[0], slope, rtol=bound, atol=bound)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda one: one.__name__)
def test_agrees_with_tensorflow(tf, loss):
    agrees(tf, loss, [LOGITS, ONE_HOT])


@pytest.mark.parametrize("loss", [ctc, keras_ctc], ids=lambda one: one.__name__)
def test_a_loss_of_sequences_agrees(tf, loss):
    agrees(tf, loss, [SEQUENCES, ONE_HOT], bound=1e-5)


def test_the_kernel_of_ctc_agrees(tf):
    agrees(tf, sparse_ctc, [SEQUENCES, ONE_HOT], bound=1e-7)


def test_a_random_operation_is_refused_in_one_line(tf):
    with pytest.raises(ProgramError, match=r"RandomUniform is random \(.*test_own_losses.py:"):
        traced(lambda x: x * tf.random.uniform([3]), [((3,), "float32")])


def test_a_variable_is_a_constant_and_a_wrong_shape_one_line(tf):
    scale = tf.Variable(3.0)
    program = traced(lambda x: x * scale, [((None, 2), "float32")])
    found = exact_values(program, [np.ones((1, 2))], wrt=[0])
    assert found.gradients[0].tolist() == [[3.0, 3.0]]
    with pytest.raises(ProgramError, match=r"of shape \[\?, 2\], got \[3\]"):
        exact_values(program, [np.ones(3)], wrt=[0])


def test_coupled_rows_are_known_with_the_operation(tf):
    def mean(x, y):
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, x))

    specs = [((6, 5), "float64")] * 2
    apart = dependent_rows(traced(mean, specs), [LOGITS, ONE_HOT], wrt=[0])
    assert apart.values.all()
    assert not apart.coupled
    contrastive = traced(lambda x, y: nt_xent(tf, x, y), specs)
    coupled = dependent_rows(contrastive, [LOGITS, ONE_HOT], wrt=[0])
    assert coupled.gradients.all()
    assert coupled.operation.kind == "MatMul"


def test_a_kink_has_both_sides_and_a_loss_names_its_operation(tf):
    program = traced(lambda x: tf.nn.relu(x) + tf.math.log(x + 2), [((None,), "float64")])
    found = exact_values(program, [np.array([0.0, 1.0, -3.0])], wrt=[0])
    assert found.judged.tolist() == [True, True, False]
    assert (found.lower[0][0], found.upper[0][0]) == (0.5, 1.5)
    assert "Log" in found.reason
    assert "test_own_losses.py" in found.reason


SPELLINGS = {
    "log of softmax": lambda tf, x, y: -tf.reduce_sum(y * tf.math.log(tf.nn.softmax(x)), -1),
    "log of 1 - softmax": lambda tf, x, y: (
        -tf.reduce_sum((1 - y) * tf.math.log(1 - tf.nn.softmax(x)), -1)
    ),
    "log of 1 - sigmoid": lambda tf, x, y: tf.math.log((1 - tf.sigmoid(x)) * 0.5),
    "log of a sum of exponentials": lambda tf, x, y: tf.math.log(tf.reduce_sum(tf.exp(x), -1)),
    "focal of 1 - exp(-loss)": lambda tf, x, y: (
        (1 - tf.exp(-tf.nn.softmax_cross_entropy_with_logits(y, x))) ** 2
        * tf.nn.softmax_cross_entropy_with_logits(y, x)
    ),
    "clip and log": lambda tf, x, y: (
        -tf.reduce_sum(y * tf.math.log(tf.clip_by_value(tf.nn.softmax(x), 1e-7, 1 - 1e-7)), -1)
    ),
    "by exponentials": lambda tf, x, y: (
        -tf.reduce_sum(
            y * tf.math.log(tf.exp(x) / tf.reduce_sum(tf.exp(x), -1, keepdims=True)), -1
        )
    ),
    "log1p of exp": lambda tf, x, y: tf.math.log1p(tf.exp(x)) * (1 + y),
}


@pytest.mark.parametrize("spelling", sorted(SPELLINGS))
def test_extreme_rows_stay_closed_and_rewrites_change_nothing(tf, spelling):
    program = traced(lambda x, y: SPELLINGS[spelling](tf, x, y), [((None, 5), "float64")] * 2)
    rng = np.random.default_rng(1)
    mild = rng.normal(size=(30, 5)) * 30
    labels = np.eye(5)[rng.integers(0, 5, 30)]
    found = exact_values(program, [mild, labels], wrt=[0])
    assert found.open_rows <= 1
    with ctx.workprec(1500):
        tape = Tape(Balls(), rewrites=False)
        given = prepared(tape, program, program.accepted([mild, labels]), [0])
        (result,) = carried_out(program, tape, given)
        (slope,) = tape.gradients(result, [given[0]])
        exact = [tape.engine.middles(one) for one in (result.value, slope)]
    assert (np.abs(found.value - exact[0]) <= found.bound + 1e-300).all()
    assert (np.abs(found.gradients[0] - exact[1]) <= found.bounds[0] + 1e-300).all()
    extreme = exact_values(program, [mild * 1e4, labels], wrt=[0])
    assert extreme.judged.all()
    assert extreme.gradients_judged[0].all()


def test_a_number_that_only_happens_to_be_zero_has_a_derivative(tf):
    def right(p, y):
        share = y * p + (1 - y) * (1 - p)
        return (1 - share) ** 2.0

    program = traced(right, [((None,), "float64")] * 2)
    found = exact_values(program, [np.zeros(2), np.array([1.0, 0.0])], wrt=[0])
    assert found.gradients[0].tolist() == [-2.0, 0.0]


def penalty(tf, x, y):
    with tf.GradientTape() as inner:
        inner.watch(x)
        score = tf.reduce_sum(tf.tanh(x) * y + tf.sigmoid(x) ** 2, -1)
    slope = inner.gradient(score, x)
    return (tf.sqrt(tf.reduce_sum(slope**2, -1)) - 1) ** 2


def test_a_loss_that_holds_a_gradient_agrees(tf):
    agrees(tf, penalty, [LOGITS, ONE_HOT])
