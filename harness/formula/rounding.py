"""What rounding explains of a user's formula, derived from the formula itself.

The formula is evaluated over enclosures whose unit roundoff is that of the format that is
measured: every operation then adds what it rounds there, and the radius of the result bounds what
a sound implementation of the formula errs, to first order in u and more (running error analysis:
Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.3). Where that bound is
infinite, as for the exponential of a large logit, the values' own sensitivity stands in for it:
by how much they move when every logit moves by one unit roundoff, relatively.

Below all that lies a floor: rounding near 0 is not asked to be better than that of an ordinary
row's values, whose size the gradients of a fixed batch of ordinary rows tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.numbers import FLOAT64, Numbers
from lossfuzz.harness.formula.stable import StableTape
from lossfuzz.harness.losses.spec import ExplainedRounding
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.numbers.bounds import defect_bound
from lossfuzz.harness.numbers.formats import format_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.formula.user_function import UserFunction
    from lossfuzz.harness.losses.targets import Targets
    from lossfuzz.harness.numbers.formats import FloatFormat

    Reals = NDArray[np.float64]
    Flags = NDArray[np.bool_]

_FREEDOM = 2.0
"""How much an implementation may err beyond the formula as it is written: its order is free."""

_FUNCTION_UNITS = 2
"""Of u: an ulp, which is what good kernels' elementary functions err at most."""

_PROBES = 3
_ORDINARY_LOGITS = 1 << 12
_SEED = 20


def explained_rounding(
    function: UserFunction,
    logits: NDArray[Any],
    targets: Targets,
    reference: Reference,
    *,
    floors: tuple[float, float],
    error_factor: float,
    moved: Callable[[Reals], Reference],
) -> ExplainedRounding:
    """What rounding explains of every row.

    Args:
        function: the formula.
        logits: shape ``[rows, classes]``.
        targets: of the rows.
        reference: their exact values.
        floors: the smallest such units, from `ordinary_sizes`.
        error_factor: of the loss.
        moved: the exact values for other logits, of rows chosen by their numbers.
    """
    fmt, tape = format_of(logits), _tape(logits, targets)
    with np.errstate(all="ignore"):
        loss = function.over_rows(tape, targets)
        gradient = tape.gradient(loss)
        errors = [
            np.broadcast_to(loss.value.radius, (len(logits), 1))[:, 0].copy(),
            gradient.radius.max(axis=1),
        ]
        unknown = ~np.isfinite(errors[0]) | ~np.isfinite(errors[1])
        if (unknown & reference.judged).any():
            _probe(errors, unknown & reference.judged, logits, fmt, reference, moved)
        explained = fmt.unit_roundoff * defect_bound(
            logits.shape[1], fmt, error_factor=error_factor
        )
        loss_unit, slope_unit = (_FREEDOM * np.nan_to_num(one) / explained for one in errors)
        return ExplainedRounding(
            loss=np.maximum(np.maximum(floors[0], loss_unit), np.abs(reference.loss)),
            gradient=np.maximum(floors[1], slope_unit),
        )


def _probe(
    errors: list[Reals],
    rows: Flags,
    logits: NDArray[Any],
    fmt: FloatFormat,
    reference: Reference,
    moved: Callable[[Reals], Reference],
) -> None:
    """Replace the unknown errors of rows by what moving every logit by u, either way, does."""
    wide = logits.astype(np.float64)
    generator = np.random.default_rng(_SEED)
    largest = [np.zeros(len(logits)) for _ in errors]
    for _ in range(_PROBES):
        steps = generator.choice([-1.0, 1.0], wide.shape) * fmt.unit_roundoff
        there = wide * (1 + steps)
        there[~rows] = np.nan  # so that only these rows are evaluated
        found = moved(there)
        changes = (
            np.abs(found.loss - reference.loss),
            np.abs(found.gradient - reference.gradient).max(axis=1),
        )
        for kept, change in zip(largest, changes, strict=True):
            np.fmax(kept, change, out=kept)
    spread = np.abs(wide * reference.gradient)
    first_order = fmt.unit_roundoff * np.where(np.isfinite(spread), spread, 0.0).sum(axis=1)
    np.fmax(largest[0], first_order, out=largest[0])
    for error, found_change in zip(errors, largest, strict=True):
        error[rows] = np.where(np.isfinite(error[rows]), error[rows], 2 * found_change[rows])


def ordinary_sizes(function: UserFunction, classes: int) -> tuple[float, float]:
    """Of ordinary rows: half the largest 1-norm of a gradient, and its largest component.

    The first is what the loss's rounding counts against: of softmax cross-entropy it is nearly 1.
    """
    rows = max(2, _ORDINARY_LOGITS // classes)
    logits, targets = ordinary_rows(function.target, rows, classes)
    tape = StableTape(Enclosure.exactly(logits.astype(np.float64), FLOAT64), targets)
    with np.errstate(all="ignore"):
        gradient = np.abs(tape.gradient(function.over_rows(tape, targets)).to_float64())
    gradient = gradient[np.isfinite(gradient).all(axis=1)]
    if not len(gradient):
        gradient = _gradients_elsewhere(function, logits, targets)
    steepest = float(gradient.max(initial=0.0))
    if steepest == 0:
        return 1.0, 1.0
    return max(steepest, float(gradient.sum(axis=1).max()) / 2), steepest


def ordinary_rows(kind: str, rows: int, classes: int) -> tuple[NDArray[np.float32], Targets]:
    """Always the same rows of logits such as a network's, and their targets.

    In every other row the label is as likely as all other classes together, so that many classes
    do not make the gradients of all rows small.
    """
    generator = np.random.default_rng([_SEED, classes])
    logits = generator.normal(0.0, 2.0, (rows, classes)).astype(np.float32)
    labels = generator.integers(0, classes, rows)
    odd = np.arange(1, rows, 2)
    others = np.exp(logits[odd].astype(np.float64))
    others[np.arange(len(odd)), labels[odd]] = 0.0
    if classes > 1:
        logits[odd, labels[odd]] = np.log(others.sum(axis=1))
    return logits, targets_of(kind, logits, labels)


def rows_in_domains(logits: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Ordinary rows brought into (0, 1), into (-1, 1) and above 0, for formulas that want that."""
    wide = logits.astype(np.float64)
    moved = (1 / (1 + np.exp(-wide)), np.tanh(wide / 2), np.exp(wide / 2))
    return [one.astype(np.float32) for one in moved]


def _gradients_elsewhere(
    function: UserFunction, logits: NDArray[np.float32], targets: Targets
) -> Reals:
    """The finite gradients on the first of `rows_in_domains` that has any, without their signs."""
    found = np.zeros((0, logits.shape[1]))
    for rows in rows_in_domains(logits):
        tape = StableTape(Enclosure.exactly(rows.astype(np.float64), FLOAT64), targets)
        with np.errstate(all="ignore"):
            gradient = np.abs(tape.gradient(function.over_rows(tape, targets)).to_float64())
        found = gradient[np.isfinite(gradient).all(axis=1)]
        if len(found):
            break
    return found


def _tape(logits: NDArray[Any], targets: Targets) -> StableTape:
    fmt = format_of(logits)
    values = np.where(targets.masked, 0.0, logits.astype(np.float64))
    return StableTape(Enclosure.exactly(values, _numbers(fmt)), targets)


def _numbers(fmt: FloatFormat) -> Numbers:
    """Float64's numbers that count as if they were rounded to a format."""
    return replace(
        FLOAT64,
        name=f"as if {fmt.name}",
        unit_roundoff=fmt.unit_roundoff,
        function_units=_FUNCTION_UNITS,
    )
