from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from lossfuzz.harness.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FORMATS,
    FloatFormat,
    format_named,
    format_of,
    from_ordinals,
    neighbours,
    ordinals,
    round_to_format,
    ulp_distance,
)
from lossfuzz.harness.numbers.ulp import correctly_rounded

HALVES = (BINARY16, BFLOAT16)


def every_value(fmt):
    return np.arange(1 << 16, dtype=np.uint16).view(fmt.dtype)


def finite_values(fmt):
    values = every_value(fmt)
    with np.errstate(invalid="ignore"):
        return values[np.isfinite(values.astype(np.float64))]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_limits_agree_with_finfo(fmt):
    info = ml_dtypes.finfo(fmt.dtype)
    assert fmt.largest_finite == float(info.max)
    assert fmt.smallest_normal == float(info.tiny)
    assert fmt.smallest_subnormal == float(info.smallest_subnormal)
    assert fmt.unit_roundoff == float(info.eps) / 2


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_ordinals_count_all_values_in_order(fmt):
    values = np.unique(finite_values(fmt).astype(np.float64))
    stored = values.astype(fmt.dtype)
    positions = ordinals(stored, fmt)
    assert np.array_equal(np.diff(positions), np.ones(len(values) - 1))
    assert positions[values == 0] == 0


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_ordinals_of_every_value_lead_back_to_it(fmt):
    values = finite_values(fmt)
    back = from_ordinals(ordinals(values, fmt), fmt)
    assert np.array_equal(back.astype(np.float64), values.astype(np.float64))


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_neighbours_agree_with_nextafter_on_every_value(fmt):
    values = finite_values(fmt)
    with np.errstate(over="ignore"):
        up = np.nextafter(values, np.array(np.inf, fmt.dtype)).astype(np.float64)
        down = np.nextafter(values, np.array(-np.inf, fmt.dtype)).astype(np.float64)
    assert np.array_equal(neighbours(values, 1, fmt).astype(np.float64), up)
    assert np.array_equal(neighbours(values, -1, fmt).astype(np.float64), down)


def test_neighbours_stop_at_infinity():
    assert neighbours(np.array([65504], np.float16), 7, BINARY16)[0] == np.inf


def test_ordinals_of_float32_agree_with_nextafter():
    values = np.random.default_rng(0).integers(0, 2**31 - 2**24, 1000).astype(np.uint32)
    stored = values.view(np.float32)
    assert np.array_equal(
        neighbours(stored, 1, BINARY32), np.nextafter(stored, np.float32(np.inf))
    )


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_rounding_keeps_every_value(fmt):
    values = finite_values(fmt).astype(np.float64)
    assert np.array_equal(round_to_format(values, fmt), values)


@pytest.mark.parametrize("fmt", HALVES, ids=lambda fmt: fmt.name)
def test_rounding_between_every_pair_of_neighbours_is_to_nearest_even(fmt):
    values = np.unique(np.abs(finite_values(fmt).astype(np.float64)))
    low, high = values[:-1], values[1:]
    middle = (low + high) / 2
    even = np.where(ordinals(low.astype(fmt.dtype), fmt) % 2 == 0, low, high)
    assert np.array_equal(round_to_format(middle, fmt), even)
    assert np.array_equal(round_to_format(np.nextafter(middle, 0), fmt), low)
    assert np.array_equal(round_to_format(np.nextafter(middle, np.inf), fmt), high)


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, BINARY32], ids=lambda fmt: fmt.name)
def test_rounding_overflows_from_half_an_ulp_beyond_the_largest(fmt):
    limit = fmt.largest_finite + 2.0 ** (fmt.emax - fmt.precision)
    inside = np.array([np.nextafter(limit, 0), -np.nextafter(limit, 0)])
    assert np.array_equal(round_to_format(inside, fmt), [fmt.largest_finite, -fmt.largest_finite])
    assert np.array_equal(round_to_format(np.array([limit, -limit]), fmt), [np.inf, -np.inf])


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, BINARY32], ids=lambda fmt: fmt.name)
def test_rounding_agrees_with_exact_rationals(fmt):
    generator = np.random.default_rng(1)
    values = generator.normal(size=2000) * 2.0 ** generator.uniform(
        fmt.quantum_exponent - 3, fmt.emax, 2000
    )
    expected = [correctly_rounded(Fraction(value), fmt) for value in values.tolist()]
    assert np.array_equal(round_to_format(values, fmt), expected)


def test_rounding_to_float32_agrees_with_the_hardware():
    generator = np.random.default_rng(2)
    values = generator.normal(size=5000) * 2.0 ** generator.uniform(-152, 127, 5000)
    assert np.array_equal(round_to_format(values, BINARY32), values.astype(np.float32))


def test_rounding_keeps_signed_zeros_infinities_and_nan():
    rounded = round_to_format(np.array([-0.0, np.inf, -np.inf, np.nan]), BFLOAT16)
    assert np.signbit(rounded[0])
    assert rounded[1] == np.inf
    assert rounded[2] == -np.inf
    assert np.isnan(rounded[3])


def test_ulp_distance_counts_across_zero():
    tiny = BINARY16.smallest_subnormal
    assert ulp_distance(np.array([-tiny]), np.array([tiny]), BINARY16)[0] == 2


def test_formats_are_found_by_either_name():
    assert format_named("bfloat16") is BFLOAT16
    assert format_named("binary64") is BINARY64
    assert format_of(np.zeros(1, np.float16)) is BINARY16


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'float8'.*float16, bfloat16, float32, float64"):
        format_named("float8")


def test_an_impossible_format_is_rejected():
    with pytest.raises(ValueError, match="precision >= 2"):
        FloatFormat(name="x", dtype_name="float16", precision=1, emin=-1, emax=1)


def test_ordinals_beyond_infinity_are_rejected():
    with pytest.raises(ValueError, match="ordinals from -31744 to 31744"):
        from_ordinals([31745], BINARY16)
