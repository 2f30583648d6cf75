"""The order in which a check measures: quick sweeps over all families first, then the plan.

A sweep runs every family once on one shape. The first shape is swept in every mode before the
other shapes are, so that a short budget reaches all modes; then come the plan's own recipes, in
all modes side by side. So what is found does not depend on which family met which shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.plan import Plan
    from lossfuzz.strategies.recipes import Recipe

_WIDE = 1000
_WIDE_FAMILIES = ("large_labels", "constant", "long_tail", "ties", "normal", "equal_rows")
"""What a large vocabulary adds to few classes: sums and labels; the other families come later."""

_HUGE = 65504
_HUGE_FAMILIES = ("constant", "large_labels", "normal")
_HALF_PRECISION = 11
"""Formats of so few bits cannot hold larger sums of ones, or count more classes; wider formats are
not asked so many."""

_SMALL_BATCH = 7
"""Rows up to which a batch is there for the scalar ends of vectorised loops, which XLA has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Batches that are measured next, one of every format.

    Attributes:
        modes: in which they are run.
        recipes: of the batches.
        number: of the plan's own recipes within each format; None in a sweep.
    """

    modes: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    number: int | None = None


def rounds_of(plan: Plan) -> Iterator[Round]:
    """The rounds of a plan: its sweeps, then its recipes, for its rows or without end."""
    first, *others = plan.shapes
    for shapes in ((first,), others):
        for modes in (plan.modes[:1], plan.modes[1:]):
            for shape in shapes:
                asked = tuple(mode for mode in modes if not _is_spared(shape, mode, plan))
                if asked:
                    yield from _sweep(plan, shape, asked)
    usual = tuple(shape for shape in plan.shapes if shape[-1] <= _HUGE) or plan.shapes
    yield from planned_rounds(replace(plan, shapes=usual))


def planned_rounds(plan: Plan) -> Iterator[Round]:
    """The plan's own recipes alone, in all modes side by side."""
    for number, recipes in enumerate(_side_by_side(plan, plan.formats)):
        yield Round(modes=plan.modes, recipes=recipes, number=number)


def _is_spared(shape: tuple[int, ...], mode: str, plan: Plan) -> bool:
    """Whether XLA need not compile for a small batch: it has no scalar code at its loops' ends."""
    small = math.prod(shape[:-1]) <= _SMALL_BATCH and shape[-1] < _WIDE
    return mode == "xla" and small and mode != plan.modes[0] and len(plan.shapes) > 1


def _sweep(plan: Plan, shape: tuple[int, ...], modes: tuple[str, ...]) -> Iterator[Round]:
    """Every family on one shape; on many classes the telling ones."""
    huge = shape[-1] > _HUGE
    wide = _HUGE_FAMILIES if huge else _WIDE_FAMILIES if shape[-1] >= _WIDE else ()
    families = tuple(name for name in wide if name in plan.families) or plan.families
    formats = tuple(fmt for fmt in plan.formats if not huge or fmt.precision <= _HALF_PRECISION)
    sweep = replace(
        plan,
        families=families,
        shapes=(shape,),
        rows=len(families) * math.prod(shape[:-1]),
        seconds=None,
    )
    for recipes in _side_by_side(sweep, formats):
        yield Round(modes=modes, recipes=recipes)


def _side_by_side(plan: Plan, formats: tuple[FloatFormat, ...]) -> Iterator[tuple[Recipe, ...]]:
    """The plan's recipes, one of every format at a time."""
    return zip(*(plan.recipes(fmt) for fmt in formats), strict=True) if formats else iter(())
