"""Rows of as many classes as a row has, each simpler than it in one respect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.shrinking.rows import Row, one_hot
from lossfuzz.shrinking.simplicity import simplicity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat

_FEW_CLASSES = 4
_MOST_LEVELS = 6


def simpler_rows(row: Row, loss: LossSpec, fmt: FloatFormat) -> list[Row]:
    """All that is one step simpler, the simplest first."""
    key = simplicity(row, fmt)
    found: dict[tuple[tuple[float, ...], tuple[float, ...], int], Row] = {}
    for one in (*_with_other_numbers(row, loss, fmt), *_with_other_targets(row, loss)):
        found.setdefault((one.logits, one.weights, one.label), one)
    keyed = [(simplicity(one, fmt), one) for one in found.values()]
    return [one for other, one in sorted(keyed, key=lambda pair: pair[0]) if other < key]


def _with_other_numbers(row: Row, loss: LossSpec, fmt: FloatFormat) -> Iterator[Row]:
    values = np.array(row.logits)
    finite = np.isfinite(values)
    if finite.any():
        for whole in _of_all(values, finite, row.label, shifts=loss.masks):
            yield _of(row, whole, fmt)
    for place in _places(row):
        for number in _other_numbers(float(values[place][0]), row, fmt):
            changed = values.copy()
            changed[place] = number
            yield _of(row, changed, fmt)
            # the same step for the others too, so that their distance stays
            if loss.masks and math.isfinite(values[place][0]) and row.classes <= _FEW_CLASSES:
                moved = np.where(finite, values + (number - values[place][0]), values)
                yield _of(row, np.where(place, number, moved), fmt)


def _of_all(
    values: np.ndarray, finite: np.ndarray, label: int, *, shifts: bool
) -> Iterator[np.ndarray]:
    """One operation on all numbers: shifted, rounded, halved, without signs."""
    numbers = values[finite]
    levels = {float(numbers.min()), float(numbers.max())}
    if finite[label]:
        levels.add(float(values[label]))
    for shift in sorted(levels) if shifts else ():
        yield values - shift
        yield np.round(values - shift)
    for step in (1.0, 1 / 2, 1 / 4, 1 / 8):
        for rounding in (np.trunc, np.round, np.floor, np.ceil):
            yield rounding(values / step) * step
    yield from (_to_digits(values, digits) for digits in (1, 2, 3))
    for factor in (1 / 2, 3 / 4, 7 / 8, 1 / 16):
        yield values * factor
        yield np.trunc(values * factor)
    yield np.abs(np.where(finite, values, 0.0))
    yield np.where(finite, -values, values)
    if not finite.all():
        yield np.where(finite, values, numbers.min())
        yield np.where(finite, values, 0.0)


def _places(row: Row) -> Iterator[np.ndarray]:
    """Which numbers are changed together: single ones, all that are alike, all but the label."""
    values, index = np.array(row.logits), np.arange(row.classes)
    if row.classes <= _FEW_CLASSES:
        yield from (index == k for k in range(row.classes))
    else:
        yield index == row.label
        yield index != row.label
        yield np.ones(row.classes, np.bool_)
        yield (index != row.label) & (index % 2 == 1)
        yield (index != row.label) & (index >= row.classes // 2)
    levels = sorted(set(row.logits))
    if 1 < len(levels) <= _MOST_LEVELS:
        yield from (values == level for level in levels)


def _other_numbers(value: float, row: Row, fmt: FloatFormat) -> list[float]:
    """What a number may become."""
    found = [0.0, 1.0, -1.0, *sorted(set(row.logits))[:_MOST_LEVELS]]
    if not math.isfinite(value):
        return [one for one in found if math.isfinite(one)]
    sign, magnitude = math.copysign(1, value), abs(value)
    sizes = [magnitude / 2, magnitude * 3 / 4, magnitude * 7 / 8, magnitude * 15 / 16]
    sizes += [math.trunc(one) for one in (*sizes, magnitude)]
    sizes += [math.ceil(magnitude), math.ceil(magnitude) + 1]
    sizes += [magnitude - step for step in (1, 2, 4, 8)]
    sizes += [round(magnitude * step) / step for step in (2, 4, 8, 10, 100)]
    if magnitude > 0:
        power = 2.0 ** math.floor(math.log2(magnitude))
        sizes += [power, *([2 * power] if 2 * power <= fmt.largest_finite else [])]
        for digits in (1, 2, 3):
            unit = 10.0 ** (math.floor(math.log10(magnitude)) + 1 - digits)
            sizes += [
                float(f"{math.floor(magnitude / unit) * unit:.6g}"),
                float(f"{math.ceil(magnitude / unit) * unit:.6g}"),
            ]
    sizes += [magnitude]
    found += [sign * one for one in sizes if one >= 0]
    found += [one for one in sizes if one >= 0] if sign < 0 else []
    return list(dict.fromkeys(found))


def _to_digits(values: np.ndarray, digits: int) -> np.ndarray:
    return np.array([float(f"{value:.{digits}g}") for value in values])


def _of(row: Row, values: np.ndarray, fmt: FloatFormat) -> Row:
    """The row with other numbers, rounded to the format; none of them -0 or beyond its range."""
    limit = fmt.largest_finite
    clipped = np.where(np.isneginf(values), values, np.clip(values, -limit, limit))
    logits = fmt.cast(clipped).astype(np.float64) + 0.0
    return Row(logits=tuple(logits.tolist()), weights=row.weights, label=row.label)


def _with_other_targets(row: Row, loss: LossSpec) -> Iterator[Row]:
    if row.label:
        order = [row.label, *(k for k in range(row.classes) if k != row.label)]
        yield _ordered(row, order)
        swapped = list(range(row.classes))
        swapped[0], swapped[row.label] = row.label, 0
        yield _ordered(row, swapped)
        if loss.target == kinds.NONE or sum(row.weights) == 1:
            hot = one_hot(0, row.classes)
            yield Row(logits=row.logits, weights=hot, label=0)
    for weights in _other_weights(row, loss):
        yield Row(logits=row.logits, weights=tuple(weights), label=row.label).relabelled(loss)


def _ordered(row: Row, order: Sequence[int]) -> Row:
    return Row(
        logits=tuple(row.logits[k] for k in order),
        weights=tuple(row.weights[k] for k in order),
        label=order.index(row.label),
    )


def _other_weights(row: Row, loss: LossSpec) -> Iterator[Sequence[float]]:
    """Distributions that are one class or two halves; probabilities that are 0, 1 or a half."""
    if loss.target == kinds.DISTRIBUTION:
        yield one_hot(row.label, row.classes)
        for k in range(min(row.classes, _FEW_CLASSES)):
            if k != row.label:
                yield [0.5 if j in (k, row.label) else 0.0 for j in range(row.classes)]
    elif loss.target in (kinds.BINARY, kinds.PROBABILITY):
        yield [0.0] * row.classes
        yield [float(round(weight)) for weight in row.weights]
        yield [weight if weight in (0.0, 1.0) else 0.5 for weight in row.weights]
        for k in range(row.classes if row.classes <= _FEW_CLASSES else 0):
            for weight in (0.0, 1.0, 0.5) if loss.target == kinds.PROBABILITY else (0.0, 1.0):
                yield [weight if j == k else old for j, old in enumerate(row.weights)]
