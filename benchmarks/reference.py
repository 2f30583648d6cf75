"""How fast the exact reference is beside what it judges: ratios measured in one run, one core.

    python benchmarks/reference.py [--seconds 1.0]

Each line gives millions of logits a second for the certified reference (kernel and judge), its
kernel alone, mpmath, Arb, scipy's uncertified float64 log_softmax, the measurement of one cell,
and TensorFlow's clip route forward and backward; then the ratios that matter.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import log_softmax

from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.exact import kernel
from lossfuzz.harness.exact.arb import arb_rounded_row
from lossfuzz.harness.exact.judge import reference_of
from lossfuzz.harness.exact.rounded import correctly_rounded_row
from lossfuzz.harness.measuring.conditions import conditions_of
from lossfuzz.harness.measuring.measure import measure
from lossfuzz.harness.numbers.formats import BINARY64, TRAINING_FORMATS, FloatFormat
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running.execution import CellRunner

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ((256, 10), (128, 257), (40_000, 10), (400, 1000), (12, 32_000))
"""The default run's batches, and large ones in which no fixed cost is left."""

CLIP_ROUTE = "keras/function/softmax-identity"


def logits_per_second(call: Callable[[], Any], logits: int, seconds: float) -> float:
    """The best of repeated calls within some seconds, after one call to warm up."""
    call()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return logits / best


def speeds(shape: tuple[int, int], fmt: FloatFormat, seconds: float) -> dict[str, float]:
    """Logits per second of every contestant on one normal batch."""
    generator = np.random.default_rng(0)
    logits = fmt.cast(generator.normal(size=shape) * 4)
    labels = generator.integers(0, shape[1], shape[0]).astype(np.int32)
    wide, index = logits.astype(np.float64), labels.astype(np.int64)
    few = 1 if shape[1] > 1000 else max(1, 1000 // shape[1])
    reference = reference_of(logits, labels)
    conditions = conditions_of(logits, labels, reference)

    def slow(rounded_row: Callable[..., Any]) -> Callable[[], Any]:
        formats = [BINARY64, fmt]
        return lambda: [rounded_row(wide[k], int(index[k]), formats) for k in range(few)]

    clip = paths_matching([CLIP_ROUTE])[0]
    cells = {m: Cell(path=clip, format=fmt, mode=m, device="CPU:0") for m in MODES}
    runners = {mode: CellRunner(cell) for mode, cell in cells.items()}
    observed = runners["eager"].run(logits, labels)
    size, small = logits.size, few * shape[1]
    return {
        "reference": logits_per_second(lambda: reference_of(logits, labels), size, seconds),
        "kernel": logits_per_second(lambda: kernel.evaluate(wide, index), size, seconds),
        "mpmath": logits_per_second(slow(correctly_rounded_row), small, seconds),
        "Arb": logits_per_second(slow(arb_rounded_row), small, seconds),
        "scipy": logits_per_second(lambda: log_softmax(wide, axis=-1), size, seconds),
        "measurement": logits_per_second(
            lambda: measure(observed.loss, observed.gradient, reference, labels, conditions),
            size,
            seconds,
        ),
        **{
            f"TF {mode}": logits_per_second(
                lambda runner=runner: runner.run(logits, labels),  # type: ignore[misc]
                size,
                seconds,
            )
            for mode, runner in runners.items()
        },
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="per figure (0.5)")
    options = parser.parse_args()
    start_tensorflow()
    table = Table(title="millions of logits a second, and ratios of the same run")
    names: list[str] = []
    for shape in SHAPES:
        for fmt in TRAINING_FORMATS:
            found = speeds(shape, fmt, options.seconds)
            if not names:
                names = list(found)
                for name in ("batch", "format", *names):
                    table.add_column(name)
                for ratio in ("ref/mpmath", "ref/Arb", "ref/TF eager", "meas./TF eager"):
                    table.add_column(ratio)
            reference, eager = found["reference"], found["TF eager"]
            table.add_row(
                f"{shape[0]} x {shape[1]}",
                fmt.dtype_name,
                *(f"{found[name] / 1e6:.3g}" for name in names),
                f"{reference / found['mpmath']:.0f}",
                f"{reference / found['Arb']:.0f}",
                f"{reference / eager:.2f}",
                f"{found['measurement'] / eager:.2f}",
            )
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
