"""Public Hypothesis strategies for tests: rows of logits, labels, and both together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from lossfuzz.harness.numbers.formats import TRAINING_FORMATS, FloatFormat, round_to_format
from lossfuzz.strategies.families import FAMILIES, family_named
from lossfuzz.strategies.recipes import SHAPES, Recipe, rows_of
from lossfuzz.strategies.source import drawn_source

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


def logits(
    fmt: FloatFormat,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    min_classes: int = 1,
    max_classes: int = 12,
    allow_subnormal: bool = True,
    allow_mask: bool = True,
    allow_negative_zero: bool = True,
    max_magnitude: float | None = None,
) -> SearchStrategy[NDArray[Any]]:
    """Rows of logits of a format, shape ``[classes]``; shrink to few, simple numbers.

    Each row is one of a family that campaigns draw, too; `families.FAMILIES` lists them.

    Args:
        fmt: the format of the logits.
        families: names of those that are drawn from.
        min_classes: fewest classes.
        max_classes: most classes.
        allow_subnormal: whether logits may be subnormal; 0 stands in their place if not.
        allow_mask: whether classes may be masked by -inf; at least one logit is finite either way.
        allow_negative_zero: whether a logit may be -0.0.
        max_magnitude: bound of the finite logits, a number of the format. Rows beyond it are
            clipped or scaled.

    Raises:
        ValueError: no row can be drawn so; the message says why.
    """
    limits = _Limits(
        classes=(min_classes, max_classes),
        subnormal=allow_subnormal,
        mask=allow_mask,
        negative_zero=allow_negative_zero,
        magnitude=max_magnitude,
    )
    limits.bound(fmt)
    return _cases(_known(families), [fmt], limits).map(lambda case: case.logits)


def cases(
    formats: Sequence[FloatFormat] = TRAINING_FORMATS,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    min_classes: int = 1,
    max_classes: int = 12,
    allow_subnormal: bool = True,
    allow_mask: bool = True,
    allow_negative_zero: bool = True,
    max_magnitude: float | None = None,
) -> SearchStrategy[Case]:
    """Rows of logits with an unmasked label, so that the exact loss is finite.

    Args:
        formats: those that rows are drawn in.
        families: see `logits`, as for all others.
        min_classes: fewest classes.
        max_classes: most classes.
        allow_subnormal: whether logits may be subnormal.
        allow_mask: whether classes may be masked by -inf.
        allow_negative_zero: whether a logit may be -0.0.
        max_magnitude: bound of the finite logits, a number of every format.

    Raises:
        ValueError: no row can be drawn so; the message says why.
    """
    limits = _Limits(
        classes=(min_classes, max_classes),
        subnormal=allow_subnormal,
        mask=allow_mask,
        negative_zero=allow_negative_zero,
        magnitude=max_magnitude,
    )
    for fmt in formats:
        limits.bound(fmt)
    return _cases(_known(families), list(formats), limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """What the rows of a strategy may be."""

    classes: tuple[int, int]
    subnormal: bool
    mask: bool
    negative_zero: bool
    magnitude: float | None

    def __post_init__(self) -> None:
        fewest, most = self.classes
        if not 1 <= fewest <= most:
            raise ValueError(f"expected 1 <= min_classes <= max_classes, got {fewest} and {most}")

    def bound(self, fmt: FloatFormat) -> float:
        """The largest magnitude of finite logits.

        Raises:
            ValueError: it is no positive number of the format.
        """
        if self.magnitude is None:
            return fmt.largest_finite
        if not (self.magnitude > 0 and math.isfinite(self.magnitude)):
            raise ValueError(f"expected max_magnitude above 0, got {self.magnitude!r}")
        rounded = float(round_to_format(np.array([self.magnitude]), fmt)[0])
        if rounded != self.magnitude:
            raise ValueError(
                f"max_magnitude={self.magnitude!r} is no number of {fmt.name}; the nearest is "
                f"{rounded!r}"
            )
        return self.magnitude


def _known(families: Sequence[str]) -> list[str]:
    """The families of those names.

    Raises:
        ValueError: there are none, or one is not known.
    """
    if isinstance(families, str) or not families:
        raise ValueError(f"expected families as a list of names, got {families!r}")
    for name in families:
        family_named(name)
    return list(families)


@st.composite
def _cases(
    draw: DrawFn, families: Sequence[str], formats: Sequence[FloatFormat], limits: _Limits
) -> Case:
    fmt = draw(st.sampled_from(formats))
    recipe = Recipe(
        family=draw(st.sampled_from(families)),
        format=fmt.dtype_name,
        shape=(1, draw(st.integers(*limits.classes))),
        seed=0,
        magnitude=draw(_MAGNITUDES),
        margin=draw(_MARGINS),
    )
    kept, reach, digits = draw(_KEPT), draw(_REACHES), draw(_DIGITS)
    rows, row_labels = rows_of(drawn_source(draw), recipe)
    row, label = rows[0], int(row_labels[0])
    if kept:
        row, label = _fewer(row, label, max(int(kept), limits.classes[0])), 0
    row = _within(draw, _plain(row, reach, digits, fmt), limits, fmt)
    unmasked = np.flatnonzero(np.isfinite(row)).tolist()
    return Case(logits=row, label=label if label in unmasked else draw(st.sampled_from(unmasked)))


_MAGNITUDES = st.floats(0, 1, exclude_max=True, allow_subnormal=False)


_MARGINS = st.integers(0, 4).flatmap(lambda one: st.floats(8, 110) if one == 4 else st.none())
"""Some rows lose by about such a margin, where softmax breaks, whatever their family."""


def _seldom(plain: Sequence[float]) -> SearchStrategy[float]:
    """The last of the values nearly always; shrinks to the first."""
    places = st.integers(0, _AS_DRAWN * len(plain))
    return places.map(lambda place: plain[min(place, len(plain) - 1)])


_AS_DRAWN = 12
_KEPT = _seldom((1, 2, 3, 0))
_REACHES = _seldom((16.0, 32.0, 128.0, 1024.0, 2.0**16, math.inf))
_DIGITS = _seldom((1, 2, 3, 5, 0))
"""What rows are made plain by, so that they shrink to what a person can read: how many classes
are kept, 0 for all; the largest magnitude; how many significant digits, 0 for all. The row that
a family drew stays the same, so that each can shrink by itself."""


def _fewer(row: NDArray[Any], label: int, kept: int) -> NDArray[Any]:
    """So many of a row's logits at most: the label's first, then the outermost of the others."""
    others = np.delete(row, label)
    falling = np.argsort(-others.astype(np.float64), kind="stable")
    outermost = np.stack([falling, falling[::-1]], axis=1).reshape(-1)
    chosen = list(dict.fromkeys(outermost.tolist()))[: kept - 1]
    return np.concatenate([row[label : label + 1], others[sorted(chosen)]])


def _plain(row: NDArray[Any], reach: float, digits: float, fmt: FloatFormat) -> NDArray[Any]:
    values = row.astype(np.float64)
    values = np.where(np.isinf(values), values, np.clip(values, -reach, reach))
    if digits:
        values = np.array([float(f"{value:.{digits}g}") for value in values])
    finite = np.clip(values, -fmt.largest_finite, fmt.largest_finite)
    return fmt.cast(np.where(np.isinf(values), values, finite))


def _within(draw: DrawFn, row: NDArray[Any], limits: _Limits, fmt: FloatFormat) -> NDArray[Any]:
    """The row, but for what the limits rule out."""
    bound = limits.bound(fmt)
    values = row.astype(np.float64)
    if not limits.mask:
        values[np.isneginf(values)] = -bound
    elif np.isneginf(values).all():
        values[draw(labels(len(values)))] = 0.0
    finite = np.isfinite(values)
    reach = np.abs(values[finite]).max()
    if reach > bound and draw(st.booleans()):
        values[finite] *= bound / reach
    values[finite] = np.clip(values[finite], -bound, bound)
    values = fmt.cast(values).astype(np.float64)
    if not limits.subnormal:
        values[np.abs(values) < fmt.smallest_normal] *= 0.0
    if not limits.negative_zero:
        values[values == 0] = 0.0
    return fmt.cast(values)


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
