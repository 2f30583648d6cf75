"""The contract of the sound paths: no defect on any family, in any mode, nor on drawn rows.

They are the ways that docs/findings.md and the advice of a run point to, so they must hold.
"""

from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings, target
from hypothesis import strategies as st

from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.strategies.cases import cases
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

pytestmark = pytest.mark.usefixtures("tf")

SHAPE = (256, 10)

SOUND = {
    "tf.nn/ignoring/where": TRAINING_FORMATS,
    "tf.nn/warm/fused": TRAINING_FORMATS,
    "tf.nn/gce/expm1": TRAINING_FORMATS,
    "tf.nn/log-sum-exp/reduce": TRAINING_FORMATS,
    "tf.nn/sum/fused": TRAINING_FORMATS,
    "tf.nn/binary/fused": TRAINING_FORMATS,
    "tf.nn/soft-binary/fused": TRAINING_FORMATS,
    "tf.nn/binary-focal-2/log-sigmoid": TRAINING_FORMATS,
    "keras/ignoring/function/from-logits": TRAINING_FORMATS,
    "keras/binary/function/from-logits": TRAINING_FORMATS,
    "keras/smoothed/function/from-logits": (BINARY32,),
    "tf_keras/smoothed-other-axis/function/from-logits": (BINARY32,),
    "tf_keras/ignoring/function/cached-logits": (BINARY32,),
    "model/keras/logits-head/train_on_batch": (BINARY32,),
    "model/keras/binary-logits-head/train_on_batch": (BINARY32,),
}

CELLS = [
    pytest.param(name, fmt, mode, id=f"{name}-{fmt.dtype_name}-{mode}")
    for name, formats in SOUND.items()
    for fmt in formats
    for mode in MODES
]


@cache
def batches(loss_name, fmt):
    """One batch of every family, with its exact values; all cells of a loss share them."""
    loss = loss_named(loss_name)
    recipes = planned_recipes(
        families=tuple(FAMILIES),
        fmt=fmt,
        shapes=(SHAPE,),
        rows=len(FAMILIES) * SHAPE[0],
        seed=7,
    )
    found = [expand(recipe) for recipe in recipes]
    return [prepare(batch.logits, batch.labels, batch.recipe.to_json(), loss) for batch in found]


@pytest.mark.parametrize(("name", "fmt", "mode"), CELLS)
def test_a_sound_path_shows_no_defect_on_any_family(name, fmt, mode):
    path = paths_matching([name])[0]
    runner = CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0"))
    shown = set()
    for prepared in batches(path.loss.name, fmt):
        defects = outcome_of(runner, prepared).measurement.defects
        family = prepared.recipe["family"]
        shown |= {(family, kind) for kind, rows in defects.items() if rows.any()}
    assert shown == set()


ROWS, CLASSES = 8, 10


def batch_of(cases):
    """Rows of one batch, which keeps its shape: XLA compiles once for each."""
    logits = np.stack([case.logits for case in cases])
    return logits, np.array([case.label for case in cases], np.int32)


def shows_nothing_on_drawn_rows(name, fmt, mode, examples):
    """Search for rows on which a path shows a defect, towards those with the largest errors."""
    path = paths_matching([name])[0]
    runner = CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0"))
    rows = cases([fmt], min_classes=CLASSES, max_classes=CLASSES)

    @settings(max_examples=examples, phases=[Phase.generate, Phase.target])  # a row is enough
    @given(st.lists(rows, min_size=ROWS, max_size=ROWS))
    def holds(drawn):
        logits, labels = batch_of(drawn)
        measured = outcome_of(runner, prepare(logits, labels, {}, path.loss)).measurement
        for measure in ("loss_mixed", "gradient_mixed"):
            largest = measured.row_errors(measure).max()
            target(min(float(largest / measured.bound), 1e9), label=measure)
        assert {kind for kind, flagged in measured.defects.items() if flagged.any()} == set()

    holds()


@pytest.mark.parametrize(("name", "fmt", "mode"), CELLS)
def test_a_sound_path_stays_so_whatever_hypothesis_draws(name, fmt, mode):
    shows_nothing_on_drawn_rows(name, fmt, mode, examples=12)


@pytest.mark.parametrize(
    "name", ["tf.nn/naive", "keras/function/softmax-identity", "tf.nn/binary/naive"]
)
def test_hypothesis_draws_what_an_unsound_path_gets_wrong(name):
    with pytest.raises(AssertionError):
        shows_nothing_on_drawn_rows(name, BINARY32, "eager", examples=60)
