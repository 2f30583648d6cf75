"""What a careful user writes without lossfuzz: Hypothesis, NumPy arrays, assert_allclose.

Loss and gradient are compared with the same loss in float64, written by its stable textbook form.
The set-up is meant to be fair: drawn are rows of up to eight classes, any finite number up to
10^4, often the usual suspects of Hypothesis's own; tolerances are as tight as leaves sound losses
alone; a shrunk counterexample is what counts. It stops at the first one, or when time is up.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.extra import numpy as arrays
from in_float64 import in_float64

from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.numbers.formats import BINARY32, FloatFormat, format_named
from lossfuzz.mathematics import spec_of

if TYPE_CHECKING:
    from planted_entry import Planted, Sound

_LARGEST = 1e4
_ROWS = 4
_MOST_CLASSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHunt:
    """How Hypothesis alone did.

    Attributes:
        found: whether an assertion failed.
        kind: its first line.
        rows: rows that were run.
        seconds: until it failed and was shrunk, or until the budget was spent.
        row: the logits of the counterexample's first row.
    """

    found: bool
    kind: str
    rows: int
    seconds: float
    row: tuple[float, ...] = ()


class _TimeIsUp(BaseException):
    """The budget is spent."""


def plain_hypothesis(entry: Planted | Sound, budget: float) -> PlainHunt:
    """Test one loss for so many seconds, in its formats and modes by turns."""
    started = time.perf_counter()
    modes = getattr(entry, "modes", ("eager", "graph", "xla"))
    cells = [
        (format_named(name), mode)
        for mode in modes
        for name in ("float32", "float16", "bfloat16")
        if name in entry.formats
    ]
    rows = 0
    for number, (fmt, mode) in enumerate(cells):
        left = started + budget - time.perf_counter()
        test = _Test(entry, fmt, mode, time.perf_counter() + left / (len(cells) - number))
        failure = test.failure()
        rows += test.rows
        if failure is not None:
            return PlainHunt(
                found=True,
                kind=failure,
                rows=rows,
                seconds=time.perf_counter() - started,
                row=test.last,
            )
    return PlainHunt(found=False, kind="", rows=rows, seconds=time.perf_counter() - started)


class _Test:
    """A property test of one loss in one format and mode."""

    def __init__(self, entry: Planted | Sound, fmt: FloatFormat, mode: str, end: float) -> None:
        self._entry, self._format, self._end = entry, fmt, end
        self._spec = spec_of(entry.against, entry.reduction)
        self._step = _compiled(entry.loss, mode)
        self._right = _compiled(lambda x, t: in_float64_loss(self._spec, x, t), "eager")
        self.rows = 0
        self.last: tuple[float, ...] = ()

    def failure(self) -> str | None:
        """The first line of what failed; None if nothing did in time."""
        drawn = st.integers(2, _MOST_CLASSES).flatmap(self._batches)
        checked = given(drawn)(self._check)
        quiet = settings(
            max_examples=10**6,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        try:
            seed(0)(quiet(checked))()
        except _TimeIsUp:
            return None
        except FlakyFailure as error:
            return f"flaky: {str(error).splitlines()[0]}"
        except Exception as error:  # noqa: BLE001 - whatever a planted loss raises is its failure
            return (str(error).strip() or type(error).__name__).splitlines()[0]
        return None

    def _batches(self, classes: int) -> st.SearchStrategy[tuple[Any, Any]]:
        width = 32 if self._format is BINARY32 else 16
        elements = st.floats(-_LARGEST, _LARGEST, width=width)
        rows = arrays.arrays(np.float32, (_ROWS, classes), elements=elements)
        return st.tuples(
            rows, arrays.arrays(np.int32, _ROWS, elements=st.integers(0, classes - 1))
        )

    def _check(self, drawn: tuple[Any, Any]) -> None:
        if time.perf_counter() > self._end:
            raise _TimeIsUp
        values, labels = drawn
        logits = self._format.cast(values)
        self.rows += len(logits)
        self.last = tuple(float(value) for value in logits[0])
        targets = targets_of(self._spec.target, logits, labels)
        loss, gradient = self._step(logits, targets.fed(logits.shape, logits.dtype))
        right = self._right(
            logits.astype(np.float64), targets.fed(logits.shape, np.dtype(np.float64))
        )
        tolerance = 16 * self._format.unit_roundoff
        for got, wanted in zip((loss, gradient), right, strict=True):
            np.testing.assert_allclose(
                got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance
            )


def in_float64_loss(spec: Any, logits: Any, targets: Any) -> Any:
    """The loss of a row, or reduced, in float64."""
    import tensorflow as tf

    return in_float64(tf, spec)(logits, targets, None)


def _compiled(loss: Any, mode: str) -> Any:
    """Loss and gradient of arrays, as arrays."""
    import tensorflow as tf

    def step(logits: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = loss(logits, targets)
        return losses, tf.convert_to_tensor(tape.gradient(losses, logits))

    run = step if mode == "eager" else tf.function(step, jit_compile=mode == "xla" or None)
    return lambda logits, targets: tuple(
        one.numpy() for one in run(tf.constant(logits), tf.constant(targets))
    )
