import math
from fractions import Fraction

import numpy as np
import pytest

from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, BINARY64
from lossfuzz.harness.numbers.ulp import (
    correctly_rounded,
    is_correctly_rounded,
    is_faithfully_rounded,
    round_scaled,
    ulp_error_of_real,
    ulp_errors,
    ulp_of_real,
    ulps,
)

HALVES = (BINARY16, BFLOAT16)


def finite_values(fmt):
    with np.errstate(invalid="ignore"):
        values = np.arange(1 << 16, dtype=np.uint16).view(fmt.dtype).astype(np.float64)
    return values[np.isfinite(values)]


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_the_ulp_of_every_value_is_the_distance_to_the_next_larger_one(fmt):
    values = np.unique(np.abs(finite_values(fmt)))
    gaps = np.diff(values)
    assert np.array_equal(ulps(values[:-1], fmt), gaps)
    assert [float(ulp_of_real(Fraction(v), fmt)) for v in values[:-1].tolist()] == gaps.tolist()


def test_the_ulp_just_below_a_power_of_two_belongs_to_the_lower_binade():
    assert ulp_of_real(Fraction(2) - Fraction(1, 10**30), BINARY32) == Fraction(2) ** -23
    assert ulp_of_real(Fraction(2), BINARY32) == Fraction(2) ** -22


def test_the_ulp_of_zero_and_of_subnormals_is_the_smallest_subnormal():
    for value in (Fraction(0), Fraction(1, 10**60), Fraction(2) ** -140):
        assert ulp_of_real(value, BINARY32) == Fraction(2) ** -149


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_every_value_is_its_own_correct_and_only_faithful_rounding(fmt):
    for value in finite_values(fmt).tolist():
        exact = Fraction(value)
        assert is_correctly_rounded(value, exact, fmt)
        assert is_faithfully_rounded(value, exact, fmt)
        assert not is_faithfully_rounded(value + 2 * float(ulp_of_real(exact, fmt)), exact, fmt)


def test_both_neighbours_are_faithful_and_one_is_correct():
    value = Fraction(1) + Fraction(1, 3) * Fraction(2) ** -10
    assert is_faithfully_rounded(1.0, value, BINARY16)
    assert is_faithfully_rounded(1.0 + 2.0**-10, value, BINARY16)
    assert is_correctly_rounded(1.0, value, BINARY16)
    assert not is_correctly_rounded(1.0 + 2.0**-10, value, BINARY16)


def test_beyond_the_largest_number_it_and_infinity_are_faithful():
    beyond = Fraction(70000)
    assert is_faithfully_rounded(65504.0, beyond, BINARY16)
    assert is_faithfully_rounded(math.inf, beyond, BINARY16)
    assert correctly_rounded(beyond, BINARY16) == math.inf
    assert correctly_rounded(-beyond, BINARY16) == -math.inf
    assert not is_faithfully_rounded(math.nan, beyond, BINARY16)


def test_ties_go_to_even_in_the_subnormal_range():
    quantum = Fraction(2) ** -24
    assert correctly_rounded(quantum / 2, BINARY16) == 0.0
    assert correctly_rounded(quantum * 3 / 2, BINARY16) == float(2 * quantum)
    assert math.copysign(1, correctly_rounded(-quantum / 2, BINARY16)) == -1


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, BINARY32, BINARY64], ids=lambda f: f.name)
def test_integer_rounding_agrees_with_rational_rounding(fmt):
    generator = np.random.default_rng(3)
    for exponent in generator.integers(fmt.quantum_exponent - 90, fmt.emax - 50, 300).tolist():
        mantissa = int(generator.integers(1, 2**62))
        exact = Fraction(mantissa) * Fraction(2) ** exponent
        assert round_scaled(mantissa, exponent, fmt) == correctly_rounded(exact, fmt)


def test_integer_rounding_never_forms_the_power():
    assert round_scaled(3, -(10**40), BINARY32) == 0.0
    assert round_scaled(3, 10**40, BINARY32) == math.inf


def test_ulp_errors_are_fractional_and_measured_against_the_real_number():
    assert (
        ulp_error_of_real(1.0, Fraction(1) + Fraction(1, 4) * Fraction(2) ** -23, BINARY32) == 0.25
    )


def test_ulp_errors_of_arrays_agree_with_those_of_rationals():
    generator = np.random.default_rng(4)
    exact = generator.normal(size=500) * 2.0 ** generator.uniform(-30, 15, 500)
    observed = (exact * (1 + generator.normal(size=500) * 1e-3)).astype(np.float16)
    expected = [
        ulp_error_of_real(float(o), Fraction(e), BINARY16)
        for o, e in zip(observed, exact.tolist(), strict=True)
    ]
    assert np.allclose(ulp_errors(observed, exact, BINARY16), expected, rtol=1e-12)


def test_wrong_infinities_and_nan_are_infinite_errors_and_right_infinities_none():
    observed = np.array([np.inf, np.nan, np.inf, -np.inf, 65504.0])
    exact = np.array([1.0, 1.0, 7e4, 7e4, 7e4])
    errors = ulp_errors(observed, exact, BINARY16)
    assert errors.tolist() == [math.inf, math.inf, 0.0, math.inf, math.inf]
    expected = [
        ulp_error_of_real(o, Fraction(e), BINARY16) for o, e in zip(observed, exact, strict=True)
    ]
    assert errors.tolist() == expected
