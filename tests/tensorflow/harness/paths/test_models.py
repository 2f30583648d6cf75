"""Whole models: what they report as loss, and what their optimizers receive as gradient."""

import importlib
from dataclasses import replace
from functools import cache
from itertools import cycle

import numpy as np
import pytest

from lossfuzz.harness.exact.enclosed import reference_by_enclosures
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.models import dtype_policy, model_paths
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running.execution import ready
from lossfuzz.harness.running.routes import route_of

pytestmark = pytest.mark.usefixtures("tf")

APIS = ("keras", "tf_keras")
MODELS = tuple(path for api in APIS for path in model_paths(api))
each_model = pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
each_mode = pytest.mark.parametrize("mode", MODES)
each_api = pytest.mark.parametrize("api", APIS)


def named(name):
    return next(path for path in MODELS if path.name == name)


def cell(path, fmt=BINARY32, mode="graph", device="CPU:0"):
    return Cell(path=path, format=fmt, mode=mode, device=device)


def batch(path, fmt, rows):
    """Some logits with what the path is fed beside them, as arrays."""
    logits = fmt.cast(rows)
    flat = logits.reshape(-1, logits.shape[-1])
    labels = np.arange(len(flat)) % flat.shape[-1]
    targets = targets_of(path.loss.target, flat, labels)
    return logits, targets, targets.fed(logits.shape, logits.dtype)


@cache
def tame(path, fmt):
    rows = np.random.default_rng(0).uniform(-0.7, 0.7, (2, 4, 3))
    logits, targets, fed = batch(path, fmt, rows)
    return logits, fed, reference_by_enclosures(path.loss.base, logits.reshape(-1, 3), targets)


def taken(tf, one_cell, logits, fed):
    loss, gradient = ready(one_cell).step(tf.constant(logits), tf.constant(fed))
    return loss.numpy(), gradient.numpy()


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.dtype_name)
@each_mode
@each_model
def test_tame_logits_are_trained_on_within_the_rounding_of_the_format(tf, path, mode, fmt):
    logits, fed, exact = tame(path, fmt)
    loss, gradient = taken(tf, cell(path, fmt, mode), logits, fed)
    assert loss.dtype == gradient.dtype == np.float32
    assert loss.shape == ()
    assert loss == pytest.approx(exact.loss.mean(), rel=2 * fmt.unit_roundoff)
    errors = np.abs(gradient.reshape(-1, 3) - exact.gradient / 8)
    assert gradient.shape == logits.shape
    assert errors.max() <= 2 * fmt.unit_roundoff / 8


@each_mode
@each_api
def test_loss_scaling_is_on_and_undone_in_binary16(tf, api, mode):
    path = named(f"model/{api}/logits-head/train_on_batch")
    trained = ready(cell(path, BINARY16, mode))
    logits, fed, exact = tame(path, BINARY16)
    _, gradient = trained.step(tf.constant(logits.reshape(8, 3)), tf.constant(fed.reshape(8)))
    (made,) = trained._models.values()
    assert made["model"].optimizer.initial_scale == 2**15
    assert np.abs(gradient - exact.gradient / 8).max() <= BINARY16.unit_roundoff / 8
    tiny, _, targets = batch(path, BINARY16, [[12, 0, 0]] * 8)  # beyond the subnormals unscaled
    _, gradient = trained.step(tf.constant(tiny), tf.constant(np.zeros_like(targets)))
    assert gradient.numpy()[0, 1] == pytest.approx(np.exp(-12) / 8, rel=2**-9)


@each_mode
def test_a_step_skipped_at_any_scale_leaves_nan_every_time_and_nothing_to_the_next(tf, mode):
    path = named("model/keras/softmax-head/train_on_batch")
    step = ready(cell(path, BINARY16, mode)).step
    overflowing = tf.constant([[0, 12]], tf.float16)  # 1 / softmax(x)_0 is beyond 65504
    for _ in range(3):
        _, gradient = step(overflowing, tf.constant([0]))
        assert np.isnan(gradient).all()
    _, gradient = step(tf.constant([[0, 1.5]], tf.float16), tf.constant([1]))
    assert gradient.numpy()[0, 0] == pytest.approx(1 / (1 + np.exp(1.5)), rel=2**-9)


@each_mode
def test_a_step_skipped_at_the_first_scale_is_taken_at_a_smaller_one(tf, mode):
    path = named("model/keras/softmax-head/train_on_batch")
    step = ready(cell(path, BINARY16, mode)).step
    overflowing = tf.constant([[0, 1.5]], tf.float16)  # 2**15 / softmax(x)_0 is beyond 65504
    loss, gradient = step(overflowing, tf.constant([0]))
    assert loss.numpy() == pytest.approx(np.log1p(np.exp(1.5)), rel=2**-9)
    assert gradient.numpy()[0, 1] == pytest.approx(1 / (1 + np.exp(-1.5)), rel=2**-9)


@each_mode
@pytest.mark.parametrize("method", ["train_on_batch", "fit"])
@each_api
def test_two_steps_on_the_same_batch_give_the_same(tf, api, method, mode):
    path = named(f"model/{api}/softmax-head/{method}")
    step = ready(cell(path, mode=mode)).step
    logits, fed, _ = tame(path, BINARY32)
    first, *others = (step(tf.constant(x), tf.constant(fed)) for x in (logits, 9 - logits, logits))
    assert first[0].numpy() != others[0][0].numpy()
    assert first[0].numpy() == others[1][0].numpy()
    assert np.array_equal(first[1], others[1][1])


@each_mode
@each_api
def test_masks_and_the_largest_logits_reach_the_loss_as_they_are(tf, api, mode):
    path = named(f"model/{api}/logits-head/train_on_batch")
    largest = BINARY32.largest_finite
    logits, _, labels = batch(path, BINARY32, [[0, -np.inf, 0], [0, largest, -largest]])
    loss, gradient = taken(tf, cell(path, mode=mode), logits, labels)
    assert loss == pytest.approx(np.log(2) / 2)
    assert np.array_equal(gradient, [[-0.25, 0, 0.25], [0, 0, 0]])


@pytest.mark.parametrize("fmt", [BINARY16, BINARY32], ids=lambda fmt: fmt.dtype_name)
@each_mode
@each_api
def test_the_gradient_is_what_the_optimizer_makes_of_it(tf, api, mode, fmt):
    path = named(f"model/{api}/logits-head/train_on_batch")
    logits, fed, exact = tame(path, fmt)
    source = path.source.replace("Receiver(),", "Receiver(clipvalue=0.015625),")
    trained = ready(cell(replace(path, source=source), fmt, mode))
    _, gradient = trained.step(tf.constant(logits.reshape(8, 3)), tf.constant(fed.reshape(8)))
    assert np.abs(exact.gradient / 8).min() > 0.015625
    assert np.array_equal(gradient, np.sign(exact.gradient) * 0.015625)


@pytest.mark.parametrize(
    ("path", "mode"),
    list(zip(MODELS, cycle(MODES), strict=False)),
    ids=lambda one: getattr(one, "name", one),
)
def test_the_script_gives_what_the_step_gives(tf, path, mode):
    logits, fed, _ = tame(path, BINARY16)
    logits, fed = logits.reshape(8, 3), fed.reshape((8, 3)[: fed.ndim - 1])
    names = {"logits": tf.constant(logits), "labels": tf.constant(fed), "mode": mode}
    with dtype_policy(path.api, BINARY32):  # restores what the script sets
        exec(path.source, names)  # noqa: S102
    loss, gradient = taken(tf, cell(path, BINARY16, mode), logits, fed)
    assert names["loss"] == pytest.approx(loss, rel=1e-6)
    assert np.array_equal(names["gradient"], gradient)


@each_mode
@each_model
def test_the_traced_tensors_are_joined_by_operations_on_the_cells_device(tf, path, mode):
    from tensorflow.python.framework import op_callbacks

    logits, _, fed = batch(path, BINARY16, [[0, 1, 2], [1, 0, 2]])
    made, used = {}, set()

    def note(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        made.update((id(output), output) for output in outputs)
        used.update(id(tensor) for tensor in inputs)

    op_callbacks.add_op_callback(note)
    try:
        with tf.device("CPU:1"):
            of_logits, of_loss = ready(cell(path, BINARY16, mode, "CPU:1")).trace(
                tf.constant(logits), tf.constant(fed)
            )
    finally:
        op_callbacks.remove_op_callback(note)
    assert of_logits.shape == (2, 3)
    assert of_logits.dtype.name == "float16"
    assert of_loss.shape == ()
    assert made[id(of_loss)] is of_loss
    assert id(of_logits) in used
    assert of_loss.device.endswith("CPU:1")


@pytest.mark.parametrize("fmt", [BINARY16, BINARY32], ids=lambda fmt: fmt.dtype_name)
@each_mode
@each_api
def test_routes_of_models_in_tensorflow_2_21_with_keras_3_15(api, mode, fmt):
    heads = ("softmax-head", "softmax-head-float32", "logits-head")
    paths = [named(f"model/{api}/{head}/train_on_batch") for head in heads]
    routes = [route_of(cell(path, fmt, mode)).name for path in paths]
    cast_by_loss = api == "keras" and fmt == BINARY16  # which loses the logits behind the softmax
    own_dtype = "clip + log" if cast_by_loss else "cached logits"
    assert routes == [own_dtype, "cached logits", "fused on logits"]


@each_model
def test_the_forward_pass_alone_gives_the_same_loss(tf, path):
    for fmt in TRAINING_FORMATS:
        logits, fed, exact = tame(path, fmt)
        loss = path.call(tf.constant(logits), tf.constant(fed), fmt)
        assert float(loss) == pytest.approx(exact.loss.mean(), rel=2 * fmt.unit_roundoff)


@each_api
def test_the_users_dtype_policy_is_left_as_it_was(tf, api):
    mixed_precision = importlib.import_module(api).mixed_precision
    path = named(f"model/{api}/logits-head/train_on_batch")
    logits, fed, _ = tame(path, BINARY16)
    before = mixed_precision.global_policy().name
    taken(tf, cell(path, BINARY16), logits, fed)
    assert mixed_precision.global_policy().name == before


@each_api
def test_documentation_counts_where_the_loss_gets_probabilities(api):
    paths = model_paths(api, documented=lambda _: SOFTMAX_CROSS_ENTROPY)
    clipped = {path.name for path in paths if path.documented is SOFTMAX_CROSS_ENTROPY}
    assert clipped == {path.name for path in paths if "logits-head" not in path.name}
