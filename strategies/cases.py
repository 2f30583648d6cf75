"""Public Hypothesis strategies for tests: rows of logits, labels, and both together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from lossfuzz.harness.formats import TRAINING_FORMATS, FloatFormat
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.floats import floats
from lossfuzz.strategies.recipes import SHAPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of logits with its label.

    Attributes:
        logits: shape ``[classes]``, stored in the format's dtype.
        label: index of the true class.
    """

    logits: NDArray[Any]
    label: int


def labels(classes: int) -> SearchStrategy[int]:
    """Labels of so many classes; shrink to 0.

    Raises:
        ValueError: there are no classes.
    """
    if classes < 1:
        raise ValueError(f"expected at least one class, got {classes}")
    return st.integers(0, classes - 1)


@st.composite
def logits(
    draw: DrawFn,
    fmt: FloatFormat,
    *,
    min_classes: int = 1,
    max_classes: int = 12,
    allow_subnormal: bool = True,
    allow_mask: bool = True,
    allow_negative_zero: bool = True,
    max_magnitude: float | None = None,
) -> NDArray[Any]:
    """Rows of logits of a format, shape ``[classes]``; shrink to few, simple numbers.

    Args:
        draw: supplied by Hypothesis.
        fmt: the format of the logits.
        min_classes: fewest classes.
        max_classes: most classes.
        allow_subnormal: opt out of subnormal logits.
        allow_mask: opt out of -inf; at least one logit is finite either way.
        allow_negative_zero: opt out of -0.0.
        max_magnitude: bound of the finite logits, a number of the format.
    """
    if not 1 <= min_classes <= max_classes:
        raise ValueError(
            f"expected 1 <= min_classes <= max_classes, got {min_classes} and {max_classes}"
        )
    bound = fmt.largest_finite if max_magnitude is None else max_magnitude
    finite = floats(
        fmt,
        min_value=-bound,
        max_value=bound,
        allow_subnormal=allow_subnormal,
        allow_negative_zero=allow_negative_zero,
    )
    classes = draw(st.integers(min_classes, max_classes))
    entries = finite | st.just(-np.inf) if allow_mask else finite
    row = draw(st.lists(entries, min_size=classes, max_size=classes))
    if all(np.isneginf(value) for value in row):
        row[draw(labels(classes))] = draw(finite)
    return np.array(row).astype(fmt.dtype)


@st.composite
def cases(
    draw: DrawFn,
    formats: Sequence[FloatFormat] = TRAINING_FORMATS,
    *,
    min_classes: int = 1,
    max_classes: int = 12,
    allow_subnormal: bool = True,
    allow_mask: bool = True,
    allow_negative_zero: bool = True,
) -> Case:
    """Rows of logits with an unmasked label, so that the exact loss is finite."""
    row = draw(
        logits(
            draw(st.sampled_from(formats)),
            min_classes=min_classes,
            max_classes=max_classes,
            allow_subnormal=allow_subnormal,
            allow_mask=allow_mask,
            allow_negative_zero=allow_negative_zero,
        )
    )
    unmasked = np.flatnonzero(np.isfinite(row)).tolist()
    return Case(logits=row, label=draw(st.sampled_from(unmasked)))


def recipes(
    formats: Sequence[FloatFormat] = TRAINING_FORMATS,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> SearchStrategy[Recipe]:
    """Recipes of batches: some thousand logits for the price of drawing five numbers."""
    return st.builds(
        Recipe,
        family=st.sampled_from(families),
        format=st.sampled_from([fmt.dtype_name for fmt in formats]),
        shape=st.sampled_from(shapes),
        seed=st.integers(0, 2**32 - 1),
        magnitude=st.floats(0, 1, exclude_max=True),
    )
