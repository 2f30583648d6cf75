"""Stability maps: what is counted where, on results made by hand and on TensorFlow's."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossfuzz.harness.exact.judge import reference_of
from lossfuzz.harness.measuring.conditions import conditions_of
from lossfuzz.harness.measuring.measure import measure
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.stability import (
    EDGES,
    INFINITE_LEVEL,
    LOWEST_LEVEL,
    Place,
    StabilityMap,
    levels_of,
)
from lossfuzz.plan import Plan
from lossfuzz.running import run

LOGITS = np.array([[0, 20.5], [0, 20.7], [40.2, 0], [1, 1], [-np.inf, 3]], np.float32)
LABELS = np.zeros(5, np.int32)


def added(loss):
    reference = reference_of(LOGITS, LABELS)
    conditions = conditions_of(LOGITS, LABELS, reference)
    gradient = reference.gradient.astype(np.float32)
    found = StabilityMap()
    found.add(
        measure(np.array(loss, np.float32), gradient, reference, LABELS, conditions), conditions
    )
    return found


def bin_of(margin):
    return next(at for at in range(len(EDGES) - 1) if EDGES[at] <= margin < EDGES[at + 1])


def exact():
    return reference_of(LOGITS, LABELS).loss


def test_edges_ascend_and_are_symmetric():
    assert list(EDGES) == sorted(set(EDGES))
    assert [-edge for edge in reversed(EDGES)] == list(EDGES)
    assert EDGES[bin_of(16.1)] == 16
    assert EDGES[bin_of(103.97)] == 96


def test_rows_count_in_the_bins_of_their_margins_with_their_worst_errors():
    places = added([16.0, *exact()[1:4], math.inf]).places
    first = places[2, bin_of(20)]
    assert (first.rows, first.defective) == (2, 1)
    assert 2.0 ** (first.loss - 1) < 4.5 / (2.0**-24 * 20.5) <= 2.0**first.loss
    assert places[2, bin_of(-40.2)].rows == 1
    assert places[2, bin_of(0)] == Place(1, places[2, bin_of(0)].loss, LOWEST_LEVEL, 0)
    assert sum(place.rows for place in places.values()) <= len(LOGITS)


def test_a_nan_counts_at_the_infinite_level():
    assert added([math.nan, *exact()[1:]]).places[2, bin_of(20)].loss == INFINITE_LEVEL


@given(
    st.lists(st.floats(0, 1e300) | st.sampled_from([math.inf, math.nan]), min_size=1, max_size=50)
)
def test_a_level_is_the_smallest_power_of_two_that_is_not_below_the_error(errors):
    for error, level in zip(errors, levels_of(np.array(errors, np.float64)), strict=True):
        if not math.isfinite(error):
            assert level == INFINITE_LEVEL
        else:
            assert error <= math.ldexp(1.0, int(level))
            assert level == LOWEST_LEVEL or error > math.ldexp(1.0, int(level) - 1)


def test_maps_merge_in_any_order_and_survive_json():
    parts = [added([loss, *exact()[1:]]) for loss in (16.0, 20.5, math.nan)]
    merged = []
    for order in itertools.permutations(parts):
        total = StabilityMap()
        for part in order:
            total.merge(part)
        merged.append(total.to_json())
    assert all(one == merged[0] for one in merged)
    assert StabilityMap.from_json(merged[0]).to_json() == merged[0]
    assert sum(figures[1] for figures in merged[0]["2"]) == 3 * sum(
        figures[1] for figures in parts[0].to_json()["2"]
    )


@pytest.fixture(scope="module")
def result(tf):
    return run(
        Plan(
            paths=tuple(paths_matching(["keras/function/softmax-identity", "keras/mean/class/*"])),
            formats=(BINARY32,),
            modes=("eager",),
            devices=("CPU:0",),
            shapes=((64, 3), (64, 10)),
            rows=4096,
        )
    )


def test_the_map_shows_the_cliff_of_the_clip(result):
    summary = result.cells[0].summary
    defective = {key: place for key, place in summary.stability.places.items() if place.defective}
    assert {classes for classes, _ in summary.stability.places} == {3, 10}
    first = min(EDGES[at] for _, at in defective if EDGES[at] >= 0)
    assert first == 16  # -log(1e-7) is 16.118
    at_24 = [place for (_, at), place in summary.stability.places.items() if at == bin_of(24)]
    assert max(place.loss for place in at_24) > 10


def test_families_add_up_to_the_cell(result):
    for cell in result.cells:
        summary = cell.summary
        parts = summary.families.values()
        assert sum(part.rows for part in parts) == summary.rows
        assert sum(part.judged for part in parts) == summary.judged
        assert sum(part.loss_ulp.total for part in parts) == summary.loss_ulp.total
        assert sum(part.gradient_ulp.total for part in parts) == summary.gradient_ulp.total
        assert max(part.loss_mixed for part in parts) == summary.largest["loss_mixed"]
        assert max(part.gradient_mixed for part in parts) == summary.largest["gradient_mixed"]
        for kind, count in summary.defects.items():
            assert sum(part.defects.get(kind, 0) for part in parts) == count
