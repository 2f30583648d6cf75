"""``lossfuzz cliffs``: the exact margins at which chosen cells break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.backend import device_named, start_tensorflow
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.measuring.thresholds import cliffs_of
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.results.cliffs import CellCliffs
from lossfuzz.harness.running.execution import CellRunner, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.harness.results.run import CellResult
    from lossfuzz.harness.running.execution import Runner


def cliffs(
    paths: Sequence[LossPath],
    formats: Sequence[FloatFormat],
    modes: Sequence[str],
    device: str,
    classes: int = 2,
) -> Iterator[CellCliffs]:
    """Find the cliffs of cells, one after another, all modes of a path and format together.

    Args:
        paths: loss paths.
        formats: of the logits.
        modes: of `MODES`.
        device: TensorFlow's name of one.
        classes: of the rows; binary losses have one logit.

    Raises:
        BackendError: TensorFlow cannot be started, or lacks the device.
        ValueError: there are fewer than two classes.
    """
    name = device_named(start_tensorflow(), device)
    for path in paths:
        for fmt in formats:
            for mode in modes:
                yield _cliffs_of(Cell(path=path, format=fmt, mode=mode, device=name), classes)


def find_cliffs(result: CellResult, runner: Runner) -> None:
    """Store a cell's cliffs for two classes in its result; none if it refuses such rows."""
    try:
        result.cliffs = tuple(cliffs_of(runner))
    except (UnavailableError, FormulaError):  # a formula of another number of classes
        result.cliffs = ()


def _cliffs_of(cell: Cell, classes: int) -> CellCliffs:
    try:
        return CellCliffs(cell=cell, cliffs=tuple(cliffs_of(CellRunner(cell), classes=classes)))
    except (UnavailableError, FormulaError) as error:
        return CellCliffs(cell=cell, unavailable=str(error))
