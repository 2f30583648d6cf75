"""What TensorFlow's paths of sparse categorical cross-entropy do today.

The contract of every cell: no defect on any family. Known defects are strict xfails that name the
versions they were seen in, so that a version that mends one makes itself heard.
"""

import numpy as np
import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.route import CLIPPED, LOG_OF_SOFTMAX, SHIFTED
from lossfuzz.harness.paths.table import paths_matching, paths_of
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results import kinds
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.running.routes import route_of
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

pytestmark = pytest.mark.usefixtures("tf")

SEEN_IN = "seen in TensorFlow 2.21.0, Keras 3.15.1, tf_keras 2.21.0"


def cell(name, fmt=BINARY32, mode="eager"):
    return Cell(path=paths_matching([name])[0], format=fmt, mode=mode, device="CPU:0")


def observe(name, logits, labels, fmt=BINARY32, mode="eager"):
    return CellRunner(cell(name, fmt, mode)).run(fmt.cast(logits), np.array(labels, np.int32))


def outcome(name, logits, labels, fmt=BINARY32, mode="eager"):
    prepared = prepare(fmt.cast(logits), np.array(labels, np.int32), {})
    return outcome_of(CellRunner(cell(name, fmt, mode)), prepared)


def shown(flags):
    return {kind for kind, rows in flags.items() if rows.any()}


def known_route(path, fmt, mode):
    """The route by the table that tests/tensorflow/harness/running/test_routes.py checks."""
    way = path.name.split("/")[-1]
    if path.name == "tf.nn/naive":
        return LOG_OF_SOFTMAX
    if path.name in ("tf.nn/logsumexp-gather", "tf.nn/shifted-by-hand"):
        return f"{SHIFTED}, the largest logit added back: an offset swallows the loss"
    cast_by_class = path.name.startswith("keras/class/") and fmt != BINARY32
    if way == "softmax-cast" and fmt == BINARY32:
        way = "softmax-op"  # a cast to its own type is no operation
    clips = (
        way in ("softmax-identity", "softmax-reshape", "softmax-cast", "softmax-times-one")
        or (way == "softmax-op" and mode == "eager")
        or (way in ("softmax-op", "cached-logits") and cast_by_class)
    )
    return CLIPPED if clips else None


CELLS = [
    pytest.param(
        path.name,
        fmt,
        mode,
        id=f"{path.name}-{fmt.dtype_name}-{mode}",
        marks=[pytest.mark.xfail(strict=True, reason=f"{route}: {SEEN_IN}")] if route else [],
    )
    for path in paths_of(SOFTMAX_CROSS_ENTROPY)
    for fmt in TRAINING_FORMATS
    for mode in MODES
    for route in [known_route(path, fmt, mode)]
]


@pytest.mark.parametrize(("name", "fmt", "mode"), CELLS)
def test_a_cell_shows_no_defect_on_any_family(name, fmt, mode):
    runner = CellRunner(cell(name, fmt, mode))
    found = set()
    for recipe in planned_recipes(
        families=tuple(FAMILIES), fmt=fmt, shapes=((256, 10),), rows=len(FAMILIES) * 256, seed=7
    ):
        batch = expand(recipe)
        one = outcome_of(runner, prepare(batch.logits, batch.labels, recipe.to_json()))
        found |= shown(one.measurement.defects)
    assert found == set()


MARGINS = np.arange(0, 41, 0.25)


def label_loses(margins, classes=2):
    logits = np.zeros((len(margins), classes))
    logits[:, 1] = margins
    return logits, np.zeros(len(margins), np.int32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("api", ["keras", "tf_keras"])
def test_the_clip_route_stops_at_a_loss_of_16_118(api, mode):
    observed = observe(f"{api}/function/softmax-identity", *label_loses(MARGINS), mode=mode)
    beyond = MARGINS > 16.2
    assert observed.loss[beyond] == pytest.approx(16.118, abs=1e-3)
    assert observed.loss[~beyond] == pytest.approx(np.log1p(np.exp(MARGINS[~beyond])), rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("api", ["keras", "tf_keras"])
def test_the_clip_routes_gradient_collapses_at_16_12_and_is_then_exactly_zero(api, mode):
    observed = observe(f"{api}/function/softmax-identity", *label_loses(MARGINS), mode=mode)
    largest = np.abs(observed.gradient).max(axis=1)
    assert largest[MARGINS == 16] == pytest.approx(1)
    assert (largest[MARGINS > 16.12] < 1e-6).all()
    assert (largest[MARGINS >= 17] == 0).all()


@pytest.mark.parametrize("api", ["keras", "tf_keras"])
def test_the_softmax_op_is_found_in_graphs_and_missed_in_eager(api):
    name = f"{api}/function/softmax-op"
    logits, labels = label_loses(np.array([30.0]))
    losses = {mode: float(observe(name, logits, labels, mode=mode).loss[0]) for mode in MODES}
    assert losses == pytest.approx({"eager": 16.118, "graph": 30.0, "xla": 30.0}, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("api", ["keras", "tf_keras"])
def test_the_clip_routes_float16_gradient_is_not_finite_at_margin_12(api, mode):
    logits, labels = label_loses(np.array([12.0]))
    one = outcome(f"{api}/function/softmax-identity", logits, labels, BINARY16, mode)
    assert not np.isfinite(one.observed.gradient).all()
    assert kinds.NON_FINITE_GRADIENT in shown(one.measurement.defects)


@pytest.mark.parametrize("mode", MODES)
def test_the_fused_loss_of_0_at_margin_20_is_an_inaccuracy_and_no_defect(mode):
    one = outcome("tf.nn/fused", [[20.0, 0.0]], [0], BINARY32, mode)
    assert one.observed.loss[0] == 0
    assert one.prepared.reference.loss[0] == pytest.approx(2.06e-9, rel=1e-3)
    assert shown(one.measurement.defects) == set()
    assert kinds.LOSS_COLLAPSE in shown(one.measurement.inaccuracies)


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16], ids=lambda fmt: fmt.name)
def test_the_keras_class_forgets_cached_logits_when_it_casts(fmt):
    logits, labels = np.array([[0.0, 12.0]]), np.zeros(1, np.int32)
    forgotten = route_of(cell("keras/class/cached-logits", fmt), fmt.cast(logits), labels)
    kept = route_of(cell("keras/class-own-dtype/cached-logits", fmt), fmt.cast(logits), labels)
    assert (forgotten.name, kept.name) == (CLIPPED, "cached logits")


@pytest.mark.parametrize("name", ["tf.nn/fused", "tf.nn/log-softmax-gather"])
@pytest.mark.parametrize("mode", MODES)
def test_nan_logits_propagate(name, mode):
    observed = observe(name, [[np.nan, 1.0], [0.0, 1.0]], [0, 0], mode=mode)
    assert np.isnan(observed.loss).tolist() == [True, False]
    assert np.isnan(observed.gradient).any(axis=1).tolist() == [True, False]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_the_fused_kernel_shows_no_defect_on_the_gpu(gpu, mode):
    fused = paths_matching(["tf.nn/fused"])[0]
    for fmt in TRAINING_FORMATS:
        runner = CellRunner(Cell(path=fused, format=fmt, mode=mode, device=gpu))
        for recipe in planned_recipes(
            families=tuple(FAMILIES), fmt=fmt, shapes=((256, 10),), rows=4096, seed=7
        ):
            batch = expand(recipe)
            one = outcome_of(runner, prepare(batch.logits, batch.labels, recipe.to_json()))
            assert shown(one.measurement.defects) == set()
