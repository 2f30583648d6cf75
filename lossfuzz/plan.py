"""What a run will do: a value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.numbers.formats import TRAINING_FORMATS, FloatFormat, format_named
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import PATHS, path_named
from lossfuzz.harness.paths.unloaded import facts_of, learn
from lossfuzz.harness.records.fields import (
    count,
    devices,
    inner,
    number,
    numbers,
    shapes_of,
    texts,
)
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.records.modes import MODES, mode_named
from lossfuzz.quantities import MOST_SECONDS, counted
from lossfuzz.strategies.bounds import Bounds, checked_bounds
from lossfuzz.strategies.families import FAMILIES, family_named
from lossfuzz.strategies.recipes import DEFAULT_SHAPES, Recipe, planned_count, planned_recipes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.harness.paths.path import LossPath

DEFAULT_ROWS = 6240
"""Rows per cell: every family once, on the default shapes by turns."""

MOST_ROWS = 10**12

DEFAULT_SEARCH = 0.25

MEASURING_SHARE = 0.6
SHRINKING_ENDS = 0.85
"""Of a budget in seconds: the share for measuring, and the share by which shrinking ends."""

PATHS_PER_GROUP = 6
RECIPES_PER_TASK = 48
"""More than the default rows make, so that a default campaign meets no group of cells twice."""

Group = tuple[tuple["LossPath", ...], FloatFormat, str]
"""Paths of one loss in a format on a device, which run in all modes of the plan side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The choices of a run.

    Attributes:
        paths: loss paths, in the table's order.
        formats: formats of the logits.
        modes: of `MODES`.
        devices: names of TensorFlow's devices; empty means all that there are.
        families: names of families.
        shapes: shape buckets.
        rows: budget per cell in rows, rounded up to whole batches; None with a budget in seconds.
        seconds: budget of the whole run in seconds of measuring; None with a budget in rows.
        seed: of all recipes.
        search: batches of mutated recipes for each planned batch; they add findings, and leave
            the statistics alone. The budget in rows does not count them.
        bounds: the interval that all logits lie in, such as (-1, 1) for cosines; None for any.
    """

    paths: tuple[LossPath, ...] = PATHS
    formats: tuple[FloatFormat, ...] = TRAINING_FORMATS
    modes: tuple[str, ...] = MODES
    devices: tuple[str, ...] = ()
    families: tuple[str, ...] = tuple(FAMILIES)
    shapes: tuple[tuple[int, ...], ...] = DEFAULT_SHAPES
    rows: int | None = DEFAULT_ROWS
    seconds: float | None = None
    seed: int = 0
    search: float = DEFAULT_SEARCH
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        for name in ("paths", "formats", "modes", "families", "shapes"):
            if not getattr(self, name):
                raise ValueError(f"expected at least one of the {name}, got none")
        if (self.rows is None) == (self.seconds is None):
            raise ValueError("expected a budget in rows or in seconds, not both and not neither")
        budget = self.rows if self.rows is not None else self.seconds
        if budget is None or not budget > 0:
            raise ValueError(f"expected a budget above 0, got {budget}")
        if self.rows is not None and self.rows > MOST_ROWS:
            raise ValueError(
                f"expected a budget of at most {MOST_ROWS:,} rows, got {counted(self.rows)}: with "
                "a million rows a second that many take eleven days"
            )
        if self.seconds is not None and self.seconds > MOST_SECONDS:
            raise ValueError(
                f"expected a budget of at most {MOST_SECONDS:,.0f} seconds, got {self.seconds:.3g}"
            )
        if self.seed < 0:
            raise ValueError(f"expected a seed of 0 or more, got {self.seed}")
        if self.bounds is not None:
            object.__setattr__(self, "bounds", checked_bounds(self.bounds))
        if not 0 <= self.search <= _MOST_SEARCH:
            raise ValueError(f"expected a search of 0 to {_MOST_SEARCH}, got {self.search}")

    def cells(self) -> list[Cell]:
        """Every path in every format, on every device, in every mode."""
        return [
            Cell(path=path, format=fmt, mode=mode, device=device)
            for path in self.paths
            for fmt in self.formats
            for device in self.devices
            for mode in self.modes
        ]

    def groups(self) -> list[Group]:
        """The cells in groups that are measured together, format by format."""
        by_loss: dict[str, list[LossPath]] = {}
        for path in self.paths:
            by_loss.setdefault(path.loss.name, []).append(path)
        parts = [
            tuple(paths[start : start + PATHS_PER_GROUP])
            for paths in by_loss.values()
            for start in range(0, len(paths), PATHS_PER_GROUP)
        ]
        return [
            (paths, fmt, device)
            for fmt in self.formats
            for paths in parts
            for device in self.devices
        ]

    def mutants_after(self, number: int) -> int:
        """How many batches of mutated recipes follow a task's recipe of that number, from 0."""
        return int(self.search * (number + 1)) - int(self.search * number)

    def recipes(self, fmt: FloatFormat, *, first: int = 0) -> Iterator[Recipe]:
        """The recipes of one format: for the budget in rows, or without end.

        Args:
            fmt: of the logits.
            first: number of the first one, from 0; those before it are not drawn.
        """
        return planned_recipes(
            families=self.families,
            fmt=fmt,
            shapes=self.shapes,
            rows=self.rows,
            seed=self.seed,
            bounds=self.bounds,
            first=first,
        )

    def recipes_per_format(self) -> int | None:
        """How many recipes the budget in rows makes for each format; None if time decides.

        None is drawn for that, so that a plan of any size is counted at once.
        """
        if self.rows is None:
            return None
        return planned_count(self.families, self.shapes, self.rows)

    def batches(self) -> int | None:
        """How many batches the budget in rows makes for all formats; None if time decides."""
        count = self.recipes_per_format()
        return None if count is None else len(self.formats) * count

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Plan:
        """The plan that `to_json` wrote; nothing is imported that it names, see `path_named`.

        Raises:
            ValueError: it names a path, format, mode or family that is not known here, or a field
                is of another kind.
        """
        learn(inner(record, "own", {}))
        families = texts(record, "families")
        for family in families:
            family_named(family)
        bounds = _bounds(record)
        return cls(
            paths=tuple(_path(name, bounds) for name in texts(record, "paths")),
            formats=tuple(format_named(name) for name in texts(record, "formats")),
            modes=tuple(map(mode_named, texts(record, "modes"))),
            devices=devices(record),
            families=families,
            shapes=shapes_of(record),
            rows=None if record.get("rows") is None else count(record, "rows"),
            seconds=None if record.get("seconds") is None else number(record, "seconds"),
            seed=count(record, "seed"),
            search=number(record, "search", 0.0),
            bounds=bounds,
        )

    def to_json(self) -> dict[str, Any]:
        """The choices as JSON's types."""
        return {
            "paths": [path.name for path in self.paths],
            "formats": [fmt.dtype_name for fmt in self.formats],
            "modes": list(self.modes),
            "devices": list(self.devices),
            "families": list(self.families),
            "shapes": ["x".join(map(str, shape)) for shape in self.shapes],
            "rows": self.rows,
            "seconds": self.seconds,
            "seed": self.seed,
            "search": self.search,
            **({} if self.bounds is None else {"bounds": list(map(json_number, self.bounds))}),
            **({"own": told} if (told := facts_of(self.paths)) else {}),
        }


def _bounds(record: dict[str, Any]) -> Bounds | None:
    """The interval that a plan's record tells.

    Raises:
        ValueError: it is no pair of numbers.
    """
    if record.get("bounds") is None:
        return None
    told = numbers(record, "bounds")
    if len(told) != 2:
        raise ValueError(f"the field 'bounds' has {len(told)} numbers, expected 2")
    return told[0], told[1]


def _path(name: str, bounds: Any) -> LossPath:
    """The path of a name; a user's own with the bounds of its inputs."""
    path = path_named(name)
    return replace(path, bounds=checked_bounds(bounds)) if path.own and bounds else path


_MOST_SEARCH = 16
