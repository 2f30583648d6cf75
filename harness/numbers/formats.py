"""Binary floating-point formats as values.

A format is its precision and exponent range, nothing else; storage types, ordinals and
neighbours are derived from them, so no code asks for the name of a dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from lossfuzz.harness.records.spelling import unknown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatFormat:
    """A binary floating-point format with subnormals, one infinity per sign and NaN.

    Attributes:
        name: the name in IEEE 754's style, such as ``binary16``.
        dtype_name: what NumPy, ml_dtypes and TensorFlow call it, such as ``float16``.
        precision: bits of the significand, the leading one included.
        emin: exponent of the smallest normal number, ``2**emin``.
        emax: exponent of the largest finite binade.
    """

    name: str
    dtype_name: str = field(compare=False)
    precision: int
    emin: int
    emax: int

    def __post_init__(self) -> None:
        if self.precision < 2 or self.emin >= self.emax:
            raise ValueError(
                f"a format needs precision >= 2 and emin < emax, got precision={self.precision}, "
                f"emin={self.emin}, emax={self.emax}"
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype that stores this format."""
        return np.dtype(getattr(ml_dtypes, self.dtype_name, self.dtype_name))

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        """The unsigned integer dtype as wide as this format."""
        return np.dtype(f"u{self.dtype.itemsize}")

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number: ``2**-precision``."""
        return float(2.0**-self.precision)

    @property
    def quantum_exponent(self) -> int:
        """Exponent of the smallest subnormal: every number is a multiple of 2 to this power."""
        return self.emin - self.precision + 1

    @property
    def smallest_subnormal(self) -> float:
        """The smallest positive number."""
        return float(2.0**self.quantum_exponent)

    @property
    def smallest_normal(self) -> float:
        """The smallest positive number of full precision."""
        return float(2.0**self.emin)

    @property
    def largest_finite(self) -> float:
        """The largest finite number."""
        return float((2.0 - 2.0 ** (1 - self.precision)) * 2.0**self.emax)

    @property
    def infinity_ordinal(self) -> int:
        """The ordinal of positive infinity."""
        return (self.emax - self.emin + 2) << (self.precision - 1)

    def cast(self, values: ArrayLike) -> NDArray[Any]:
        """Store float64 values in this format, rounding to nearest even."""
        with np.errstate(over="ignore", invalid="ignore"):
            return round_to_format(np.asarray(values, np.float64), self).astype(self.dtype)


BINARY16 = FloatFormat(name="binary16", dtype_name="float16", precision=11, emin=-14, emax=15)
BFLOAT16 = FloatFormat(name="bfloat16", dtype_name="bfloat16", precision=8, emin=-126, emax=127)
BINARY32 = FloatFormat(name="binary32", dtype_name="float32", precision=24, emin=-126, emax=127)
BINARY64 = FloatFormat(name="binary64", dtype_name="float64", precision=53, emin=-1022, emax=1023)

FORMATS = (BINARY16, BFLOAT16, BINARY32, BINARY64)
"""Every format known here."""

TRAINING_FORMATS = (BINARY16, BFLOAT16, BINARY32)
"""The formats that losses are measured in."""


_ELSEWHERE = {
    **dict.fromkeys(("half", "fp16", "f16", "mixed_float16"), "float16"),
    **dict.fromkeys(("bf16", "bfloat", "mixed_bfloat16"), "bfloat16"),
    **dict.fromkeys(("single", "fp32", "f32", "float"), "float32"),
    **dict.fromkeys(("double", "fp64", "f64"), "float64"),
}
"""What formats are called elsewhere."""


def format_named(name: str) -> FloatFormat:
    """The format of that IEEE or dtype name.

    Raises:
        ValueError: no format has the name; the message lists those that there are.
    """
    for candidate in FORMATS:
        if name in (candidate.name, candidate.dtype_name):
            return candidate
    known = [candidate.dtype_name for candidate in FORMATS]
    raise ValueError(unknown("format", name, known, _ELSEWHERE))


def training_format(name: str | FloatFormat) -> FloatFormat:
    """The format of that name, if losses are measured in it.

    Raises:
        ValueError: they are not; the message lists the formats that they are measured in.
    """
    for candidate in TRAINING_FORMATS:
        if name in (candidate, candidate.name, candidate.dtype_name):
            return candidate
    known = [candidate.dtype_name for candidate in TRAINING_FORMATS]
    meaning = {name: meant for name, meant in _ELSEWHERE.items() if meant in known}
    raise ValueError(unknown("format", name, known, meaning))


def format_of(array: Any) -> FloatFormat:
    """The format that an array is stored in."""
    return format_named(np.asarray(array).dtype.name)


def ordinals(values: NDArray[Any], fmt: FloatFormat) -> NDArray[np.int64]:
    """Integers in the order of the numbers: 0 for both zeros, 1 for the smallest subnormal.

    NaNs get ordinals beyond those of the infinities.
    """
    sign_bit = 8 * fmt.dtype.itemsize - 1
    bits = np.ascontiguousarray(values, fmt.dtype).view(fmt.bits_dtype)
    magnitude = (bits & fmt.bits_dtype.type((1 << sign_bit) - 1)).astype(np.int64)
    negative = bits >> fmt.bits_dtype.type(sign_bit) != 0
    return np.asarray(np.where(negative, -magnitude, magnitude), np.int64)


def from_ordinals(positions: ArrayLike, fmt: FloatFormat) -> NDArray[Any]:
    """The numbers at the given ordinals; 0 gives positive zero.

    Raises:
        ValueError: an ordinal lies beyond the infinities.
    """
    position = np.asarray(positions, np.int64)
    sign = np.uint64(1) << np.uint64(8 * fmt.dtype.itemsize - 1)
    bits = np.abs(position).astype(np.uint64) | np.where(position < 0, sign, np.uint64(0))
    infinity = int(np.asarray(np.inf, fmt.dtype).reshape(1).view(fmt.bits_dtype)[0])
    if position.size and int(np.abs(position).max()) > infinity:
        raise ValueError(f"{fmt.name} has ordinals from -{infinity} to {infinity}")
    return bits.astype(fmt.bits_dtype).view(fmt.dtype)


def neighbours(values: NDArray[Any], steps: ArrayLike, fmt: FloatFormat) -> NDArray[Any]:
    """The numbers so many steps up (or, if negative, down) the format, ending at infinity."""
    limit = fmt.infinity_ordinal
    moved = ordinals(values, fmt) + np.asarray(steps, np.int64)
    return from_ordinals(np.clip(moved, -limit, limit), fmt)


def ulp_distance(left: NDArray[Any], right: NDArray[Any], fmt: FloatFormat) -> NDArray[np.int64]:
    """How many numbers of the format lie between two of its numbers (not an ULP error)."""
    return np.asarray(np.abs(ordinals(left, fmt) - ordinals(right, fmt)), np.int64)


_EXPONENT_FIELD = np.int64(0x7FF0000000000000)


def binade_exponent_bits(values: NDArray[np.float64], fmt: FloatFormat) -> NDArray[np.int64]:
    """The float64 bits of ``2**max(floor(log2 |value|), emin)``: the binade that sets the ulp."""
    bits: NDArray[np.int64] = values.view(np.int64) & _EXPONENT_FIELD
    np.maximum(bits, np.int64((fmt.emin + 1023) << 52), out=bits)
    return bits


def round_to_format(values: NDArray[np.float64], fmt: FloatFormat) -> NDArray[np.float64]:
    """Round float64 values to the nearest number of a format, ties to even; overflow to infinity.

    Adding and subtracting ``2**52`` ulps of the value's binade leaves a multiple of the ulp,
    rounded by the hardware in one step, so that subnormals are rounded once as well.
    """
    if fmt.precision >= 53:
        return values.copy()
    magnitude = np.abs(np.ascontiguousarray(values))
    anchor_bits = binade_exponent_bits(magnitude, fmt)
    anchor_bits += np.int64((53 - fmt.precision) << 52)
    anchor = anchor_bits.view(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = (magnitude + anchor) - anchor
    rounded = np.where(np.isfinite(magnitude), rounded, magnitude)
    rounded[rounded > fmt.largest_finite] = np.inf
    return np.copysign(rounded, values)
