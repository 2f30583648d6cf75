"""Hypothesis strategies for the numbers of a format, bfloat16 included."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from lossfuzz.harness.numbers.formats import (
    BINARY32,
    FloatFormat,
    from_ordinals,
    ordinals,
    round_to_format,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def floats(
    fmt: FloatFormat,
    *,
    min_value: float | None = None,
    max_value: float | None = None,
    allow_subnormal: bool = True,
    allow_infinity: bool = True,
    allow_nan: bool = True,
    allow_negative_zero: bool = True,
) -> SearchStrategy[float]:
    """Numbers of a format, as Python floats; shrink to simple ones.

    Half are drawn as Hypothesis draws floats, and rounded; half evenly over the format's own
    ordinals, so that subnormals and numbers near overflow are as likely as any.

    Args:
        fmt: the format.
        min_value: smallest number allowed; rules out -inf and NaN.
        max_value: largest number allowed; rules out inf and NaN.
        allow_subnormal: opt out of subnormal numbers.
        allow_infinity: opt out of infinities.
        allow_nan: opt out of NaN.
        allow_negative_zero: opt out of -0.0.

    Raises:
        ValueError: a bound is no number of the format, or the bounds are in the wrong order.
    """
    low = _bound(-fmt.largest_finite if min_value is None else min_value, fmt, "min_value")
    high = _bound(fmt.largest_finite if max_value is None else max_value, fmt, "max_value")
    if low > high:
        raise ValueError(f"min_value={low!r} is above max_value={high!r}")
    special = []
    if allow_infinity:
        special += [math.inf] if max_value is None else []
        special += [-math.inf] if min_value is None else []
    if allow_nan and min_value is None and max_value is None:
        special.append(math.nan)
    finite = _rounded(low, high, fmt) | _by_ordinal(low, high, fmt)
    numbers = finite | st.sampled_from(special) if special else finite
    return numbers.filter(
        lambda value: (
            (allow_subnormal or value == 0 or not abs(value) < fmt.smallest_normal)
            and (allow_negative_zero or value != 0 or math.copysign(1, value) > 0)
        )
    )


def _bound(value: float, fmt: FloatFormat, name: str) -> float:
    if math.isnan(value) or float(round_to_format(np.array([value]), fmt)[0]) != value:
        raise ValueError(
            f"{name}={value!r} is no number of {fmt.name}; "
            f"the nearest is {float(round_to_format(np.array([value]), fmt)[0])!r}"
        )
    return max(min(value, fmt.largest_finite), -fmt.largest_finite)


def _rounded(low: float, high: float, fmt: FloatFormat) -> SearchStrategy[float]:
    drawn = (
        st.floats(low, high, width=32)
        if fmt.precision <= BINARY32.precision
        else st.floats(low, high)
    )
    return drawn.map(lambda value: float(round_to_format(np.array([value]), fmt)[0]))


def _by_ordinal(low: float, high: float, fmt: FloatFormat) -> SearchStrategy[float]:
    first, last = ordinals(np.array([low, high]).astype(fmt.dtype), fmt).tolist()
    return st.integers(first, last).map(lambda position: float(from_ordinals([position], fmt)[0]))
