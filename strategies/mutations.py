"""Mutations: a recipe that taught something, changed a little or much; pure, by a generator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from lossfuzz.strategies.recipes import Recipe

_LAST = 0.999
"""The largest magnitude, as in a plan."""


def _bounded(magnitude: float) -> float:
    return float(min(max(magnitude, 0.0), _LAST))


def _nudged(g: np.random.Generator, recipe: Recipe) -> Recipe:
    """A magnitude nearby, at distances of many sizes."""
    step = float(g.choice([-1.0, 1.0]) * 2.0 ** -g.uniform(2, 10))
    return replace(recipe, magnitude=_bounded(recipe.magnitude + step))


def _jumped(g: np.random.Generator, recipe: Recipe) -> Recipe:
    """Any magnitude, or one of the ends."""
    return replace(recipe, magnitude=_bounded(float(g.choice([0.0, _LAST, g.random()]))))


def _reseeded(g: np.random.Generator, recipe: Recipe) -> Recipe:
    return replace(recipe, seed=int(g.integers(0, 2**32)))


def _scaled(g: np.random.Generator, recipe: Recipe) -> Recipe:
    return replace(recipe, factor=float(recipe.factor * 2.0 ** g.uniform(-3, 3)))


def _moved(g: np.random.Generator, recipe: Recipe) -> Recipe:
    """Another common offset, or none."""
    away = float(g.choice([-1.0, 1.0]) * 2.0 ** g.uniform(-1, 12))
    return replace(recipe, offset=0.0 if recipe.offset and g.random() < 1 / 2 else away)


_ALONE: tuple[Callable[[np.random.Generator, Recipe], Recipe], ...] = (
    _nudged,
    _nudged,
    _jumped,
    _reseeded,
    _scaled,
    _moved,
)


def mutated(
    recipe: Recipe,
    generator: np.random.Generator,
    *,
    families: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    margin: float = math.nan,
) -> Recipe:
    """A recipe near another one, of one or two changes.

    Nearly half of the changes are to the recipe's own numbers: its magnitude nudged or anew, its
    seed, factor or offset. The others bring rows near the margin that was told, cross to another
    family, or take another shape.

    Args:
        recipe: to start from; its format stays.
        generator: decides.
        families: to cross to.
        shapes: to choose from.
        margin: near which rows may be brought; not where it is not finite.
    """
    changed = recipe
    for _ in range(int(generator.integers(1, 3))):
        changed = _changed(changed, generator, families, shapes, margin)
    return changed if changed != recipe else _reseeded(generator, recipe)


def _changed(
    recipe: Recipe,
    g: np.random.Generator,
    families: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    margin: float,
) -> Recipe:
    choice = g.random()
    if choice < _NEAR_MARGIN:
        if math.isfinite(margin):
            moved = margin * (1 + float(g.choice([-1.0, 1.0]) * 2.0 ** -g.uniform(2, 12)))
            return replace(recipe, margin=moved, seed=int(g.integers(0, 2**32)))
        return _reseeded(g, recipe)
    if choice < _FAMILY:
        return replace(recipe, family=families[int(g.integers(0, len(families)))], margin=None)
    if choice < _SHAPE:
        return replace(recipe, shape=shapes[int(g.integers(0, len(shapes)))])
    return _ALONE[int(g.integers(0, len(_ALONE)))](g, recipe)


_NEAR_MARGIN, _FAMILY, _SHAPE = 0.35, 0.47, 0.55
"""Where each choice ends, from 0 to 1."""
