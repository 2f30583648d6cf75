"""Numbers of a format in as few digits as name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lossfuzz.harness.formats import FloatFormat

_MOST_DIGITS = 17
"""With so many, float64 reads back what was written, and with it every format."""


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
