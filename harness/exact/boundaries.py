"""Whether the enclosures of computed values may hold a rounding boundary of a format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact import kernel
from lossfuzz.harness.numbers.formats import BINARY64, FloatFormat, round_to_format
from lossfuzz.harness.numbers.ulp import ulps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_near_boundary(
    values: NDArray[np.float64], bound: float, fmt: FloatFormat
) -> NDArray[np.bool_]:
    """Rows with a value that may lie within its relative bound of a boundary of the format.

    A normal number of the format lies halfway between two if its bits below the last place are
    100...0; those of a subnormal one stand in the same place once the smallest normal number is
    added. Both are asked of all values, since a needless yes costs little. The width of two more
    places covers that addition and the kernel's absolute bound.

    Args:
        values: shape ``[rows, values]``.
        bound: of their relative error.
        fmt: of less than 51 bits of precision.
    """
    spare = BINARY64.precision - fmt.precision
    width = math.ceil(bound / BINARY64.unit_roundoff) + 2
    offset, mask = np.int64(width - (1 << (spare - 1))), np.int64((1 << spare) - 1)
    places = values.view(np.int64) + offset
    near = _smallest_place(places, mask) <= 2 * width
    magnitudes = np.abs(values, out=places.view(np.float64))
    if magnitudes.min(initial=np.inf) < fmt.smallest_normal:
        magnitudes += fmt.smallest_normal
        places += offset
        near |= _smallest_place(places, mask) <= 2 * width
    return np.asarray(near)


def _smallest_place(places: NDArray[np.int64], mask: np.int64) -> NDArray[np.int64]:
    places &= mask
    return np.asarray(places.min(axis=1))


def wide_rows_near_boundary(
    values: NDArray[Any], bound: float, fmt: FloatFormat
) -> NDArray[np.bool_]:
    """The same for values of any precision, by rounding them."""
    narrow = np.abs(np.asarray(values, np.float64))
    spread = narrow * bound + kernel.ABSOLUTE_BOUND
    rest = np.abs(np.abs(values) - round_to_format(narrow, fmt))
    return np.asarray((rest + spread >= ulps(narrow, fmt) / 2).any(axis=1))


def losses_near_boundary(
    values: kernel.KernelValues, narrow: NDArray[np.float64], fmt: FloatFormat
) -> NDArray[np.bool_]:
    """The same for the loss, given also in float64 by `loss_to_odd`.

    Its parts tell on which side of a boundary their sum lies.
    The differences below are exact where they cancel: the linear part, the rounded loss and half
    an ulp are then multiples of the linear part's last bit, of like size. Where they do not
    cancel, the curved part is as large as they are, and its spread covers their rounding.
    """
    half = ulps(narrow, fmt) / 2
    rounded = round_to_format(narrow, fmt)
    rounded[np.isinf(rounded)] = fmt.largest_finite
    boundary = np.where(narrow >= rounded, 1, -1) * half
    excess = ((values.linear - rounded) - boundary) + values.curved
    spread = values.curved * values.curved_bound + values.linear_error
    beyond = narrow > fmt.largest_finite + 2 * half
    certain = beyond | (spread == 0)
    return np.asarray((np.abs(excess) <= spread) & ~certain)


def loss_to_odd(values: kernel.KernelValues) -> NDArray[np.float64]:
    """The kernel's loss in float64, rounded to odd."""
    linear, curved = values.linear, values.curved
    total = linear + curved
    part = total - linear
    return to_odd(total, (linear - (total - part)) + (curved - part))


def to_odd(wide: NDArray[Any], error: NDArray[Any]) -> NDArray[np.float64]:
    """``wide + error`` in float64, rounded to odd, so that rounding it again does no harm.

    (Boldo & Melquiond 2008, "Emulation of a FMA and correctly rounded sums": an inexact result
    takes the neighbour with an odd significand, so it never lies on a boundary of a format that
    is two bits shorter.)
    """
    narrow = np.array(wide, np.float64)
    rest = (wide - narrow) + error
    bits = narrow.view(np.int64)
    inexact_even = (rest != 0) & (bits & 1 == 0) & np.isfinite(narrow)
    # the bits of a float are in the order of its magnitude
    outward = (rest > 0) != np.signbit(narrow)
    bits += np.where(outward, 1, -1) * inexact_even
    return narrow
