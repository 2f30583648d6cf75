"""Recipes: small descriptions of batches, and the batches that they expand to."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formats import FloatFormat, format_named
from lossfuzz.strategies.families import FAMILIES, family_named, label_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SHAPES: tuple[tuple[int, ...], ...] = (
    (64, 1),
    (256, 2),
    (256, 3),
    (256, 10),
    (128, 33),
    (64, 257),
    (32, 1000),
    (32, 1025),
    (4, 32000),
    (2, 70000),
    (8, 32, 10),
    (8, 16, 257),
)
"""The shape buckets, [rows, classes] and [batch, time, classes]; XLA compiles once for each."""

DEFAULT_SHAPES: tuple[tuple[int, ...], ...] = ((256, 10), (8, 16, 257))
"""What a run uses unless it is told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A description of a batch that expands to the same batch every time.

    Attributes:
        family: name of a family.
        format: dtype name of the logits' format.
        shape: of the logits, classes last.
        seed: of the generator that fills the batch.
        magnitude: from 0, the tamest of the family, up to 1, excluded.
    """

    family: str
    format: str
    shape: tuple[int, ...]
    seed: int
    magnitude: float

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

    def to_json(self) -> dict[str, Any]:
        """The recipe as JSON's types."""
        return {**asdict(self), "shape": list(self.shape)}

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
    fmt = format_named(recipe.format)
    rows, classes = math.prod(recipe.shape[:-1]), recipe.shape[-1]
    generator = np.random.default_rng([recipe.seed, zlib.crc32(recipe.family.encode())])
    values = FAMILIES[recipe.family](generator, rows, classes, fmt, recipe.magnitude)
    logits = fmt.cast(np.where(np.isinf(values), values, _within(values, fmt)))
    labels = label_rows(generator, logits, recipe.family)
    return Batch(
        logits=logits.reshape(recipe.shape),
        labels=labels.reshape(recipe.shape[:-1]),
        recipe=recipe,
    )


def _within(values: NDArray[np.float64], fmt: FloatFormat) -> NDArray[np.float64]:
    return np.clip(values, -fmt.largest_finite, fmt.largest_finite)


def planned_recipes(
    *,
    families: Sequence[str],
    fmt: FloatFormat,
    shapes: Sequence[tuple[int, ...]],
    seed: int,
    rows: int | None = None,
) -> Iterator[Recipe]:
    """Recipes for at least so many rows, or without end: every family, then every shape, again.

    A pure function of its arguments; longer plans begin with shorter ones. NumPy draws them, not
    Hypothesis, whose draws depend on the constants in whatever modules are loaded.
    """
    planned = 0
    for turn in itertools.count():
        if rows is not None and planned >= rows:
            return
        family = families[turn % len(families)]
        shape = shapes[(turn // len(families)) % len(shapes)]
        key = zlib.crc32(f"{fmt.name} {family} {shape}".encode())
        generator = np.random.default_rng([seed, key, turn])
        yield Recipe(
            family=family,
            format=fmt.dtype_name,
            shape=shape,
            seed=int(generator.integers(0, 2**32)),
            magnitude=float(np.round(generator.random() * 0.999, 3)),
        )
        planned += math.prod(shape[:-1])
