"""What TensorFlow's and Keras's other losses get wrong today, one row each.

docs/findings.md tells how each was found, why it happens and what to do. Each is a strict xfail
of the right behaviour, so that a version that mends one makes itself heard; beside it stands its
sound twin, a way to compute such a loss that shows no defect on the same row.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from lossfuzz.harness.losses.targets import Targets
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, FloatFormat
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running.execution import CellRunner

pytestmark = pytest.mark.usefixtures("tf")

SEEN_IN = "seen in TensorFlow 2.21.0, Keras 3.15.1, tf_keras 2.21.0"

EAGER_AND_GRAPH = ("eager", "graph")
INFINITY = np.inf


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A row on which a path is wrong, and on which its twin is not.

    Attributes:
        reason: what is wrong.
        path: that is wrong.
        twin: path that is right.
        fmt: format of the logits.
        logits: of the row.
        target: of the row; of an integer label its one-hot row.
        modes: in which it is wrong.
        copies: rows of the batch.
    """

    reason: str
    path: str
    twin: str
    fmt: FloatFormat = BINARY32
    logits: tuple[float, ...]
    target: tuple[float, ...]
    modes: tuple[str, ...] = MODES
    copies: int = 1


DEFECTS = (
    Defect(
        reason="a class masked by -inf makes the dense loss NaN",
        path="tf.nn/one-hot/fused",
        twin="tf.nn/fused",
        logits=(0.0, -INFINITY),
        target=(1, 0),
        modes=EAGER_AND_GRAPH,
    ),
    Defect(
        reason="Keras inherits the NaN",
        path="keras/one-hot/function/from-logits",
        twin="keras/function/from-logits",
        logits=(0.0, 1.0, -INFINITY),
        target=(1, 0, 0),
        modes=EAGER_AND_GRAPH,
    ),
    Defect(
        reason="finite logits further apart than the largest number make the dense loss NaN",
        path="tf.nn/one-hot/fused",
        twin="tf.nn/fused",
        logits=(2e38, -2e38),
        target=(1, 0),
        modes=EAGER_AND_GRAPH,
    ),
    Defect(
        reason="the kinks of abs and relu leave no gradient at a logit of 0",
        path="tf.nn/weighted-binary/fused",
        twin="tf.nn/binary/fused",
        logits=(0.0,),
        target=(1,),
    ),
    Defect(
        reason="smooths by the last axis's length, whatever the axis of the classes",
        path="keras/smoothed-other-axis/function/from-logits",
        twin="tf_keras/smoothed-other-axis/function/from-logits",
        logits=(0.0, 4.0),
        target=(1, 0),
    ),
    Defect(
        reason="the loss class's cast loses the logits behind a softmax",
        path="model/keras/softmax-head/train_on_batch",
        twin="model/keras/softmax-head-float32/train_on_batch",
        fmt=BFLOAT16,
        logits=(0.0, 24.0),
        target=(1, 0),
    ),
    Defect(
        reason="the loss class's cast loses the logits behind a sigmoid that rounds to 1",
        path="model/keras/sigmoid-head/train_on_batch",
        twin="model/keras/binary-logits-head/train_on_batch",
        fmt=BFLOAT16,
        logits=(8.0,),
        target=(0,),
    ),
    Defect(
        reason="1 - 1e-7 rounds to 1, so the clip lets probabilities of 1 through",
        path="keras/binary/function/sigmoid-op",
        twin="keras/binary/function/cached-sigmoid",
        fmt=BFLOAT16,
        logits=(8.0,),
        target=(0,),
        modes=("eager",),
    ),
    Defect(
        reason="a power's infinite derivative at a probability of 0",
        path="keras/gce/function/softmax-op",
        twin="tf.nn/gce/expm1",
        logits=(0.0, 104.0),
        target=(1, 0),
    ),
    Defect(
        reason="a power's infinite derivative where the prediction is right, gamma 0.5",
        path="keras/binary-focal-0.5/function/from-logits",
        twin="tf.nn/binary-focal-0.5/log-sigmoid",
        logits=(20.0,),
        target=(1,),
    ),
    Defect(
        reason="a power's infinite derivative where the prediction is right, gamma 0",
        path="keras/binary-focal-0/function/from-logits",
        twin="keras/binary/function/from-logits",
        logits=(20.0,),
        target=(1,),
    ),
    Defect(
        reason="the derivative of the quotient's logarithm overflows float16",
        path="keras/kl/function/softmax-op",
        twin="tf.nn/kl/fused",
        fmt=BINARY16,
        logits=(0.0, 0.0),
        target=(1, 0),
    ),
    Defect(
        reason="ignoring a class loses the logits behind a softmax",
        path="keras/ignoring/function/cached-logits",
        twin="tf_keras/ignoring/function/cached-logits",
        logits=(0.0, 24.0),
        target=(1, 0),
    ),
    Defect(
        reason="clips although it has the logits",
        path="keras/focal-2/function/from-logits",
        twin="tf.nn/focal-2/log-softmax",
        logits=(0.0, 24.0),
        target=(1, 0),
    ),
    Defect(
        reason="the derivative of the clipped probability's logarithm overflows float16",
        path="keras/one-hot/function/softmax-identity",
        twin="keras/one-hot/function/cached-logits",
        fmt=BINARY16,
        logits=(0.0, 12.0),
        target=(1, 0),
    ),
    Defect(
        reason="the losses of a batch are summed in float16",
        path="model/tf_keras/softmax-head/train_on_batch",
        twin="model/tf_keras/softmax-head-float32/train_on_batch",
        fmt=BINARY16,
        logits=(0.0, 2048.0),
        target=(1, 0),
        copies=64,
    ),
    Defect(
        reason="tf.reduce_mean sums in float16",
        path="tf.nn/binary/fused",
        twin="keras/binary/function/from-logits",
        fmt=BINARY16,
        logits=(255.0,) * 258,
        target=(0,) * 258,
        modes=EAGER_AND_GRAPH,
    ),
    Defect(
        reason="1 - 1e-7 is no float32, so the loss stops early for one of the classes",
        path="keras/binary/function/sigmoid-identity",
        twin="keras/binary/function/from-logits",
        logits=(16.1,),
        target=(0,),
    ),
)

ROWS = [
    pytest.param(defect, mode, id=f"{defect.path}-{defect.fmt.name}-{mode}")
    for defect in DEFECTS
    for mode in defect.modes
]


def defects_of(name, defect, mode):
    path = paths_matching([name])[0]
    rows = defect.fmt.cast(np.tile(defect.logits, (defect.copies, 1)))
    weights = np.tile(np.array(defect.target, np.float64), (defect.copies, 1))
    targets = Targets(
        kind=path.loss.target,
        weights=weights,
        labels=weights.argmax(axis=1).astype(np.int64),
        masked=np.isneginf(rows.astype(np.float64)),
    )
    runner = CellRunner(Cell(path=path, format=defect.fmt, mode=mode, device="CPU:0"))
    measured = outcome_of(runner, prepare_targets(rows, targets, {}, path.loss)).measurement
    return {kind for kind, shown in measured.defects.items() if shown.any()}


@pytest.mark.parametrize(("defect", "mode"), ROWS)
def test_a_row_shows_no_defect(request, defect, mode):
    mark = pytest.mark.xfail(
        strict=True, raises=AssertionError, reason=f"{defect.reason}: {SEEN_IN}"
    )
    request.applymarker(mark)
    assert defects_of(defect.path, defect, mode) == set()


@pytest.mark.parametrize(("defect", "mode"), ROWS)
def test_its_twin_shows_no_defect_on_the_same_row(defect, mode):
    assert defects_of(defect.twin, defect, mode) == set()


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason=f"constant folding makes 1 - p + epsilon another number: {SEEN_IN}",
)
def test_log_loss_is_the_same_in_eager_and_graph():
    assert log_losses("tf.compat.v1/log-loss") == 1


def test_sigmoid_cross_entropy_is_the_same_in_eager_and_graph():
    assert log_losses("tf.nn/binary/fused") == 1


def log_losses(name):
    """How many different losses the modes return for a probability close to 1."""
    path = paths_matching([name])[0]
    runners = [
        CellRunner(Cell(path=path, format=BINARY32, mode=mode, device="CPU:0"))
        for mode in EAGER_AND_GRAPH
    ]
    logits, targets = np.full((1, 1), 16.0, np.float32), np.zeros((1, 1), np.float32)
    return len({float(runner.run(logits, targets).loss[0]) for runner in runners})
