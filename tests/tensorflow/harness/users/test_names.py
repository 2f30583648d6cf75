"""A name leads to the object that was given: formulas and losses called alike, and ours."""

import numpy as np
import pytest

import lossfuzz
from lossfuzz.harness.formula.spec import formula, known
from lossfuzz.harness.losses import reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.losses.targets import IGNORABLE
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.paths.own import is_importable, own_path
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.users import names
from lossfuzz.harness.users.names import Names
from lossfuzz.mathematics import spec_of

WEIGHTS = [1.0, 3.0, 9.0, 27.0]
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 4)]}
LOGITS = np.array([[0.0, 0.0, 0.0, 0.0]], np.float32)


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def weighted(logits, labels):
    import tensorflow as tf

    losses = fused(logits, labels)
    return tf.gather(tf.cast(tf.constant(WEIGHTS), losses.dtype), labels) * losses


def value(spec, label=3):
    labels = np.array([label], np.int32)
    return float(prepare(LOGITS, labels, {}, spec).row_reference.loss[0])


def times(factor):
    def cross_entropy(x, logits, label):
        return -factor * x.log_softmax(logits)[label]

    return cross_entropy


@pytest.mark.usefixtures("tf")
@pytest.mark.parametrize("reduction", [None, "mean"])
def test_a_formula_named_like_one_of_ours_is_the_one_that_was_given(reduction):
    import tensorflow as tf

    def cross_entropy(x, logits, label):
        return -x.constant(WEIGHTS)[label] * x.log_softmax(logits)[label]

    def over_batch(loss):
        return loss if reduction is None else lambda a, b: tf.reduce_mean(loss(a, b))

    lossfuzz.check(over_batch(weighted), cross_entropy, **QUICK, reduction=reduction)
    with pytest.raises(lossfuzz.LossDefect):
        lossfuzz.check(over_batch(fused), cross_entropy, **QUICK, reduction=reduction)
    lossfuzz.check(over_batch(fused), "cross_entropy", **QUICK, reduction=reduction)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "log-sum-exp", "KL divergence"])
def test_no_name_of_ours_is_given_to_a_formula(name):
    spec = formula(times(2.0), name=name)
    assert spec.name == f"<{name}>" or spec.name.startswith(f"<{name}> ")
    assert loss_named(spec.name) is spec


@pytest.mark.parametrize("reduction", [None, *reduced.REDUCTIONS])
def test_two_formulas_of_one_name_are_two(reduction):
    one, other = (spec_of(times(factor), reduction) for factor in (2.0, 5.0))
    assert one.name != other.name
    assert value(one) == pytest.approx(2 * np.log(4))
    assert value(other) == pytest.approx(5 * np.log(4))
    assert loss_named(one.name) is one
    assert loss_named(other.name) is other


def test_a_formula_of_one_function_keeps_its_name():
    function = times(2.0)
    assert formula(function).name == formula(function).name
    assert formula(function).name != formula(function, target=IGNORABLE).name


def test_a_formula_whose_name_was_given_away_gets_another_one():
    names.release()
    one = formula(times(2.0))
    names.release()
    other = formula(times(5.0))
    assert one.name == other.name
    again = known(one)
    assert again.name != other.name
    assert value(loss_named(again.name)) == pytest.approx(2 * np.log(4))
    assert value(loss_named(other.name)) == pytest.approx(5 * np.log(4))


def test_our_own_losses_are_known_as_they_are():
    mean = reduced.reduced(SOFTMAX_CROSS_ENTROPY, "mean")
    assert known(SOFTMAX_CROSS_ENTROPY) is SOFTMAX_CROSS_ENTROPY
    assert known(mean) is mean


def test_two_own_losses_of_one_name_are_two():
    one, other = (own_path(lambda x, y: +fused(x, y), SOFTMAX_CROSS_ENTROPY) for _ in range(2))
    assert one.name != other.name
    assert path_named(one.name) is one
    assert path_named(other.name) is other
    assert not is_importable(other.name)
    assert one.source == other.source == "loss(logits, labels)"


def test_one_own_loss_keeps_its_name_and_so_does_a_method():
    class Losses:
        def loss(self, logits, labels):
            return fused(logits, labels)

    losses = Losses()
    assert (
        own_path(losses.loss, SOFTMAX_CROSS_ENTROPY).name
        == own_path(losses.loss, SOFTMAX_CROSS_ENTROPY).name
    )
    assert (
        own_path(losses.loss, SOFTMAX_CROSS_ENTROPY).name
        != own_path(Losses().loss, SOFTMAX_CROSS_ENTROPY).name
    )


@pytest.mark.usefixtures("tf")
def test_two_lambdas_in_one_run_are_measured_apart():
    import tensorflow as tf

    def losses(factor):
        return lambda x, y: tf.cast(factor, x.dtype) * fused(x, y)

    paths = tuple(own_path(losses(factor), SOFTMAX_CROSS_ENTROPY) for factor in (1.0, 2.0))
    plan = lossfuzz.Plan(
        paths=paths,
        formats=(lossfuzz.BINARY32,),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((32, 4),),
        rows=600,
    )
    right, wrong = lossfuzz.run(plan).cells
    assert not any(tier == "defect" for _, tier in right.findings)
    assert any(tier == "defect" for _, tier in wrong.findings)


def test_names_are_given_anew_after_a_release():
    known_here = Names()
    first, second = object(), object()
    known_here.add("f", 1, first)
    assert known_here.free("f", first) == "f"
    assert known_here.free("f", second) == "f 2"
    assert known_here.free("f", second, ending=" as g") == "f"
    names.release()
    assert known_here["f"] == 1
    assert known_here.free("f", second) == "f"


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("m:<lambda> 2 as log-sum-exp", "m:<lambda> as log-sum-exp"),
        ("m:f.<locals>.loss 12 as <f> 3, mean over the batch", "m:f.<locals>.loss as <f>, mean "),
        ("m:<partial object> 2 as <f> 2 float32 eager CPU:0", "m:<partial object> as <f> float32"),
        ("m:loss as categorical focal loss, gamma 2", "m:loss as categorical focal loss, gamma 2"),
        ("keras/class-focal 2/x float32 eager CPU:0", "keras/class-focal 2/x float32 eager"),
    ],
)
def test_baselines_know_a_loss_by_its_name_without_the_number(name, plain):
    assert names.unnumbered(name).startswith(plain)
    assert names.unnumbered(names.unnumbered(name)) == names.unnumbered(name)
