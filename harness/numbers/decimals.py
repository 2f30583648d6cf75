"""Numbers in as few digits as name them, or as many as are proved."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lossfuzz.harness.numbers.formats import FloatFormat

_MOST_DIGITS = 17
"""With so many, float64 reads back what was written, and with it every format."""

PROVED_DIGITS = 12
"""More are not proved of an exact value, which is known within `_RELATIVE`."""

_RELATIVE = Decimal(2) ** -40
_VANISHING = 2.0**-199
"""Below it an exact value cannot be told from 0, since it is known within 2**-200."""


def significant_digits(value: float, fmt: FloatFormat) -> int:
    """Of the shortest decimal that rounds to a finite number of the format.

    Args:
        value: a finite number of the format.
        fmt: of the number.
    """
    written = [float(f"{value:.{digits}g}") for digits in range(1, _MOST_DIGITS + 1)]
    read = fmt.cast(np.array(written)).astype(np.float64)
    return int((read == value).argmax()) + 1


def shortest_decimal(value: float, fmt: FloatFormat) -> str:
    """A Python literal that the format rounds to this number: ``0.1`` for binary32's nearest.

    Args:
        value: a finite number of the format.
        fmt: of the number.
    """
    return repr(float(f"{value:.{significant_digits(value, fmt)}g}"))


def proved(value: float, digits: int = PROVED_DIGITS) -> float:
    """An exact value, as the number of so few digits that all of them are proved.

    The number's `repr` differs from the mathematical value by at most half a unit of its last
    digit. It has so many digits as are wanted; a few more, or less, where that would be a tie.

    Args:
        value: known within a relative error of 2**-40 or an absolute one of 2**-200.
        digits: significant ones that are wanted.

    Returns:
        The number; 0 for what cannot be told from it; NaN and infinities as they are.
    """
    if not math.isfinite(value):
        return value
    if abs(value) < _VANISHING:
        return 0.0
    known = Decimal(value)
    uncertain = abs(known) * _RELATIVE
    wanted = min(digits, PROVED_DIGITS)
    for count in (*range(wanted, PROVED_DIGITS + 1), *range(wanted - 1, 1, -1)):
        rounded = Context(prec=count, rounding=ROUND_HALF_EVEN).plus(known)
        half = Decimal(5).scaleb(rounded.adjusted() - count)
        if abs(rounded - known) + uncertain <= half:
            return float(rounded)
    return float(f"{value:.1g}")  # a tie at every length takes more digits than there are


def proved_text(value: float, digits: int = 9) -> str:
    """The same in the short form of tables and messages: ``16`` for 15.999999999999993."""
    return f"{proved(value, digits):.{PROVED_DIGITS}g}"
