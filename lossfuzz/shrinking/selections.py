"""Rows of fewer classes, made of a row by leaving classes out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.shrinking.rows import Row
from lossfuzz.shrinking.simplicity import simplicity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat

_MOST_PARTNERS = 24


def rows_of_classes(row: Row, classes: int, loss: LossSpec, fmt: FloatFormat) -> list[Row]:
    """Rows of so many classes out of a row with more, as they are and with rounder numbers.

    Of a few classes every other class stands beside the label once, as far as they differ; of
    many there are the largest, the smallest, the first and evenly spread ones. Where each class
    is judged by itself, one class may be any of them.
    """
    found: dict[tuple[tuple[float, ...], tuple[float, ...], int], Row] = {}
    for columns in _columns(row, classes, by_itself=not loss.masks):
        label = row.label if row.label in columns else columns[0]
        whole = Row(logits=row.logits, weights=row.weights, label=label)
        chosen = whole.with_columns(columns, loss)
        for one in (chosen, *_rounder(chosen, loss, fmt)):
            found.setdefault((one.logits, one.weights, one.label), one)
    return sorted(found.values(), key=lambda one: simplicity(one, fmt))


def _columns(row: Row, classes: int, *, by_itself: bool) -> Iterator[list[int]]:
    """The classes that are kept, in the row's own order but for the label, which comes first.

    Of many classes it is tried at the end too.
    """
    others = [k for k in range(row.classes) if k != row.label]
    ranked = sorted(others, key=lambda k: (-row.logits[k], k))
    if classes == 1 and by_itself:
        yield from ([k] for k in _different(row, [row.label, *ranked]))
        return
    fixed = ranked[: classes - 2] if classes <= 3 else []
    if classes == 1:
        yield [row.label]
    elif classes <= 3:
        for partner in _different(row, [k for k in ranked if k not in fixed]):
            yield [row.label, *fixed, partner]
            yield sorted([row.label, *fixed, partner])
    else:
        spread = np.linspace(0, len(ranked) - 1, classes - 1).astype(int)
        for chosen in (
            ranked[: classes - 1],
            [ranked[k] for k in spread],
            others[: classes - 1],
            ranked[1 - classes :],
        ):
            kept = sorted(chosen)
            yield [row.label, *kept]
            yield [*kept, row.label]  # where a half format can no longer count to the label,
            yield [*kept[:-1], row.label, kept[-1]]  # be it an odd or an even one


def _different(row: Row, columns: Sequence[int]) -> list[int]:
    """At most so many classes that differ in logit or target: from both ends of a ranking."""
    seen: dict[tuple[float, float], int] = {}
    for k in columns:
        seen.setdefault((row.logits[k], row.weights[k]), k)
    kept = list(seen.values())
    half = _MOST_PARTNERS // 2
    return kept if len(kept) <= _MOST_PARTNERS else kept[:half] + kept[-half:]


def _rounder(row: Row, loss: LossSpec, fmt: FloatFormat) -> Iterator[Row]:
    """The row in integers, without its common offset, and with its others all alike."""
    finite = [value for value in row.logits if math.isfinite(value)]
    if not finite:
        return
    shifts = [0.0, min(finite), row.logits[row.label]] if loss.masks else [0.0]
    for shift in dict.fromkeys(value for value in shifts if math.isfinite(value)):
        moved = np.array(row.logits) - shift
        yield _with(row, moved, fmt)
        yield _with(row, np.trunc(moved), fmt)
        yield _with(row, np.copysign(np.ceil(np.abs(moved)), moved), fmt)
    if row.classes > 3:
        yield from _levelled(row, loss, fmt)


def _levelled(row: Row, loss: LossSpec, fmt: FloatFormat) -> Iterator[Row]:
    """All others alike: their largest, their mean, 0; and the label too."""
    label = np.arange(row.classes) == row.label
    others = np.array(row.logits)[~label]
    others = others[np.isfinite(others)]
    if not others.size:
        return
    mine = row.logits[row.label]
    for level in (float(others.max()), float(np.median(others)), 0.0):
        for own in (mine, level):
            if math.isfinite(own):
                for shift in {0.0, min(level, own)} if loss.masks else {0.0}:
                    values = np.where(label, own - shift, level - shift)
                    yield _with(row, values, fmt)
                    yield _with(row, np.round(values), fmt)
    if loss.target in (kinds.BINARY, kinds.PROBABILITY):
        zeros = (0.0,) * row.classes
        yield Row(logits=_with(row, np.zeros(row.classes), fmt).logits, weights=zeros, label=0)


def _with(row: Row, values: np.ndarray, fmt: FloatFormat) -> Row:
    with np.errstate(over="ignore"):
        logits = fmt.cast(values).astype(np.float64)
    return Row(logits=tuple((logits + 0.0).tolist()), weights=row.weights, label=row.label)
