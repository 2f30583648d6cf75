"""Peak memory against what must be allocated, and against planted waste."""

import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.running.memory import footprint_of

pytestmark = pytest.mark.usefixtures("tf")

SHAPE = (16, 64, 1000)


def footprint(path, mode="eager", device="CPU:0"):
    return footprint_of(Cell(path=path, format=BINARY32, mode=mode, device=device), SHAPE)


def named(name):
    return paths_matching([name])[0]


@pytest.mark.parametrize(
    ("name", "mode", "step"),
    [
        ("tf.nn/fused", "eager", 2.05),
        ("tf.nn/fused", "graph", 1.05),
        ("keras/function/cached-logits", "eager", 2.05),
        ("keras/function/softmax-identity", "eager", 6.15),
        ("keras/function/softmax-op", "graph", 1.05),
    ],
)
def test_peaks_of_tensorflow_2_21_are_multiples_of_the_logits(name, mode, step):
    assert footprint(named(name), mode).step == pytest.approx(step, abs=0.15)


def test_the_clip_route_in_a_graph_needs_more_than_four_times_the_fused_kernel():
    clip = footprint(named("keras/function/softmax-identity"), "graph")
    fused = footprint(named("tf.nn/fused"), "graph")
    assert clip.step > 4 * fused.step
    assert clip.held == pytest.approx(1, abs=0.1)
    assert fused.held == pytest.approx(0, abs=0.05)


def test_forward_alone_never_needs_more_than_with_its_gradient():
    for mode in ("eager", "graph", "xla"):
        found = footprint(named("tf.nn/log-softmax-gather"), mode)
        assert 0.9 < found.forward <= found.step
        assert found.seconds > 0


def test_planted_copies_are_counted(tf):
    def wasteful(logits, labels, _):
        copies = [logits + float(k) for k in range(3)]
        wasted = tf.add_n([tf.reduce_sum(copy[..., :1] * 0) for copy in copies])
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return loss + wasted

    path = LossPath(
        name="planted/wasteful",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=wasteful,
        source="",
        documented="",
    )
    assert footprint(path).forward >= footprint(named("tf.nn/fused")).forward + 1.9


def test_peaks_do_not_depend_on_what_was_measured_before():
    first = footprint(named("tf.nn/fused")).step
    footprint(named("keras/function/softmax-identity"), "graph")
    assert footprint(named("tf.nn/fused")).step == pytest.approx(first, abs=0.02)


@pytest.mark.gpu
def test_memory_is_counted_on_the_gpu(gpu):
    fused = footprint(named("tf.nn/fused"), "graph", gpu)
    clip = footprint(named("keras/function/softmax-identity"), "graph", gpu)
    assert 0.9 < fused.step < clip.step
