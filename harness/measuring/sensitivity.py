"""Errors that the rounding of the inputs alone explains: a loss may be that sensitive.

A user's formula may be written so that little rounds in it, while every implementation rounds the
inputs' multiples, or sums of them: ``x / 0.01`` and ``(x - x[y]) / 0.01`` lead to one loss. So a
verdict must not depend on how the formula is written. What it may rest on is the loss itself: if
its exact values for inputs that differ by a unit roundoff differ by as much as the computed value
errs, then a backward stable algorithm errs so (Higham 2002, "Accuracy and Stability of Numerical
Algorithms", section 1.5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.exact.oracle import row_reference
from lossfuzz.harness.results import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.measuring.measure import Measurement
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.running.execution import Observed

_PROBES = 3
_ROUNDINGS = 8.0
"""How many times the change by a unit roundoff of the inputs an algorithm may err."""

_SEED = 25
_FINITE_KINDS = (
    kinds.LOSS_COLLAPSE,
    kinds.SATURATION,
    kinds.GRADIENT_COLLAPSE,
    kinds.LABEL_GRADIENT_COLLAPSE,
    kinds.SIGN_FLIP,
    kinds.INACCURATE_LOSS,
    kinds.INACCURATE_GRADIENT,
)


def explained_by_inputs(
    measurement: Measurement, observed: Observed, prepared: Prepared
) -> NDArray[np.bool_]:
    """Which rows show defects of finite values that the rounding of their inputs explains.

    Only a user's formula of each row is asked, and only of rows that show such a defect.
    """
    loss = prepared.loss
    shown = measurement.judged.copy()
    shown &= np.logical_or.reduce([measurement.defects[kind] for kind in _FINITE_KINDS])
    if loss.derived is None or loss.reduction is not None or not shown.any():
        return np.zeros_like(shown)
    rows = np.flatnonzero(shown)
    targets, reference = prepared.targets.take(rows), prepared.reference
    wide = prepared.rows[rows].astype(np.float64)
    u = prepared.conditions.format.unit_roundoff
    generator = np.random.default_rng(_SEED)
    changes = np.zeros((2, len(rows)))
    with np.errstate(invalid="ignore"):
        for signs in _signs(generator, wide.shape, targets.labels):
            moved = wide * (1 + u * signs)
            there = row_reference(loss, moved, targets)
            slopes = np.abs(there.gradient - reference.gradient[rows]).max(axis=1)
            for kept, change in zip(
                changes, (np.abs(there.loss - reference.loss[rows]), slopes), strict=True
            ):
                np.fmax(kept, change, out=kept)
        errors = (
            np.abs(observed.loss[rows].astype(np.float64) - reference.loss[rows]),
            np.abs(observed.gradient[rows].astype(np.float64) - reference.gradient[rows]).max(
                axis=1
            ),
        )
        units = u * np.array([measurement.bound]) * prepared.conditions.loss_scale[rows]
        slope_units = u * np.array([measurement.bound]) * prepared.conditions.scale[rows]
        explained = (errors[0] <= np.maximum(units, _ROUNDINGS * changes[0])) & (
            errors[1] <= np.maximum(slope_units, _ROUNDINGS * changes[1])
        )
    found = np.zeros_like(shown)
    found[rows[explained]] = True
    return found


def _signs(
    generator: np.random.Generator, shape: tuple[int, ...], labels: NDArray[np.int64]
) -> Iterator[NDArray[np.float64]]:
    """Ways in which the inputs are rounded: the label's up and the others down, then any."""
    against = -np.ones(shape)
    against[np.arange(shape[0]), labels] = 1.0
    yield against
    for _ in range(_PROBES):
        yield generator.choice([-1.0, 1.0], shape)
