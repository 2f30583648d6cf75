"""Speed of every loss's reference and measurement beside TensorFlow's own step, in one run."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.exact.oracle import row_reference
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.measuring.measure import measure
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import PATHS
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec

SHAPES = ((256, 10), (8, 16, 257), (4000, 10), (256, 1000))


def seconds_of(work: Callable[[], Any], budget: float) -> float:
    """The fastest of as many calls as the budget allows."""
    work()
    fastest, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < budget:
        start = time.perf_counter()
        work()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def ratios(loss: LossSpec, shape: tuple[int, ...], budget: float) -> tuple[float, float, float]:
    """Seconds of the reference, of a measurement, and of the loss's first path in eager."""
    recipe = Recipe(family="normal", format="float32", shape=shape, seed=1, magnitude=0.6)
    batch = expand(recipe)
    prepared = prepare(batch.logits, batch.labels, {}, loss)
    path = next(path for path in PATHS if path.loss is loss)
    runner = CellRunner(Cell(path=path, format=BINARY32, mode="eager", device="CPU:0"))
    fed = prepared.fed
    observed = runner.run(prepared.logits, fed)
    return (
        seconds_of(lambda: row_reference(loss, prepared.rows, prepared.targets), budget),
        seconds_of(
            lambda: measure(
                observed.loss,
                observed.gradient,
                prepared.reference,
                prepared.row_labels,
                prepared.conditions,
            ),
            budget,
        ),
        seconds_of(lambda: runner.run(prepared.logits, fed), budget),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.2, help="per figure (0.2)")
    options = parser.parse_args()
    start_tensorflow()
    table = Table(
        title="time of reference / measurement, as multiples of TF's eager step, float32"
    )
    table.add_column("loss")
    for shape in SHAPES:
        table.add_column("x".join(map(str, shape)))
    for loss in LOSSES:
        texts = []
        for shape in SHAPES:
            reference, measurement, step = ratios(loss, shape, options.seconds)
            texts.append(f"{reference / step:.2f} / {measurement / step:.2f}")
        table.add_row(loss.name, *texts)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
