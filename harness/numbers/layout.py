"""Memory order of work arrays ``[rows, classes]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

CLASSES_FIRST_BELOW = 64
"""With fewer classes a row is too short a loop: columns then lie together in memory."""


def empty_rows(rows: int, classes: int, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """An uninitialised array ``[rows, classes]`` in the order that is fast for so many classes."""
    if classes < CLASSES_FIRST_BELOW:
        return np.empty((classes, rows), dtype).T
    return np.empty((rows, classes), dtype)
