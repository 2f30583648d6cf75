"""Cliffs to the last number of the format, checked by TensorFlow itself on both sides of them."""

import json
import math
from dataclasses import astuple, replace

import numpy as np
import pytest

from lossfuzz.cli import main
from lossfuzz.harness.measuring.thresholds import cliffs_of
from lossfuzz.harness.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    TRAINING_FORMATS,
    from_ordinals,
    neighbours,
)
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import (
    CLIFF_KINDS,
    LOSES,
    ONE_LOSES,
    WINS,
    ZERO_GRADIENT,
    ZERO_LOSES,
    CellCliffs,
    Cliff,
    first_margin,
    shortest,
)
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.reports.cliffs import COLUMNS, cliff_rows

pytestmark = pytest.mark.usefixtures("tf")


def runner(name, fmt=BINARY32, mode="eager"):
    (path,) = paths_matching([name])
    return CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0"))


def found(name, fmt=BINARY32, mode="eager", **options):
    return {(one.side, one.kind): one for one in cliffs_of(runner(name, fmt, mode), **options)}


def keras_clips(tf, margins, fmt):
    """Loss and gradient of rows [0, margin] with label 0, without anything of ours."""
    import keras

    rows = np.stack([np.zeros_like(margins), margins], axis=1)
    logits = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = keras.losses.sparse_categorical_crossentropy(
            tf.zeros(len(rows), tf.int32), tf.nn.softmax(logits)
        )
    gradient = tape.gradient(loss, logits)
    assert loss.dtype.name == fmt.dtype_name
    return loss.numpy().astype(np.float64), gradient.numpy().astype(np.float64)


@pytest.fixture(scope="module")
def clipped(tf):
    return {fmt: found("keras/function/softmax-op", fmt) for fmt in TRAINING_FORMATS}


def test_the_clip_route_breaks_at_16_118_in_float32_to_the_last_number(clipped):
    cliffs = clipped[BINARY32]
    stops = cliffs[LOSES, kinds.SATURATION]
    vanishes = cliffs[LOSES, kinds.GRADIENT_COLLAPSE]
    assert round(stops.margin, 3) == round(vanishes.margin, 3) == 16.118
    assert stops.at.loss == float(np.float32(-math.log(1e-7)))
    for cliff in (stops, vanishes):
        above = neighbours(np.array([cliff.below.margin], np.float32), 1, BINARY32)
        assert float(above[0]) == cliff.margin
        assert cliff.tier == DEFECT
        assert cliff.confirmed


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_tensorflow_agrees_on_both_sides_of_every_cliff_of_the_clip_route(tf, clipped, fmt):
    checked = 0
    for (side, kind), cliff in clipped[fmt].items():
        if side != LOSES or cliff.below is None:
            continue
        pair = np.array([cliff.below.margin, cliff.margin]).astype(fmt.dtype)
        loss, gradient = keras_clips(tf, pair, fmt)
        assert loss.tolist() == [cliff.below.loss, cliff.at.loss]
        np.testing.assert_allclose(  # kernels round alike in whole vectors alone
            gradient[:, 0],
            [cliff.below.label_gradient, cliff.at.label_gradient],
            rtol=2.0 ** (2 - fmt.precision),
        )
        shows = {
            ZERO_GRADIENT: (gradient == 0).all(axis=1),
            kinds.LABEL_GRADIENT_COLLAPSE: gradient[:, 0] == 0,
            kinds.GRADIENT_COLLAPSE: np.abs(gradient).max(axis=1) < 0.0625,
            kinds.NON_FINITE_GRADIENT: ~np.isfinite(gradient).all(axis=1),
            kinds.SATURATION: loss == keras_clips(tf, pair * fmt.dtype.type(4), fmt)[0][1],
        }[kind]
        assert shows.tolist() == [False, True], kind
        checked += 1
    assert checked >= 4


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16], ids=lambda fmt: fmt.name)
def test_every_margin_of_a_half_format_gives_the_same_first_ones(tf, clipped, fmt):
    margins = from_ordinals(np.arange(fmt.infinity_ordinal), fmt)
    _, gradient = keras_clips(tf, margins, fmt)
    by_kind = {
        ZERO_GRADIENT: (gradient == 0).all(axis=1),
        kinds.LABEL_GRADIENT_COLLAPSE: gradient[:, 0] == 0,
        kinds.NON_FINITE_GRADIENT: ~np.isfinite(gradient).all(axis=1),
    }
    for kind, shows in by_kind.items():
        first = float(margins[shows.argmax()]) if shows.any() else math.inf
        assert first_margin(clipped[fmt].values(), kind, [LOSES]) == first


def test_the_fused_kernel_has_no_cliff_but_for_relative_errors():
    for mode in ("eager", "graph"):
        cliffs = found("tf.nn/fused", mode=mode)
        assert {side for side, _ in cliffs} == {WINS}
        assert {cliff.tier for cliff in cliffs.values()} == {INACCURACY}
        collapse = cliffs[WINS, kinds.LOSS_COLLAPSE]
        assert collapse.margin == pytest.approx(24 * math.log(2), abs=1e-6)
        assert collapse.at.loss == 0 < collapse.at.exact_loss


def test_more_classes_move_the_cliff_by_the_logarithm_of_the_rivals():
    two, five = (
        found("keras/function/softmax-op", classes=classes, sides=[LOSES])[LOSES, kinds.SATURATION]
        for classes in (2, 5)
    )
    assert two.margin - five.margin == pytest.approx(math.log(4), abs=1e-5)


def test_both_targets_of_a_sigmoid_have_their_sides():
    cliffs = found("keras/binary/function/sigmoid-op")
    assert cliffs[ONE_LOSES, kinds.SATURATION].margin == pytest.approx(16.118, abs=1e-3)
    assert cliffs[ZERO_LOSES, kinds.SATURATION].margin == pytest.approx(15.719, abs=1e-3)


def test_a_mean_breaks_where_its_rows_do(clipped):
    mean = found("keras/mean/class/softmax-op", sides=[LOSES])
    for kind in (kinds.SATURATION, ZERO_GRADIENT):
        at, of_rows = mean[LOSES, kind].at, clipped[BINARY32][LOSES, kind].at
        assert (at.margin, at.loss) == (of_rows.margin, of_rows.loss)
        assert astuple(at) == pytest.approx(astuple(of_rows), rel=2.0**-22, abs=0)


def test_a_loss_that_breaks_at_once_has_nothing_below(tf):
    def nothing(logits, labels, _):
        return tf.reduce_sum(logits * 0, -1)

    (fused,) = paths_matching(["tf.nn/fused"])
    cell = Cell(path=replace(fused, call=nothing), format=BINARY32, mode="eager", device="CPU:0")
    cliffs = {one.kind: one for one in cliffs_of(CellRunner(cell), sides=[LOSES])}
    assert cliffs[ZERO_GRADIENT].margin == cliffs[kinds.LOSS_COLLAPSE].margin == 0
    assert cliffs[ZERO_GRADIENT].below is None


def test_unshifted_exponentials_overflow_where_the_format_ends(tf):
    def unshifted(logits, labels, _):
        total = tf.math.log(tf.reduce_sum(tf.exp(logits), -1))
        return total - tf.gather(logits, labels, batch_dims=1)

    (fused,) = paths_matching(["tf.nn/fused"])
    cell = Cell(path=replace(fused, call=unshifted), format=BINARY16, mode="xla", device="CPU:0")
    (cliff,) = (
        one for one in cliffs_of(CellRunner(cell), sides=[LOSES]) if one.kind == "non-finite loss"
    )
    assert cliff.margin == pytest.approx(math.log(65504), abs=0.01)
    assert math.isfinite(cliff.below.loss)


def test_cliffs_survive_json(clipped):
    one = CellCliffs(
        cell=runner("keras/function/softmax-op").cell, cliffs=tuple(clipped[BINARY16].values())
    )
    text = json.dumps(one.to_json(), allow_nan=False)
    assert repr(CellCliffs.from_json(json.loads(text))) == repr(one)  # NaN is not NaN


def test_impossible_cliffs_are_refused(clipped):
    cliff = clipped[BINARY32][LOSES, kinds.SATURATION]
    for change in ({"kind": "bump"}, {"side": "left"}, {"tier": "bad"}):
        with pytest.raises(ValueError, match="unknown"):
            replace(cliff, **change)
    with pytest.raises(ValueError, match="two classes or more, got 1"):
        cliffs_of(runner("tf.nn/fused"), classes=1)
    with pytest.raises(ValueError, match="has no side 'target 1 loses'; it has: label loses"):
        cliffs_of(runner("tf.nn/fused"), sides=[ONE_LOSES])


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_a_margin_is_printed_so_that_its_format_reads_it_back(fmt):
    numbers = from_ordinals(np.linspace(1, fmt.infinity_ordinal - 1, 500).astype(np.int64), fmt)
    for number in numbers.astype(np.float64):
        assert float(fmt.cast([float(shortest(number, fmt))])[0]) == number
    assert shortest(16.234375, BINARY16) == "16.234375"
    assert shortest(2.0, fmt) == "2"


def test_modes_with_the_same_margins_share_a_line(clipped):
    cell = runner("keras/function/softmax-op").cell
    cliffs = tuple(clipped[BINARY32].values())
    rows = cliff_rows(
        [CellCliffs(cell=replace(cell, mode=mode), cliffs=cliffs) for mode in ("eager", "graph")]
        + [CellCliffs(cell=replace(cell, mode="xla"))]
    )
    texts = [dict(zip(COLUMNS, row.texts, strict=True)) for row in rows]
    assert [one["modes"] for one in texts] == ["eager graph", "eager graph", "xla"]
    assert texts[0]["loss stops growing"] == "16.118095"
    assert texts[1]["gradient is 0"].startswith("(")  # a relative error alone
    assert set(texts[2].values()) >= {"-"}
    assert [row.tier for row in rows] == [DEFECT, INACCURACY, ""]


def test_the_command_writes_what_it_shows(tmp_path, capsys):
    out = tmp_path / "c.json"
    arguments = ["--paths", "keras/function/softmax-op", "--modes", "eager", "--out", str(out)]
    assert main(["cliffs", *arguments]) == 0
    (record,) = json.loads(out.read_text())["cells"]
    shown = capsys.readouterr().out
    for cliff in CellCliffs.from_json(record).cliffs:
        assert shortest(cliff.margin, BINARY32) in shown
        assert cliff.kind in CLIFF_KINDS
        assert isinstance(cliff, Cliff)


def test_too_few_classes_are_one_line(capsys):
    assert main(["cliffs", "--classes", "1"]) == 2
    assert capsys.readouterr().err == "lossfuzz: error: --classes expects 2 or more, got 1\n"
