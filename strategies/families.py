"""The families of logits: each fills a batch with one way of being hard.

A family is a function ``(generator, rows, classes, format, magnitude) -> [rows, classes]`` of
float64 values that are then rounded to the format. ``magnitude`` in [0, 1) runs from the tamest
to the wildest of the family.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.records.spelling import unknown
from lossfuzz.strategies.arrangements import (
    clusters,
    constant,
    equal_rows,
    finite_masks,
    large_labels,
    lone_row,
    long_tail,
    masks,
    patterns,
    ties,
    whole_numbers,
    zeros,
)
from lossfuzz.strategies.sizes import (
    decided,
    far_below_zero,
    largest_finite,
    magnitudes,
    margin_sweep,
    mixed_scales,
    normal,
    offset,
    outlier,
    subnormals,
    threshold_neighbours,
    uniform,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.strategies.source import Source

    Values = NDArray[np.float64]
    Family = Callable[[Source, int, int, FloatFormat, float], Values]

FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        margin_sweep,
        whole_numbers,
        outlier,
        far_below_zero,
        masks,
        zeros,
        largest_finite,
        large_labels,
        decided,
        offset,
        normal,
        finite_masks,
        ties,
        mixed_scales,
        threshold_neighbours,
        equal_rows,
        lone_row,
        constant,
        magnitudes,
        long_tail,
        clusters,
        patterns,
        uniform,
        subnormals,
    )
}
"""Every family by name, first those that show most defects soonest: plans begin with them.

Shapes take turns, so those that need many classes stand at even places, where a default plan has
its wide shape.
"""


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in FAMILIES:
        raise ValueError(unknown("family", name, FAMILIES))
    return FAMILIES[name]


def label_rows(g: Source, logits: NDArray[Any], family: str) -> NDArray[np.int32]:
    """A label for every row: first, last, winning, losing, random, rarely a masked one.

    Args:
        g: the recipe's generator.
        logits: shape ``[rows, classes]``.
        family: its name; `large_labels` takes odd labels at the end of the range, `decided`
            the first.
    """
    rows, classes = logits.shape
    if family == decided.__name__:
        return np.zeros(rows, np.int32)
    if family == large_labels.__name__:
        back = 2 * np.floor(2.0 ** g.uniform(0, np.log2(max(1, classes // 4)), rows) - 1)
        return np.asarray(classes - 1 - back, np.int32)
    finite = np.isfinite(logits)
    wide = logits.astype(np.float64)
    rules = np.stack(
        [
            np.zeros(rows, np.int64),
            np.full(rows, classes - 1),
            wide.argmax(axis=1),
            np.where(finite, wide, np.inf).argmin(axis=1),
            g.integers(0, classes, rows),
        ]
    )
    chosen = rules[g.choice(5, rows, p=[0.1, 0.1, 0.3, 0.3, 0.2]), np.arange(rows)]
    masked = ~finite[np.arange(rows), chosen] & (g.random(rows) < 0.9)
    return np.asarray(np.where(masked, rules[2], chosen), np.int32)
