"""The summaries of a real run, read back by TensorBoard's own loader."""

import math

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.histogram import metadata as histogram_plugin
from tensorboard.plugins.scalar import metadata as scalar_plugin
from tensorboard.plugins.text import metadata as text_plugin
from tensorboard.util import tensor_util

from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.cliffs import first_defect
from lossfuzz.harness.results.histogram import INFINITE_BIN, Histogram
from lossfuzz.harness.results.kinds import GRADIENT_COLLAPSE
from lossfuzz.plan import Plan
from lossfuzz.reports import tables, tensorboard
from lossfuzz.running import run

MEASURES = (("loss", "loss_ulp"), ("gradient", "gradient_ulp"))


@pytest.fixture(scope="module")
def result(tf):
    paths = paths_matching(["tf.nn/fused", "keras/function/softmax-identity"])
    plan = Plan(
        paths=tuple(paths),
        formats=(BINARY16, BINARY32),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((32, 3),),
        rows=700,
    )
    return run(plan)


@pytest.fixture(scope="module")
def loaded(result, tf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    tensorboard.write(result, folder, tf)
    return loader(folder)


def loader(folder):
    everything = {"tensors": 0}
    events = EventMultiplexer(tensor_size_guidance=everything)
    events.AddRunsFromDirectory(str(folder))
    events.Reload()
    return events


def value(events, run_name, tag):
    (event,) = events.Tensors(run_name, tag)
    return tensor_util.make_ndarray(event.tensor_proto)


def test_histograms_come_back_with_equal_counts(result, loaded):
    for one in result.cells:
        run_name = tensorboard.run_name(one)
        for name, measure in MEASURES:
            tag = f"log2 ulp of the {name}/{one.cell.path.name}"
            metadata = loaded.SummaryMetadata(run_name, tag)
            assert metadata.plugin_data.plugin_name == histogram_plugin.PLUGIN_NAME
            assert histogram_plugin.parse_plugin_metadata(metadata.plugin_data.content) is not None
            found = value(loaded, run_name, tag)
            counts = getattr(one.summary, measure).counts
            assert found[:, 2].sum() == counts[:INFINITE_BIN].sum() > 0
            assert np.array_equal(found[1:, 0], found[:-1, 1])
            for left, right, count in found[1:]:
                assert count == errors_between(counts, 2.0**left, 2.0**right)
            assert found[0, 2] == errors_between(counts, 0.0, 2.0**-10)


def errors_between(counts, lower, upper):
    """How many errors a histogram counts from one error to another, both edges of bins."""
    edges = Histogram()
    edges.add(np.array([lower * (1 + 1e-12), upper * (1 + 1e-12)]))
    first, last = np.flatnonzero(edges.counts)
    return counts[first:last].sum()


def test_scalars_say_what_the_summaries_say(result, loaded):
    margins = 0
    for one in result.cells:
        run_name, path, summary = tensorboard.run_name(one), one.cell.path.name, one.summary
        tag = f"share of rows with a defect/{path}"
        metadata = loaded.SummaryMetadata(run_name, tag)
        assert metadata.plugin_data.plugin_name == scalar_plugin.PLUGIN_NAME
        worst = max((summary.rate(kind) for kind in summary.defects), default=0.0)
        assert value(loaded, run_name, tag) == np.float32(worst)
        for name, measure in MEASURES:
            found = value(loaded, run_name, f"largest error of the {name} in u/{path}")
            assert found == np.float32(summary.largest[f"{name}_mixed"])
            infinite = value(loaded, run_name, f"share of infinite errors of the {name}/{path}")
            histogram = getattr(summary, measure)
            assert infinite == np.float32(histogram.counts[INFINITE_BIN] / histogram.total)
        tag = f"margin where the gradient vanishes/{path}"
        there = tag in loaded.Runs()[run_name]["tensors"]
        cliff = first_defect(one.cliffs, GRADIENT_COLLAPSE)
        assert there == (cliff is not None)
        if there:
            margins += 1
            assert value(loaded, run_name, tag) == np.float32(cliff.margin)
    assert margins > 0


def test_the_verdict_is_a_text(result, loaded):
    metadata = loaded.SummaryMetadata("verdict", "verdict")
    assert metadata.plugin_data.plugin_name == text_plugin.PLUGIN_NAME
    assert value(loaded, "verdict", "verdict").item().decode() == tables.verdict(result)


def test_the_step_is_how_many_rows_were_measured(result, loaded):
    one = result.cells[0]
    tag = f"log2 ulp of the loss/{one.cell.path.name}"
    (event,) = loaded.Tensors(tensorboard.run_name(one), tag)
    assert event.step == one.summary.rows


def test_errors_that_are_none_tiny_huge_and_infinite_are_all_counted_once():
    histogram = Histogram()
    histogram.add(np.array([0.0, 2.0**-60, 2.0**-11, 2.0**-10, 1.0, 1.24, 1.25, 1e80, np.inf]))
    found = tensorboard.buckets(histogram)
    assert found[0].tolist() == [-11, -10, 3]
    assert found[:, 2].sum() == 8
    by_edge = {left: count for left, _, count in found.tolist()}
    assert (by_edge[0.0], by_edge[math.log2(1.25)], by_edge[-10.0]) == (2, 1, 1)
    assert found[-1, 0] <= math.log2(1e80) < found[-1, 1]
    assert found[-1, 2] == 1


def test_nothing_counted_makes_no_bucket():
    assert tensorboard.buckets(Histogram()).shape == (0, 3)


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(result, tf, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file"):
        tensorboard.write(result, tmp_path / "file" / "board", tf)
