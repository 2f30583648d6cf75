"""Enclosures contain the truth: every operation against mpmath at 400 digits, wherever it lies."""

import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.numbers import EXTENDED, FLOAT64, mpmath_numbers

MP = mpmath.MPContext()
MP.dps = 400

NUMBERS = [FLOAT64, EXTENDED, mpmath_numbers(128), mpmath_numbers(320)]
SLACK = 1 + 2.0**-30  # what the module leaves to whoever reads a radius
LARGEST = 2.0**140  # beyond binary32 at a temperature of 1/16

every_number = pytest.mark.parametrize("numbers", NUMBERS, ids=lambda numbers: numbers.name)

signs = st.sampled_from([-1.0, 1.0])


def magnitudes(smallest=-1074, largest=140):
    """Zero, subnormal, huge, and whatever lies between."""
    powers = st.integers(smallest, largest).map(lambda power: 2.0**power)
    return st.just(0.0) | powers | st.builds(lambda m, p: m * p, st.floats(1, 2), powers)


reals = st.builds(lambda sign, size: sign * size, signs, magnitudes()) | st.floats(-8, 8)
places = st.sampled_from([-1.0, 0.0, 1.0]) | st.floats(-1, 1)
radii = st.just(0.0) | magnitudes(-1074, 20) | st.just(math.inf)


@st.composite
def enclosed(draw, middles=reals, spreads=radii):
    """A middle, a radius up to as large as one likes, and a number that lies inside."""
    middle, radius, place = draw(middles), draw(spreads), draw(places)
    if draw(st.booleans()) and radius < math.inf:
        radius = abs(middle) * 2.0 ** -draw(st.integers(1, 60))
    inside = MP.mpf(middle) + MP.mpf(place) * MP.mpf(radius if radius < math.inf else LARGEST)
    return middle, radius, inside


def enclosure(case, numbers):
    middle, radius, _ = case
    return Enclosure(numbers.convert([middle]), np.array([radius]), numbers)


def exactly(value):
    """A middle as mpmath sees it, without rounding."""
    if isinstance(value, np.longdouble):
        high = float(value)
        return MP.mpf(high) + MP.mpf(float(value - np.longdouble(high)))
    return MP.mpf(value)


def contains(result, truth, factor=SLACK):
    radius = float(result.radius.reshape(-1)[0])
    if not radius < math.inf:
        return True
    return abs(truth - exactly(result.middle.reshape(-1)[0])) <= MP.mpf(radius) * factor


BINARY = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
}


@every_number
@pytest.mark.parametrize("operation", BINARY)
@settings(max_examples=150)
@given(left=enclosed(), right=enclosed())
def test_sums_differences_and_products_hold_the_truth(numbers, operation, left, right):
    apply = BINARY[operation]
    with np.errstate(all="ignore"):
        result = apply(enclosure(left, numbers), enclosure(right, numbers))
    assert contains(result, apply(left[2], right[2]))


@every_number
@settings(max_examples=250)
@given(left=enclosed(), right=enclosed())
def test_quotients_hold_the_truth_or_know_nothing(numbers, left, right):
    with np.errstate(all="ignore"):
        result = enclosure(left, numbers) / enclosure(right, numbers)
    if abs(right[0]) <= right[1]:  # 0 lies inside
        assert not result.radius[0] < math.inf
    else:
        assume(right[2] != 0)
        assert contains(result, left[2] / right[2])


@every_number
@settings(max_examples=250)
@given(
    case=enclosed(
        st.floats(-800, 90) | st.builds(lambda size: -size, magnitudes()) | magnitudes(-1074, 6),
        magnitudes(-1074, 5) | st.just(0.0),
    )
)
def test_exponentials_hold_the_truth_also_for_radii_above_1(numbers, case):
    with np.errstate(all="ignore"):
        found, less_one = enclosure(case, numbers).exp(), enclosure(case, numbers).expm1()
    assert contains(found, MP.exp(case[2]))
    assert contains(less_one, MP.expm1(case[2]))


near_one = st.integers(-1000, 1000).map(lambda steps: 1 + steps * 2.0**-52)


@every_number
@settings(max_examples=250)
@given(case=enclosed(reals | near_one, magnitudes(-1074, 3)))
def test_logarithms_hold_the_truth_or_know_nothing(numbers, case):
    with np.errstate(all="ignore"):
        found = enclosure(case, numbers).log()
        of_more = enclosure(case, numbers).log1p()
    for result, argument, lowest in (
        (found, case[2], MP.mpf(case[0]) - case[1]),
        (of_more, 1 + case[2], 1 + MP.mpf(case[0]) - case[1]),
    ):
        if lowest <= 0:
            assert not result.radius[0] < math.inf
        else:
            assert contains(result, MP.log(argument))


@every_number
@settings(max_examples=80)
@given(cases=st.lists(enclosed(), min_size=1, max_size=40))
def test_sums_over_classes_hold_the_truth(numbers, cases):
    row = Enclosure(
        numbers.convert([[case[0] for case in cases]]), np.array([[c[1] for c in cases]]), numbers
    )
    with np.errstate(all="ignore"):
        assert contains(row.sum(), MP.fsum(case[2] for case in cases))


@every_number
@given(value=enclosed(), low=enclosed(), width=magnitudes(-20, 20))
def test_clipping_holds_the_truth(numbers, value, low, width):
    high = (low[0] + width, low[1], low[2] + width)
    assume(Fraction(low[0]) + Fraction(width) == Fraction(high[0]))  # no rounding
    clipped = enclosure(value, numbers).clip(enclosure(low, numbers), enclosure(high, numbers))
    assert contains(clipped, min(max(value[2], low[2]), high[2]))


@every_number
@given(left=enclosed(), right=enclosed())
def test_certainly_below_is_certain(numbers, left, right):
    with np.errstate(all="ignore"):
        below = enclosure(left, numbers).certainly_below(enclosure(right, numbers))
    assert left[2] < right[2] or not below[0]


@every_number
def test_what_is_exact_stays_nearly_so(numbers):
    """Else a radius without end would pass every other test."""
    two, third = (Enclosure.exactly([value], numbers) for value in (2.0, 1 / 3))
    limit = 10 * numbers.unit_roundoff
    for result in (
        two + third,
        two - third,
        two * third,
        two / third,
        1.0 - third,
        1.0 / third,
        third.exp(),
        third.expm1(),
        third.log(),
        third.log1p(),
        (-third).exp(),
        two.clip(third, third),
    ):
        assert 0 <= result.relative()[0] <= limit
        assert result.absolute()[0] == 2 * result.radius[0]
    hundred = Enclosure.exactly(np.ones((1, 100)), numbers).sum()
    assert hundred.to_float64()[0, 0] == 100
    assert hundred.relative()[0, 0] <= 14 * numbers.unit_roundoff + 2.0**-1050


@every_number
def test_an_exact_zero_has_no_relative_error_and_an_uncertain_one_any(numbers):
    exact = Enclosure.exactly([0.0], numbers)
    assert exact.relative()[0] == 0
    assert (exact + 0.0).relative()[0] == math.inf
    assert (exact + 0.0).absolute()[0] < 2.0**-1000


@every_number
def test_dividing_by_what_may_be_0_tells_nothing(numbers):
    one = Enclosure.exactly([1.0], numbers)
    assert (one / Enclosure(numbers.convert([2.0]), np.array([2.0]), numbers)).radius[
        0
    ] == math.inf
    assert (one / Enclosure.exactly([0.0], numbers)).radius[0] == math.inf


def test_columns_and_choices_keep_middle_and_radius_together():
    rows = Enclosure(np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3) / 8, FLOAT64)
    picked = rows.at(np.array([2, 0]))
    assert picked.middle.tolist() == [[2.0], [3.0]]
    assert picked.radius.tolist() == [[0.25], [0.375]]
    chosen = rows.where(rows.middle > 3, -1.0)
    assert chosen.middle.tolist() == [[-1, -1, -1], [-1, 4, 5]]
    assert chosen.radius.tolist() == [[0, 0, 0], [0, 0.5, 0.625]]


def test_precisions_that_no_radius_can_follow_are_refused():
    with pytest.raises(ValueError, match="2 to 1000 bits, got 1001"):
        mpmath_numbers(1001)


def misses(numbers, shrink=1.0):
    """How often the truth lies outside, over arguments and over the places inside them."""
    count = 0
    for step in range(1, 60):
        for place in (-1.0, 1.0):
            case = (step / 7, 2.0**-30, MP.mpf(step / 7) + MP.mpf(place * 2.0**-30))
            for result, truth in (
                (enclosure(case, numbers).exp(), MP.exp(case[2])),
                (enclosure(case, numbers).log(), MP.log(case[2])),
                (enclosure(case, numbers) * 3.0, 3 * case[2]),
            ):
                count += not contains(result, truth, shrink)
    return count


@pytest.mark.parametrize("numbers", NUMBERS[:2], ids=["float64", "extended"])
def test_radii_ten_times_too_small_would_be_noticed(numbers):
    assert misses(numbers, SLACK) == 0
    assert misses(numbers, 0.1) == 59 * 2 * 3


def test_a_function_that_errs_by_2_to_the_minus_40_would_be_noticed():
    off = replace(FLOAT64, exp=lambda values: np.exp(values) * (1 + 2.0**-40))
    found = Enclosure.exactly([1.0], off).exp()
    assert not contains(found, MP.e, factor=2)
    assert contains(Enclosure.exactly([1.0], FLOAT64).exp(), MP.e)
