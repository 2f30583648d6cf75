"""Which route every path takes, from the operations that TensorFlow really executes."""

import numpy as np
import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32, format_named
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.table import PATHS, paths_matching, paths_of
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.harness.running.routes import route_of

pytestmark = pytest.mark.usefixtures("tf")

ROUTES = {
    "tf.nn/fused": "fused on logits",
    "tf.nn/log-softmax-gather": "log-softmax",
    "tf.nn/naive": "log of softmax",
    "from-logits": "fused on logits",
    "cached-logits": "cached logits",
    "softmax-op": "softmax skipped",
    "softmax-identity": "clip + log",
    "softmax-layer": "cached logits",
    "activation-layer": "cached logits",
    "ops-softmax": "cached logits",
    "softmax-reshape": "clip + log",
    "softmax-cast": "clip + log",
    "softmax-times-one": "clip + log",
}

SPARSE = [
    path
    for path in paths_of(SOFTMAX_CROSS_ENTROPY)
    if (path.name if path.api == "tensorflow" else path.name.split("/")[-1]) in ROUTES
]
"""Integer labels by every way from logits to probabilities; other losses share the routes."""


def cell(path, fmt=BINARY32, mode="eager", device="CPU:0"):
    return Cell(path=path, format=fmt, mode=mode, device=device)


def route(path, fmt, mode):
    logits = fmt.cast([[0, 3, 1], [2, 0, -1]])
    return route_of(cell(path, fmt, mode), logits, np.zeros(2, np.int32))


def expected(path, fmt, mode):
    way = path.name if path.api == "tensorflow" else path.name.split("/")[-1]
    if way == "softmax-cast" and fmt == BINARY32:
        way = "softmax-op"  # a cast to its own type is no operation
    if way == "softmax-op" and mode == "eager":
        return "clip + log"
    cast_by_class = path.name.startswith("keras/class/") and fmt != BINARY32
    if cast_by_class and way in ("cached-logits", "softmax-op"):
        return "clip + log"
    return ROUTES[way]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("path", SPARSE, ids=lambda path: path.name)
def test_routes_in_tensorflow_2_21_with_keras_3_15(path, dtype, mode):
    fmt = format_named(dtype)
    assert route(path, fmt, mode).name == expected(path, fmt, mode)


OTHER_LOSSES = {
    "keras/one-hot/function/softmax-op": ("clip + log", "softmax skipped", "softmax skipped"),
    "keras/ignoring/function/cached-logits": ("clip + log",) * 3,
    "tf_keras/ignoring/function/cached-logits": ("cached logits",) * 3,
    "keras/binary/function/from-logits": ("log1p(exp) on logits",) * 3,
    "keras/binary/function/sigmoid-op": ("clip + log", "sigmoid skipped", "sigmoid skipped"),
    "keras/binary/function/cached-sigmoid": ("cached logits",) * 3,
    "keras/focal-2/function/from-logits": ("clip + log",) * 3,
    "keras/kl/function/softmax-op": ("clip + log",) * 3,
    "keras/gce/function/softmax-op": ("power of softmax",) * 3,
    "tf.nn/log-sum-exp/reduce": ("max-shifted log-sum-exp",) * 3,
    "tf.nn/log-sum-exp/naive": ("log of sum of exp",) * 3,
    "tf.compat.v1/log-loss": ("log of sigmoid",) * 3,
    "model/keras/softmax-head/train_on_batch": ("cached logits",) * 3,
    "model/keras/logits-head/train_on_batch": ("fused on logits",) * 3,
}


@pytest.mark.parametrize(("name", "routes"), OTHER_LOSSES.items(), ids=OTHER_LOSSES)
def test_routes_of_other_losses_and_of_models_in_eager_graph_and_xla(name, routes):
    (path,) = paths_matching([name])
    assert tuple(route_of(cell(path, mode=mode)).name for mode in MODES) == routes


def test_a_models_route_depends_on_its_policy():
    (path,) = paths_matching(["model/keras/softmax-head/train_on_batch"])
    assert route_of(cell(path, BINARY16)).name == "clip + log"


@pytest.mark.parametrize("mode", MODES)
def test_every_path_has_a_route_with_a_name(mode):
    unnamed = [path.name for path in PATHS if route_of(cell(path, mode=mode)).name == "other"]
    assert unnamed == []


def test_operations_are_listed_from_logits_to_loss():
    path = paths_matching(["keras/function/softmax-identity"])[0]
    operations = route(path, BINARY32, "eager").operations
    order = [operations.index(name) for name in ("Softmax", "Identity", "Log")]
    assert order == sorted(order)
    assert "SparseSoftmaxCrossEntropyWithLogits" in operations


def made_path(call):
    return LossPath(
        name="made/up",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=call,
        source="",
        documented=SOFTMAX_CROSS_ENTROPY,
    )


def test_a_loss_by_other_operations_is_called_other(tf):
    path = made_path(lambda logits, labels, _: tf.reduce_sum(logits * logits, axis=-1))
    assert route(path, BINARY32, "graph").name == "other"


@pytest.mark.parametrize("mode", MODES)
def test_a_path_that_refuses_is_unavailable_with_its_reason(mode):
    def refuse(*_):
        raise NotImplementedError("this version lacks it\nand more lines")

    with pytest.raises(UnavailableError, match=r"NotImplementedError.*"):
        route(made_path(refuse), BINARY32, mode)


def test_a_path_without_gradient_is_unavailable(tf):
    path = made_path(lambda logits, labels, _: tf.stop_gradient(logits[..., 0]))
    runner = CellRunner(cell(path))
    with pytest.raises(UnavailableError, match="no gradient"):
        runner.run(BINARY32.cast([[0, 1]]), np.zeros(1, np.int32))


@pytest.mark.parametrize("mode", MODES)
def test_a_cell_runs_on_the_device_it_names(tf, mode):
    seen = []

    def call(logits, labels, _):
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        seen.append(loss.device)
        return loss

    runner = CellRunner(cell(made_path(call), mode=mode, device="CPU:1"))
    observed = runner.run(BINARY16.cast([[0, 1]]).astype(np.float32), np.zeros(1, np.int32))
    assert seen[0].endswith("CPU:1")
    assert observed.loss[0] == pytest.approx(np.log1p(np.e))


def test_batches_in_time_come_back_as_rows():
    path = paths_matching(["tf.nn/fused"])[0]
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    labels = np.array([[0, 1, 2], [3, 0, 1]], np.int32)
    observed = CellRunner(cell(path)).run(logits, labels)
    flat = CellRunner(cell(path)).run(logits.reshape(6, 4), labels.reshape(6))
    assert np.array_equal(observed.loss, flat.loss)
    assert np.array_equal(observed.gradient, flat.gradient)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_paths_run_on_the_gpu(gpu, mode):
    for path in paths_of(SOFTMAX_CROSS_ENTROPY):
        runner = CellRunner(cell(path, mode=mode, device=gpu))
        observed = runner.run(BINARY32.cast([[0, 1]]), np.zeros(1, np.int32))
        assert observed.loss[0] == pytest.approx(np.log1p(np.e), rel=1e-5)
