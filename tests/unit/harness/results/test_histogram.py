import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossfuzz.harness.results.histogram import INFINITE_OCTAVE, NO_OCTAVE, Histogram, Octaves

errors = st.lists(
    st.floats(0, 1e60) | st.just(math.inf) | st.just(0.0), min_size=1, max_size=200
).map(lambda values: np.array(values, np.float64))


def filled(values):
    histogram = Histogram()
    histogram.add(values)
    return histogram


@given(errors, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_lie_within_a_bin_above_the_true_ones(values, share):
    rank = max(1, math.ceil(share * len(values)))
    truth = np.sort(values)[rank - 1]
    found = filled(values).quantile(share)
    if truth < 2.0**-40:
        assert found == 0.0
    else:
        assert truth <= found <= truth * (1 + 1 / 31)


@given(errors, errors, errors)
def test_merging_is_associative_and_commutative(first, second, third):
    left = filled(first)
    left.merge(filled(second))
    left.merge(filled(third))
    right = filled(third)
    right.merge(filled(first))
    right.merge(filled(second))
    assert (
        left.to_json()
        == right.to_json()
        == filled(np.concatenate([first, second, third])).to_json()
    )


@given(errors)
def test_json_leads_back(values):
    histogram = filled(values)
    assert Histogram.from_json(histogram.to_json()).to_json() == histogram.to_json()
    assert histogram.total == len(values)


def test_an_empty_histogram_has_no_quantile():
    assert math.isnan(Histogram().quantile(0.5))


def test_an_impossible_share_is_refused():
    with pytest.raises(ValueError, match=r"share in \[0, 1\], got 2"):
        Histogram().quantile(2)


@given(errors, errors)
def test_octaves_are_the_histogram_with_its_bins_joined_in_any_order(first, second):
    both = filled(np.concatenate([first, second]))
    octaves = Octaves.of(filled(second))
    octaves.merge(Octaves.of(filled(first)))
    assert octaves.to_json() == Octaves.of(both).to_json()
    assert octaves.total == both.total
    assert Octaves.from_json(octaves.to_json()) == Octaves(dict(sorted(octaves.counts.items())))


@pytest.mark.parametrize(
    ("error", "octave"),
    [
        (0.0, NO_OCTAVE),
        (2.0**-10.01, NO_OCTAVE),
        (2.0**-10, -10),
        (0.49, -2),
        (0.5, -1),
        (1.0, 0),
        (1.99, 0),
        (2.0, 1),
        (1e60, 199),
        (math.inf, INFINITE_OCTAVE),
    ],
)
def test_an_error_counts_in_its_octave(error, octave):
    assert Octaves.of(filled(np.array([error]))).counts == {octave: 1}
