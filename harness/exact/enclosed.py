"""The reference of any loss: evaluated over enclosures, at a precision that is raised per row.

A whole batch is evaluated in float64; rows of which a value is not enclosed tightly enough go to
the machine's extended precision, where it has one, and then to mpmath, at a precision that is
raised until it is; those of a user's formula, whose exponentials may be of any size, to Arb.
"Tightly" is a relative error of `RELATIVE_BOUND`, or an absolute one of `kernel.ABSOLUTE_BOUND`
for what vanishes: an exact 0 by cancellation can never be told from a number below that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.judge import Reference
from lossfuzz.harness.exact.kernel import ABSOLUTE_BOUND
from lossfuzz.harness.exact.numbers import (
    EXTENDED,
    FLOAT64,
    Numbers,
    extended_is_wider,
    mpmath_numbers,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import Derived, LossSpec
    from lossfuzz.harness.losses.targets import Targets

RELATIVE_BOUND = 2.0**-40
"""Of every value: 2**-16 ulp of binary32."""

_PRECISIONS = (128, 320, 640)
"""Of mpmath. The last leaves nothing undecided: values are below 2**140, so their errors are below
2**-480, and a formula would have to lose 280 bits beyond that."""


def has_exact_value(spec: LossSpec, logits: NDArray[Any], targets: Targets) -> NDArray[np.bool_]:
    """Which rows have a finite exact loss: see the loss's ``domain``."""
    return finite_rows(logits, targets, masks=spec.masks, needs_mass=spec.needs_mass)


def finite_rows(
    logits: NDArray[Any], targets: Targets, *, masks: bool, needs_mass: bool
) -> NDArray[np.bool_]:
    """The same for a loss of which no more is known; see `LossSpec` for its two properties."""
    wide = logits.astype(np.float64)
    finite = np.isfinite(wide)
    if not masks:
        return np.asarray(finite.all(axis=1))
    judged = (finite | targets.masked).all(axis=1) & finite.any(axis=1)
    if needs_mass:
        return np.asarray(judged & finite.all(axis=1))
    return np.asarray(judged & ~(targets.masked & (targets.weights > 0)).any(axis=1))


def reference_by_enclosures(
    spec: LossSpec, logits: NDArray[Any], targets: Targets, *, tight_gradient: bool = True
) -> Reference:
    """Loss and gradient of every row, each within `RELATIVE_BOUND`.

    Args:
        spec: a loss of a row.
        logits: shape ``[rows, classes]`` of any format up to binary32.
        targets: of its rows.
        tight_gradient: whether the gradient's components are wanted to a relative bound; else
            their error is bounded by `RELATIVE_BOUND` times the loss's steepness.

    Raises:
        ArithmeticError: the highest precision leaves a row undecided.
    """
    rows, classes = logits.shape
    judged = has_exact_value(spec, logits, targets)
    loss, gradient = np.full(rows, np.nan), np.full((rows, classes), np.nan)
    scale = np.nan if tight_gradient else spec.steepness
    remaining = np.flatnonzero(judged)
    left_by: list[int] = []
    for numbers in _ladder() if spec.derived is None else _ladder()[:2]:
        if remaining.size:
            kept = _evaluate(spec, logits, targets, remaining, numbers, scale, loss, gradient)
            remaining = remaining[~kept]
        left_by.append(len(remaining))
    if spec.derived is not None:
        _by_row(spec.derived, logits, targets, remaining, loss, gradient, judged)
    elif remaining.size:
        row = int(remaining[0])
        raise ArithmeticError(
            f"{_PRECISIONS[-1]} bits left the {spec.name} of logits {logits[row].tolist()} with "
            f"targets {targets.weights[row].tolist()} undecided"
        )
    return Reference(
        loss=loss,
        gradient=gradient,
        relative_bound=RELATIVE_BOUND,
        component_bounds=np.full(rows, RELATIVE_BOUND),
        judged=judged,
        extended_rows=left_by[0],
        mpmath_rows=left_by[1],
    )


def _by_row(
    derived: Derived,
    logits: NDArray[Any],
    targets: Targets,
    rows: NDArray[np.intp],
    loss: NDArray[np.float64],
    gradient: NDArray[np.float64],
    judged: NDArray[np.bool_],
) -> None:
    """Store the exact values of rows of a user's formula, or that they have none.

    Rows that are equal are evaluated once.
    """
    known: dict[bytes, tuple[float, NDArray[np.float64]] | None] = {}
    for row in rows.tolist():
        values, weights = logits[row].astype(np.float64), targets.weights[row]
        key = values.tobytes() + weights.tobytes()
        if key not in known:
            known[key] = derived.exact_row(values, weights)
        found = known[key]
        if found is None:
            judged[row] = False
        else:
            loss[row], gradient[row] = found


def _ladder() -> list[Numbers]:
    wider = EXTENDED if extended_is_wider() else mpmath_numbers(64)
    return [FLOAT64, wider, *map(mpmath_numbers, _PRECISIONS)]


def _evaluate(
    spec: LossSpec,
    logits: NDArray[Any],
    targets: Targets,
    rows: NDArray[np.intp],
    numbers: Numbers,
    scale: float,
    loss: NDArray[np.float64],
    gradient: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Evaluate rows, store what is tight enough; returns which of them were."""
    found, slopes = evaluate_rows(spec, logits[rows], targets.take(rows), numbers)
    with np.errstate(over="ignore"):
        tight = _tight(found, np.nan) & _tight(slopes, scale)
        loss[rows[tight]] = found.to_float64()[tight, 0]
        gradient[rows[tight]] = slopes.to_float64()[tight]
    return tight


def evaluate_rows(
    spec: LossSpec, logits: NDArray[Any], targets: Targets, numbers: Numbers
) -> tuple[Enclosure, Enclosure]:
    """Loss ``[rows, 1]`` and gradient ``[rows, classes]`` over enclosures of some numbers."""
    values = np.where(targets.masked, 0.0, logits.astype(np.float64))
    with np.errstate(all="ignore"):
        loss, gradient = spec.evaluate(Enclosure.exactly(values, numbers), targets)
    return loss, Enclosure(
        np.broadcast_to(gradient.middle, values.shape),
        np.broadcast_to(gradient.radius, values.shape),
        numbers,
    )


def _tight(values: Enclosure, scale: float) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        tight = (values.relative() <= RELATIVE_BOUND) | (values.absolute() <= ABSOLUTE_BOUND)
        if not np.isnan(scale):
            tight |= values.absolute() <= RELATIVE_BOUND * scale
        finite = np.isfinite(values.to_float64())
    return np.asarray((tight & finite).all(axis=1))
