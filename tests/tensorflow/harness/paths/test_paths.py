"""Every path computes what it promises on tame logits, and its source is what it runs."""

import importlib

import numpy as np
import pytest

from lossfuzz.harness.exact.enclosed import reference_by_enclosures
from lossfuzz.harness.losses.reduced import row_factors, sample_weights
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.expression import SAMPLE_WEIGHTS
from lossfuzz.harness.paths.table import PATHS, paths_matching, paths_of

SHAPES = ((8, 5), (2, 4, 5))

BREAKS_ITS_PROMISE = {
    "keras/smoothed-other-axis/function/from-logits": "Keras 3 spreads the smoothing over as many "
    "classes as the last axis is long, whatever the axis; seen in Keras 3.15.1",
}


def tame_batch(path, shape):
    generator = np.random.default_rng(len(path.name))
    logits = generator.standard_normal(shape).astype(np.float32)
    if "temperature 1/16" in path.loss.name:
        logits /= 16  # tame once they are multiplied again
    rows, classes = logits.size // shape[-1], shape[-1]
    labels = generator.integers(0, classes, rows)
    targets = targets_of(path.loss.target, logits.reshape(rows, classes), labels)
    return logits, targets


def exact(spec, logits, targets):
    rows = logits.reshape(-1, logits.shape[-1])
    found = reference_by_enclosures(spec, rows, targets, tight_gradient=False)
    if spec.reduction is None:
        return found.loss, found.gradient
    factors = row_factors(spec.reduction, len(rows))
    return (factors * found.loss).sum(), factors[:, None] * found.gradient


def observed(tf, call, logits, targets):
    x = tf.constant(logits)
    y = tf.constant(targets.fed(logits.shape, logits.dtype))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = call(x, y)
    return loss.numpy(), tape.gradient(loss, x).numpy().reshape(-1, logits.shape[-1])


def test_names_are_unique():
    assert len({path.name for path in PATHS}) == len(PATHS)


def test_there_are_many_ways():
    assert len(PATHS) >= 60


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_every_loss_has_a_path(loss):
    assert paths_of(loss)


def test_every_path_is_of_a_loss_in_the_table_and_keeps_its_targets():
    for path in PATHS:
        assert path.loss in LOSSES
        assert path.documented.target == path.loss.target
        assert path.documented.reduction == path.loss.reduction


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.name,
            marks=[pytest.mark.xfail(strict=True, reason=BREAKS_ITS_PROMISE[path.name])]
            if path.name in BREAKS_ITS_PROMISE
            else [],
        )
        for path in PATHS
    ],
)
def test_a_path_keeps_its_promise_on_tame_logits(tf, path, shape):
    logits, targets = tame_batch(path, shape)
    loss, gradient = observed(tf, lambda x, y: path.call(x, y, BINARY32), logits, targets)
    assert loss.shape == (() if path.loss.reduction else shape[:-1])
    exact_loss, exact_gradient = exact(path.documented, logits, targets)
    assert loss.reshape(-1) == pytest.approx(exact_loss, rel=1e-5, abs=1e-5)
    assert gradient == pytest.approx(exact_gradient, abs=1e-5 * path.loss.steepness)


CALLS = [path for path in PATHS if not path.trained]
"""Paths whose source is an expression; the scripts of whole models are in test_models.py."""


@pytest.mark.parametrize("path", CALLS, ids=lambda path: path.name)
def test_a_source_pasted_elsewhere_gives_the_same_loss(tf, path):
    logits, targets = tame_batch(path, SHAPES[0])
    names = {"tf": tf, path.api: importlib.import_module(path.api)}
    pasted = f"def loss(logits, labels):\n    return {path.source}"
    exec(pasted, names)  # noqa: S102
    loss, gradient = observed(tf, names["loss"], logits, targets)
    called = observed(tf, lambda x, y: path.call(x, y, BINARY32), logits, targets)
    assert loss == pytest.approx(called[0])
    assert gradient == pytest.approx(called[1])


def test_the_weights_in_a_source_are_the_loss_s(tf):
    logits, labels = tf.zeros((3, 4, 5), tf.bfloat16), tf.zeros((3, 4), tf.int32)
    weights = eval(SAMPLE_WEIGHTS, {"tf": tf, "logits": logits, "labels": labels})  # noqa: S307
    assert weights.dtype == tf.bfloat16
    assert np.array_equal(weights.numpy(), sample_weights(12).reshape(3, 4))


def test_an_unknown_pattern_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match=r"unknown path 'no-such'.*tf\.nn/fused"):
        paths_matching(["no-such"])
