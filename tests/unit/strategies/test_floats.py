import math

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from lossfuzz.harness.numbers.formats import BFLOAT16, FORMATS, round_to_format
from lossfuzz.strategies.floats import floats

formats = st.sampled_from(FORMATS)


def smallest_example(strategy, wanted):
    return find(strategy, wanted, settings=settings(max_examples=3000, database=None))


@given(formats.flatmap(lambda fmt: st.tuples(st.just(fmt), floats(fmt))))
def test_every_value_is_a_number_of_its_format(drawn):
    fmt, value = drawn
    assert isinstance(value, float)
    assert math.isnan(value) or round_to_format(np.array([value]), fmt)[0] == value


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize(
    "wanted",
    [
        math.isnan,
        lambda v: v == math.inf,
        lambda v: v == -math.inf,
        lambda v: v == 0 and math.copysign(1, v) < 0,
    ],
    ids=["nan", "inf", "-inf", "-0.0"],
)
def test_generates_special_values_by_default(fmt, wanted):
    smallest_example(floats(fmt), wanted)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_generates_subnormals_and_nearly_overflowing_numbers(fmt):
    smallest_example(floats(fmt), lambda v: 0 < abs(v) < fmt.smallest_normal)
    smallest_example(floats(fmt), lambda v: fmt.largest_finite / 2 < abs(v) < math.inf)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_does_not_generate_what_is_disallowed(fmt):
    @given(
        floats(
            fmt,
            allow_subnormal=False,
            allow_infinity=False,
            allow_nan=False,
            allow_negative_zero=False,
        )
    )
    def holds(value):
        assert math.isfinite(value)
        assert value == 0 or abs(value) >= fmt.smallest_normal
        assert value != 0 or math.copysign(1, value) > 0

    holds()


@given(floats(BFLOAT16, min_value=-2.0, max_value=3.0))
def test_bounds_hold(value):
    assert -2 <= value <= 3


def test_shrinks_to_zero_and_to_numbers_near_the_edge_of_what_fails():
    assert smallest_example(floats(BFLOAT16), lambda _: True) == 0.0
    assert 2.5 < smallest_example(floats(BFLOAT16, max_value=99.0), lambda v: v > 2.5) <= 3.0


def test_a_bound_that_is_no_number_of_the_format_is_refused():
    with pytest.raises(
        ValueError, match=r"min_value=0.1 is no number of bfloat16; the nearest is"
    ):
        floats(BFLOAT16, min_value=0.1)


def test_bounds_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"min_value=2.0 is above max_value=1.0"):
        floats(BFLOAT16, min_value=2.0, max_value=1.0)
