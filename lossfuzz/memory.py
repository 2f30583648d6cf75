"""``lossfuzz memory``: what every path costs, by the route that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.backend import device_named, start_tensorflow
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.running.execution import UnavailableError
from lossfuzz.harness.running.memory import Footprint, footprint_of
from lossfuzz.harness.running.routes import route_of
from lossfuzz.reports.memory import CellCost

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.path import LossPath

DEFAULT_SHAPE = (64, 512, 1000)
"""Sequence labelling: batch, time, classes."""

_FUSED = "tf.nn/fused"


def costs(
    paths: Sequence[LossPath],
    formats: Sequence[FloatFormat],
    modes: Sequence[str],
    device: str,
    shape: tuple[int, ...],
) -> Iterator[CellCost]:
    """Measure cells one after another, the fused kernel first in every format and mode.

    Raises:
        BackendError: TensorFlow cannot be started, or lacks the device, or counts no memory.
    """
    name = device_named(start_tensorflow(), device)
    fused = paths_matching([_FUSED])[0]
    for fmt in formats:
        for mode in modes:
            baseline = footprint_of(Cell(path=fused, format=fmt, mode=mode, device=name), shape)
            for path in paths:
                cell = Cell(path=path, format=fmt, mode=mode, device=name)
                yield _cost(cell, shape, baseline)


def _cost(cell: Cell, shape: tuple[int, ...], baseline: Footprint) -> CellCost:
    try:
        route = route_of(cell).name
        footprint = footprint_of(cell, shape)
    except UnavailableError as error:
        return CellCost(
            cell=cell,
            route="-",
            footprint=None,
            unavailable=str(error),
            relative_time=float("nan"),
        )
    return CellCost(
        cell=cell,
        route=route,
        footprint=footprint,
        unavailable=None,
        relative_time=footprint.seconds / baseline.seconds,
    )
