"""Recipes: small descriptions of batches, and the batches that they expand to."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import FloatFormat, format_named
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.strategies.bounds import Bounds, bounded, checked_bounds
from lossfuzz.strategies.families import FAMILIES, family_named, label_rows
from lossfuzz.strategies.source import SeededSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from lossfuzz.strategies.source import Source

SHAPES: tuple[tuple[int, ...], ...] = (
    (64, 1),
    (256, 2),
    (256, 3),
    (256, 10),
    (512, 10),
    (128, 33),
    (64, 257),
    (32, 1000),
    (32, 1025),
    (4, 32000),
    (2, 70000),
    (8, 32, 10),
    (8, 16, 257),
    (2, 4, 2100),
)
"""The shape buckets, [rows, classes] and [batch, time, classes]; XLA compiles once for each."""

DEFAULT_SHAPES: tuple[tuple[int, ...], ...] = ((512, 10), (2, 4, 2100))
"""What a run uses unless it is told otherwise: many rows, whose sum overflows float16 at ordinary
losses, and many classes, more than float16 and bfloat16 count by ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A description of a batch that expands to the same batch every time.

    Attributes:
        family: name of a family.
        format: dtype name of the logits' format.
        shape: of the logits, classes last.
        seed: of the generator that fills the batch.
        magnitude: from 0, the tamest of the family, up to 1, excluded.
        factor: of all logits; an inverse temperature.
        offset: added to all logits after that.
        margin: if given, the label's logit is moved so that the label loses by about this; by
            distances of many sizes, so that some rows come very near.
        bounds: if given, the interval that all logits lie in, bounds included.
    """

    family: str
    format: str
    shape: tuple[int, ...]
    seed: int
    magnitude: float
    factor: float = 1.0
    offset: float = 0.0
    margin: float | None = None
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        family_named(self.family)
        format_named(self.format)
        if len(self.shape) < 2 or min(self.shape) < 1:
            raise ValueError(
                f"expected a shape [..., rows, classes] of 1 or more, got {self.shape}"
            )
        if not 0 <= self.magnitude < 1 or self.seed < 0:
            raise ValueError(
                f"expected 0 <= magnitude < 1 and seed >= 0, got {self.magnitude}, {self.seed}"
            )

        if self.bounds is not None:
            object.__setattr__(self, "bounds", checked_bounds(self.bounds))
        if not all(map(math.isfinite, (self.factor, self.offset, self.margin or 0.0))):
            raise ValueError(
                "expected finite factor, offset and margin, "
                f"got {self.factor}, {self.offset}, {self.margin}"
            )

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON's types; without the last four values where they change nothing."""
        record = {**asdict(self), "shape": list(self.shape)}
        for name, plain in (("factor", 1.0), ("offset", 0.0), ("margin", None), ("bounds", None)):
            if record[name] == plain:
                del record[name]
        if self.bounds is not None:
            record["bounds"] = [json_number(bound) for bound in self.bounds]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Recipe:
        """The recipe that `to_json` wrote."""
        return cls(**{**record, "shape": tuple(record["shape"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Logits and labels, and the recipe that they came from.

    Attributes:
        logits: shape ``[..., classes]`` in the recipe's format.
        labels: shape ``[...]``, int32.
        recipe: the origin.
    """

    logits: NDArray[Any]
    labels: NDArray[np.int32]
    recipe: Recipe

    @property
    def rows(self) -> NDArray[Any]:
        """The logits as ``[rows, classes]``."""
        return self.logits.reshape(-1, self.logits.shape[-1])

    @property
    def row_labels(self) -> NDArray[np.int32]:
        """The labels as ``[rows]``."""
        return self.labels.reshape(-1)


def expand(recipe: Recipe) -> Batch:
    """The batch that a recipe describes."""
    logits, labels = rows_of(SeededSource(recipe.seed, recipe.family), recipe)
    return Batch(
        logits=logits.reshape(recipe.shape),
        labels=labels.reshape(recipe.shape[:-1]),
        recipe=recipe,
    )


def rows_of(source: Source, recipe: Recipe) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """The rows that a recipe describes, shape ``[rows, classes]``, and their labels.

    Args:
        source: draws the numbers; it takes the place of the recipe's seed.
        recipe: the rest.
    """
    fmt = format_named(recipe.format)
    rows, classes = math.prod(recipe.shape[:-1]), recipe.shape[-1]
    values = FAMILIES[recipe.family](source, rows, classes, fmt, recipe.magnitude)
    values = values * recipe.factor
    if recipe.offset:  # a sum with 0 would lose the sign of -0.0
        values += recipe.offset
    if recipe.bounds is None:
        logits = fmt.cast(np.where(np.isinf(values), values, _within(values, fmt)))
    else:
        logits = bounded(source, values, recipe.bounds, fmt)
    labels = label_rows(source, logits, recipe.family)
    if recipe.margin is not None and recipe.bounds is None:
        logits = _with_margins(source, logits, labels, recipe.margin, fmt)
    return logits, labels


def _with_margins(
    source: Source,
    logits: NDArray[Any],
    labels: NDArray[np.int32],
    margin: float,
    fmt: FloatFormat,
) -> NDArray[Any]:
    """Rows whose label loses by about a margin: to the others together, or to a logit of 0.

    The latter is the margin of a sigmoid. A row without another unmasked class has only that.
    """
    rows = len(labels)
    wide = logits.astype(np.float64)
    wide[np.arange(rows), labels] = -np.inf
    largest = wide.max(axis=1)
    alone = np.isneginf(largest) | (source.random(rows) < _SIGMOIDS)
    shift = np.where(alone, 0.0, largest)
    with np.errstate(divide="ignore"):
        differences = np.where(alone[:, None], -np.inf, wide - shift[:, None])
        rest = shift + np.log(np.exp(differences).sum(axis=1))
    distance = source.choice([-1.0, 1.0], rows) * 2.0 ** -source.uniform(
        2, fmt.precision + 1, rows
    )
    leads = margin + distance * max(abs(margin), 1.0)
    moved = logits.copy()
    moved[np.arange(rows), labels] = fmt.cast(_within(np.where(alone, 0.0, rest) - leads, fmt))
    return moved


_SIGMOIDS = 0.25


def _within(values: NDArray[np.float64], fmt: FloatFormat) -> NDArray[np.float64]:
    return np.clip(values, -fmt.largest_finite, fmt.largest_finite)


def planned_recipes(
    *,
    families: Sequence[str],
    fmt: FloatFormat,
    shapes: Sequence[tuple[int, ...]],
    seed: int,
    rows: int | None = None,
    bounds: Bounds | None = None,
    first: int = 0,
) -> Iterator[Recipe]:
    """Recipes for at least so many rows, or without end: every family, again and again.

    The shapes take turns, so that one round has all of them and a family has another one in the
    next. A pure function of its arguments; longer plans begin with shorter ones. NumPy draws
    them, not Hypothesis, whose draws depend on the constants in whatever modules are loaded. With
    ``first`` the recipes before that number are left out, and cost nothing.
    """
    batches = planned_batches(families, shapes, rows, first=first)
    for turn, (family, shape) in enumerate(batches, first):
        key = zlib.crc32(f"{fmt.name} {family} {shape}".encode())
        generator = np.random.default_rng([seed, key, turn])
        yield Recipe(
            family=family,
            format=fmt.dtype_name,
            shape=shape,
            seed=int(generator.integers(0, 2**32)),
            magnitude=float(np.round(generator.random() * 0.999, 3)),
            bounds=bounds,
        )


def planned_batches(
    families: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    rows: int | None = None,
    *,
    first: int = 0,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Family and shape of every batch of a plan, in its order: the one place that knows it."""
    last = math.inf if rows is None else planned_count(families, shapes, rows)
    for turn in itertools.count(first):
        if turn >= last:
            return
        yield _planned_batch(families, shapes, turn)


def planned_count(families: Sequence[str], shapes: Sequence[tuple[int, ...]], rows: int) -> int:
    """How many batches a plan takes for at least so many rows.

    Once every family has met every shape all begins anew, so that only what is left over after
    such periods is counted one by one.
    """
    period = len(families) * len(shapes)
    of_a_period = len(families) * sum(math.prod(shape[:-1]) for shape in shapes)
    periods, left = divmod(rows, of_a_period)
    count = periods * period
    while left > 0:
        _, shape = _planned_batch(families, shapes, count)
        left -= math.prod(shape[:-1])
        count += 1
    return count


def _planned_batch(
    families: Sequence[str], shapes: Sequence[tuple[int, ...]], turn: int
) -> tuple[str, tuple[int, ...]]:
    cycle, position = divmod(turn, len(families))
    return families[position], shapes[(position + cycle) % len(shapes)]
