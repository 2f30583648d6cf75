"""What decides whether the fast kernel may be trusted with a rounding."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from lossfuzz.harness.exact.boundaries import (
    rows_near_boundary,
    to_odd,
    wide_rows_near_boundary,
)
from lossfuzz.harness.exact.kernel import _differences_are_exact, _folded_sum
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.numbers.layout import empty_rows
from lossfuzz.strategies.cases import logits, recipes
from lossfuzz.strategies.recipes import expand

BOUND = 2.0**-46


def halfway_points(fmt):
    """Points halfway between neighbours of a format, normal and subnormal."""
    generator = np.random.default_rng(0)
    exponents = generator.integers(fmt.quantum_exponent, 0, 300)
    normal = np.maximum(exponents, fmt.emin)
    places = np.minimum(fmt.precision - 1, exponents - fmt.quantum_exponent)
    lower = np.floor((1 + generator.random(300)) * 2.0**places)
    quantum = 2.0 ** np.where(
        exponents >= fmt.emin, normal - fmt.precision + 1, fmt.quantum_exponent
    )
    return (lower + 0.5) * quantum


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shift", [0.0, 0.9, -0.9])
def test_values_within_the_bound_of_a_halfway_point_are_near(fmt, shift):
    values = halfway_points(fmt)[:, None] * (1 + shift * BOUND)
    assert rows_near_boundary(values, BOUND, fmt).all()
    assert rows_near_boundary(-values, BOUND, fmt).all()
    assert wide_rows_near_boundary(values, BOUND, fmt).all()


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_values_well_off_a_halfway_point_are_mostly_decided(fmt):
    # a needless yes is allowed: the second question is asked of normal numbers as well
    values = halfway_points(fmt)[:, None] * (1 + 2.0**-33)
    assert rows_near_boundary(values, BOUND, fmt).mean() < 0.1
    assert not wide_rows_near_boundary(values, BOUND, fmt).any()


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_zeros_are_decided_and_numbers_of_the_format_mostly(fmt):
    values = fmt.cast(halfway_points(fmt)).astype(np.float64)
    assert rows_near_boundary(values[:, None], BOUND, fmt).mean() < 0.1
    assert not wide_rows_near_boundary(values[:, None], BOUND, fmt).any()
    assert not rows_near_boundary(np.array([[0.0], [-0.0]]), BOUND, fmt).any()


def test_one_near_value_is_enough_for_a_row():
    values = np.array([[0.3, 0.4], [0.3, 1 + 2.0**-11]])
    assert rows_near_boundary(values, BOUND, BINARY16).tolist() == [False, True]


def test_rounding_to_odd_survives_a_second_rounding():
    generator = np.random.default_rng(1)
    tie = 1 + generator.integers(0, 2**10, 200) * 2.0**-10 + 2.0**-11
    for error in (2.0**-60, -(2.0**-60)):
        odd = to_odd(tie, np.full(200, error))
        assert ((odd > tie) == (error > 0)).all()
        assert (odd != tie).all()
        assert ((-to_odd(-tie, np.full(200, -error))) == odd).all()
    assert (to_odd(tie, np.zeros(200)) == tie).all()


@given(logits(BINARY32) | logits(BFLOAT16) | logits(BINARY16))
def test_differences_called_exact_are_exact(row):
    if not _differences_are_exact(row[None]):
        return
    finite = [float(value) for value in row if np.isfinite(value)]
    for left in finite:
        for right in finite:
            assert Fraction(left - right) == Fraction(left) - Fraction(right)


def test_differences_of_ordinary_logits_are_called_exact_and_of_extreme_ones_not():
    ordinary = BINARY32.cast(np.random.default_rng(2).normal(size=(8, 100)) * 4)
    assert _differences_are_exact(ordinary)
    assert _differences_are_exact(np.array([[1.0, -np.inf, 0.0]], np.float32))
    assert not _differences_are_exact(np.array([[1.0, 1e-30]], np.float32))
    assert not _differences_are_exact(np.array([[3e38, 1.0]], BFLOAT16.dtype))


@given(recipes(shapes=((4, 1), (4, 9), (4, 70), (2, 257))))
def test_the_folded_sum_is_within_its_bound(recipe):
    terms = np.abs(expand(recipe).rows.astype(np.float64)).T
    terms[~np.isfinite(terms)] = 0
    terms /= max(terms.max(), 1)
    exact = [float(sum(map(Fraction, column))) for column in terms.T.tolist()]
    assert np.abs(_folded_sum(terms) - exact) == pytest.approx(0, abs=20 * 2.0**-53 * len(terms))


def test_work_arrays_have_their_long_axis_together_in_memory():
    assert empty_rows(1000, 10).strides == (8, 8000)
    assert empty_rows(10, 1000).strides == (8000, 8)
