"""What a loss is given beside the logits: integer labels, distributions, binary targets.

All are derived from a batch's integer labels by a rule without further choices, so that one
recipe gives every loss its targets. Weights are multiples of a power of two that the
logits' format holds exactly, and distributions sum to exactly 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import format_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

INDEX = "integer label"
IGNORABLE = "integer label, -1 to ignore the row"
ONE_HOT = "one-hot"
DISTRIBUTION = "distribution"
BINARY = "binary"
PROBABILITY = "probability"
NONE = "none"

KINDS: dict[str, str] = {
    INDEX: "int32 of shape [...]",
    IGNORABLE: "int32 of shape [...]; every fourth row is ignored",
    ONE_HOT: "shape [..., classes] in the logits' format, a single 1 in every row",
    DISTRIBUTION: "shape [..., classes], multiples of 1/128, in every other row of "
    "binary32 of 2**-20, that sum to 1, many of them 0",
    BINARY: "shape [..., classes], 0 or 1, each class by itself; some rows all 0, some all 1",
    PROBABILITY: "shape [..., classes], 0, 1 or odd multiples of 1/256, in every other "
    "row of binary32 of 2**-20, each class by itself; some rows all 0, some all 1",
    NONE: "nothing; the loss depends on the logits alone",
}
"""Every kind of target with what it looks like."""

BY_CLASS = (BINARY, PROBABILITY)
"""The kinds in which every class is a question of its own, as of sigmoids."""

IGNORED = -1
_PARTS = 128
_FINE_PARTS = 1 << 20
_FINE_PRECISION = 22
_MOST_FINE = 1 << 11
"""What every other row in binary32 adds to its weights, in fine parts: no half format holds it."""

_IGNORED_EVERY = 4

_EMPTY, _FULL = 1 / 8, 1 / 16
"""Shares of rows of 0/1 targets without a 1, and without a 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The targets of a batch's rows, as exact numbers.

    Attributes:
        kind: of `KINDS`.
        weights: shape ``[rows, classes]``, float64; of an integer label its one-hot row, of an
            ignored row zeros.
        labels: shape ``[rows]``, int64; the integer label, else the class of the largest weight.
        masked: shape ``[rows, classes]``; classes whose logit is -inf.
    """

    kind: str
    weights: NDArray[np.float64]
    labels: NDArray[np.int64]
    masked: NDArray[np.bool_]

    def take(self, rows: NDArray[Any]) -> Targets:
        """The targets of some rows."""
        return replace(
            self,
            weights=self.weights[rows],
            labels=self.labels[rows],
            masked=self.masked[rows],
        )

    def fed(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """What a loss path is given.

        Args:
            shape: of the logits.
            dtype: of the logits.
        """
        if self.kind in (INDEX, IGNORABLE, NONE):
            labels = self.labels.astype(np.int32)
            if self.kind == IGNORABLE:
                labels[self.weights.sum(axis=1) == 0] = IGNORED
            return labels.reshape(shape[:-1])
        return self.weights.astype(dtype).reshape(shape)


def target_of_row(
    kind: str, logits: NDArray[np.float64], label: int, weights: Sequence[float]
) -> Targets:
    """The targets of a single row ``[classes]``, from a record that may leave its weights out."""
    row = np.zeros((1, logits.size))
    row[0, label] = 1.0
    if weights:
        row[0] = weights
    return Targets(
        kind=kind,
        weights=row,
        labels=np.array([label], np.int64),
        masked=np.isneginf(logits)[None],
    )


def targets_of(kind: str, logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> Targets:
    """The targets of a kind for rows with integer labels.

    Args:
        kind: one of `KINDS`.
        logits: shape ``[rows, classes]``.
        labels: shape ``[rows]``.

    Raises:
        ValueError: the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of target {kind!r}; known kinds: {', '.join(KINDS)}")
    rows, classes = logits.shape
    index = labels.astype(np.int64)
    masked = np.isneginf(logits.astype(np.float64))
    generator = np.random.default_rng(int(index.sum()) + rows * classes)
    weights = np.zeros((rows, classes))
    if kind in (INDEX, ONE_HOT, IGNORABLE):
        weights[np.arange(rows), index] = 1.0
        if kind == IGNORABLE:
            weights[_IGNORED_EVERY - 1 :: _IGNORED_EVERY] = 0.0
    elif kind == DISTRIBUTION:
        weights = _distributions(generator, index, masked)
        if format_of(logits).precision >= _FINE_PRECISION:
            fine = _fine(generator, weights)
            weights -= fine
            weights[np.arange(rows), index] += fine.sum(axis=1)
        index = weights.argmax(axis=1)
    elif kind == BINARY:
        weights = (generator.random((rows, classes)) < 1 / 2).astype(np.float64)
        weights[np.arange(rows), index] = 1.0
        index = _uniform_rows(generator, weights, index)
    elif kind == PROBABILITY:
        weights = (2 * generator.integers(0, _PARTS, (rows, classes)) + 1) / (2 * _PARTS)
        weights[np.arange(rows), index] = generator.choice([0.0, 1.0], rows)
        if format_of(logits).precision >= _FINE_PRECISION:
            weights += _fine(generator, weights)
        index = _uniform_rows(generator, weights, weights.argmax(axis=1))
    return Targets(kind=kind, weights=weights, labels=index, masked=masked)


def _uniform_rows(
    generator: np.random.Generator, weights: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Make some rows all 0, as an empty mask is, and some all 1; their label is class 0."""
    kind = generator.random(len(weights))
    empty, full = kind < _EMPTY, kind >= 1 - _FULL
    weights[empty], weights[full] = 0.0, 1.0
    return np.where(empty | full, 0, labels)


def _fine(generator: np.random.Generator, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Less than half of a coarse part for every weight between 0 and 1, in every other row."""
    fine = generator.integers(1, _MOST_FINE, weights.shape) / _FINE_PARTS
    fine[::2] = 0.0
    return np.where((weights > 0) & (weights < 1), fine, 0.0)


def _distributions(
    generator: np.random.Generator, labels: NDArray[np.int64], masked: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Between a half and all of the mass at the label, the rest on unmasked classes or there."""
    rows, classes = masked.shape
    chances = generator.random((rows, classes)) ** 4
    chances[masked] = 0.0
    chances[np.arange(rows), labels] += 1e-9
    chances /= chances.sum(axis=1, keepdims=True)
    spread = generator.integers(0, _PARTS // 2 + 1, rows)
    parts = generator.multinomial(spread, chances).astype(np.float64)
    parts[np.arange(rows), labels] += _PARTS - spread
    return np.asarray(parts / _PARTS, np.float64)
