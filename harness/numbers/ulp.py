"""Units in the last place: of real numbers, of computed values against real ones, and rounding.

The ulp of a real number x in a format is the spacing of the format's numbers in the binade of x,
``2**(max(floor(log2 |x|), emin) - precision + 1)``: in the subnormal range, and at zero, it is
the smallest subnormal. (Muller et al., Handbook of Floating-Point Arithmetic, 2nd ed., 2.6;
their definition "Goldberg's ulp, extended to reals".)
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import FloatFormat, binade_exponent_bits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def _binade(magnitude: Fraction) -> int:
    """Exponent e with 2**e <= magnitude < 2**(e + 1)."""
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if magnitude >= Fraction(2) ** guess else guess - 1


def ulp_of_real(value: Fraction, fmt: FloatFormat) -> Fraction:
    """The ulp, in a format, of an exact real number."""
    exponent = fmt.emin if value == 0 else max(_binade(abs(value)), fmt.emin)
    return Fraction(2) ** (exponent - fmt.precision + 1)


def correctly_rounded(value: Fraction, fmt: FloatFormat) -> float:
    """The number of the format nearest to a real number, ties to even, overflow to infinity.

    Exact for every format up to binary64. A negative value that rounds to zero gives -0.0.
    """
    quantum = ulp_of_real(value, fmt)
    magnitude = round(abs(value) / quantum) * quantum
    rounded = math.inf if magnitude > Fraction(fmt.largest_finite) else float(magnitude)
    return -rounded if value < 0 else rounded


def is_correctly_rounded(observed: float, value: Fraction, fmt: FloatFormat) -> bool:
    """Whether a computed number is the correct rounding of the real one (zeros are equal)."""
    return observed == correctly_rounded(value, fmt)


def is_faithfully_rounded(observed: float, value: Fraction, fmt: FloatFormat) -> bool:
    """Whether a computed number is one of the two that enclose the real one.

    A real number that the format holds exactly has only itself. Beyond the largest finite number
    both that number and infinity are faithful.
    """
    if math.isnan(observed):
        return False
    quantum = ulp_of_real(value, fmt)
    lower = (value // quantum) * quantum
    upper = lower if lower == value else lower + quantum
    return observed in (_overflowing(lower, fmt, toward=-1), _overflowing(upper, fmt, toward=1))


def _overflowing(value: Fraction, fmt: FloatFormat, *, toward: int) -> float:
    limit = Fraction(fmt.largest_finite)
    if abs(value) <= limit:
        return float(value)
    away = (value > 0) == (toward > 0)
    return math.copysign(math.inf if away else fmt.largest_finite, value)


def ulp_error_of_real(observed: float, value: Fraction, fmt: FloatFormat) -> float:
    """ULP error of one computed number against a real one, in ulps of the format.

    Infinity where the computed number is NaN or wrongly infinite; 0 where infinity is right.
    """
    rounded = correctly_rounded(value, fmt)
    if math.isinf(rounded) or not math.isfinite(observed):
        return 0.0 if observed == rounded else math.inf
    return float(abs(Fraction(observed) - value) / ulp_of_real(value, fmt))


def ulps(values: ArrayLike, fmt: FloatFormat) -> NDArray[np.float64]:
    """The ulp, in a format, of every (finite) float64 value."""
    magnitude = np.abs(np.ascontiguousarray(values, np.float64))
    return np.ldexp(binade_exponent_bits(magnitude, fmt).view(np.float64), 1 - fmt.precision)


def overflow_threshold(fmt: FloatFormat) -> float:
    """The smallest magnitude that rounds to infinity in a format."""
    return fmt.largest_finite + 2.0 ** (fmt.emax - fmt.precision)


def right_infinities(
    observed: NDArray[np.float64],
    exact: NDArray[np.float64],
    fmt: FloatFormat,
    relative_error: float = 0.0,
) -> NDArray[np.bool_]:
    """Where a computed infinity is right, since the exact value overflows the format.

    Args:
        observed: computed values.
        exact: what they should be.
        fmt: of the computed values.
        relative_error: that rounding explains: within it of the threshold infinity is right, too.
    """
    limit = overflow_threshold(fmt) * (1 - relative_error)
    with np.errstate(invalid="ignore"):
        beyond = np.isinf(observed) & (np.abs(exact) >= limit)
        return np.asarray(beyond & (np.sign(observed) == np.sign(exact)))


def ulp_errors(
    observed: ArrayLike, exact: NDArray[np.float64], fmt: FloatFormat
) -> NDArray[np.float64]:
    """ULP errors of computed values against real ones that are given in float64.

    The float64 stands for the real number up to its own bound, so for binary32 the result is
    good to about ``2**-29`` ulp plus that bound; it is not meant for binary64 (use
    `ulp_error_of_real`). Infinity where a value is NaN or wrongly infinite; 0 where the exact
    value overflows the format and the computed one is that infinity.
    """
    computed = np.asarray(observed).astype(np.float64)
    limit = overflow_threshold(fmt)
    with np.errstate(invalid="ignore", over="ignore"):
        errors: NDArray[Any] = np.abs(computed - exact) / ulps(exact, fmt)
        overflowed = np.abs(exact) >= limit
        right = computed == np.copysign(np.inf, exact)
    errors[np.isnan(errors)] = np.inf
    errors[overflowed] = np.where(right[overflowed], 0.0, np.inf)
    return errors


def absolute_errors(
    observed: NDArray[np.float64], exact: NDArray[np.float64], in_ulps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``|computed - exact|``, by the same rules for NaN and infinity as the errors in ulps."""
    errors: NDArray[np.float64] = np.abs(observed - exact)
    errors[np.isnan(errors)] = np.inf
    errors[in_ulps == 0] = 0  # the right infinity
    return errors


def round_scaled(mantissa: int, exponent: int, fmt: FloatFormat) -> float:
    """Correct rounding of ``mantissa * 2**exponent``, mantissa positive, ties to even.

    The power is never formed: exponents of vanishing softmax components have dozens of digits.
    """
    binade = exponent + mantissa.bit_length() - 1
    if binade > fmt.emax:
        return math.inf
    if binade < fmt.quantum_exponent - 1:
        return 0.0
    quantum = max(binade, fmt.emin) - fmt.precision + 1
    rounded = _shift_right_to_even(mantissa, quantum - exponent)
    if rounded == 1 << fmt.precision and binade == fmt.emax:
        return math.inf
    return math.ldexp(rounded, quantum)


def _shift_right_to_even(mantissa: int, shift: int) -> int:
    if shift <= 0:
        return mantissa << -shift
    quotient, rest = mantissa >> shift, mantissa & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1 == 1))
