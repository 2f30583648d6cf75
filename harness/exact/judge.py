"""The reference of a batch: the kernel where its enclosure decides, wider arithmetic elsewhere.

A row is decided when no value of it has a rounding boundary of its output format inside the
kernel's enclosure. Undecided rows are evaluated again in the machine's extended precision, where
it has one, and what that leaves undecided by mpmath. So every value rounds to the correctly
rounded one, whichever level gave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.exact import kernel
from lossfuzz.harness.exact.boundaries import (
    loss_to_odd,
    losses_near_boundary,
    rows_near_boundary,
    to_odd,
    wide_rows_near_boundary,
)
from lossfuzz.harness.exact.rounded import correctly_rounded_row, has_exact_value
from lossfuzz.harness.numbers.formats import BINARY64, FloatFormat, format_of, round_to_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Exact loss and gradient of a batch, up to a stated bound.

    Attributes:
        loss: shape ``[rows]``, float64; NaN in rows without an exact value.
        gradient: shape ``[rows, classes]``, float64.
        relative_bound: of every value, beside an absolute 2**-200.
        component_bounds: shape ``[rows]``, the same of the gradient's components other than the
            label's.
        judged: shape ``[rows]``; whether the row has an exact value.
        extended_rows: rows that the float64 kernel left undecided.
        mpmath_rows: rows that extended precision left undecided as well.
    """

    loss: NDArray[np.float64]
    gradient: NDArray[np.float64]
    relative_bound: float
    component_bounds: NDArray[np.float64]
    judged: NDArray[np.bool_]
    extended_rows: int
    mpmath_rows: int

    def rounded_loss(self, fmt: FloatFormat) -> NDArray[np.float64]:
        """The correctly rounded losses; fmt must be one of those that the judge decided for."""
        return round_to_format(self.loss, fmt)

    def rounded_gradient(self, fmt: FloatFormat) -> NDArray[np.float64]:
        """The correctly rounded gradients, in the logits' format."""
        return round_to_format(self.gradient, fmt)


def reference_of(
    logits: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    loss_formats: Sequence[FloatFormat] | None = None,
) -> Reference:
    """The exact loss and gradient of a batch of softmax cross-entropy.

    Args:
        logits: shape ``[rows, classes]`` in binary16, bfloat16, binary32 or binary64: the stored
            bits are the numbers. The gradient is decided for this format.
        labels: shape ``[rows]``, each in ``[0, classes)``.
        loss_formats: the formats that the loss is decided for; by default the logits' own.

    Raises:
        ValueError: shapes do not fit, or a label is out of range.
    """
    _check(logits, labels)
    fmt = format_of(logits)
    wanted = (fmt,) if loss_formats is None else tuple(loss_formats)
    index = labels.astype(np.int64)
    if BINARY64 in (fmt, *wanted):
        return _by_mpmath_alone(logits.astype(np.float64), index)
    values = kernel.evaluate(
        logits, index, flag=lambda block, bound: rows_near_boundary(block, bound, fmt)
    )
    judged = ~np.isnan(values.loss)
    label_values = values.gradient[np.arange(len(index)), index][:, None]
    undecided = values.flagged | rows_near_boundary(label_values, values.relative_bound, fmt)
    values.loss[:] = loss_to_odd(values)
    for loss_format in wanted:
        undecided |= losses_near_boundary(values, values.loss, loss_format)
    extended = np.flatnonzero(undecided & judged)
    remaining = _extend(values, extended, logits, index, wanted)
    _judge(values, remaining, logits, index, wanted)
    return Reference(
        loss=values.loss,
        gradient=values.gradient,
        relative_bound=values.relative_bound,
        component_bounds=values.component_bounds,
        judged=judged,
        extended_rows=len(extended),
        mpmath_rows=len(remaining),
    )


def _check(logits: NDArray[Any], labels: NDArray[np.integer[Any]]) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.shape[1] == 0:
        raise ValueError(
            f"expected logits [rows, classes] and labels [rows] with at least one class, "
            f"got {logits.shape} and {labels.shape}"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < logits.shape[1]):
        raise ValueError(
            f"labels must lie in [0, {logits.shape[1]}), got {labels.min()} to {labels.max()}"
        )


def _extend(
    values: kernel.KernelValues,
    rows: NDArray[np.intp],
    logits: NDArray[Any],
    labels: NDArray[np.int64],
    loss_formats: Sequence[FloatFormat],
) -> NDArray[np.intp]:
    """Evaluate rows in extended precision, store what is decided; return the other rows."""
    if not rows.size or np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        return rows
    wider = kernel.evaluate(logits[rows], labels[rows], np.longdouble)
    near = wide_rows_near_boundary(wider.gradient, wider.relative_bound, format_of(logits))
    loss = loss_to_odd(wider)
    for loss_format in loss_formats:
        near |= losses_near_boundary(wider, loss, loss_format)
    values.loss[rows[~near]] = loss[~near]
    gradient = wider.gradient[~near]
    values.gradient[rows[~near]] = to_odd(gradient, np.zeros_like(gradient))
    return rows[near]


def _judge(
    values: kernel.KernelValues,
    rows: NDArray[np.intp],
    logits: NDArray[Any],
    labels: NDArray[np.int64],
    loss_formats: Sequence[FloatFormat],
) -> None:
    """Overwrite rows with mpmath's values, so that they round as the exact values do."""
    fmt = format_of(logits)
    for row in rows:
        exact = correctly_rounded_row(
            logits[row].astype(np.float64), int(labels[row]), [BINARY64, fmt, *loss_formats]
        )
        loss = np.array([exact.loss[BINARY64]])
        for loss_format in loss_formats:
            loss = _agreeing(loss, np.array([exact.loss[loss_format]]), loss_format)
        values.loss[row] = loss[0]
        values.gradient[row] = _agreeing(exact.gradient[BINARY64], exact.gradient[fmt], fmt)


def _agreeing(
    values: NDArray[np.float64], rounded: NDArray[np.float64], fmt: FloatFormat
) -> NDArray[np.float64]:
    """The values, moved by one step of float64 where they would round to another number."""
    return np.where(round_to_format(values, fmt) == rounded, values, np.nextafter(values, rounded))


def _by_mpmath_alone(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Reference:
    loss = np.full(len(labels), np.nan)
    gradient = np.full(logits.shape, np.nan)
    judged = np.array(
        [has_exact_value(row, label) for row, label in zip(logits, labels, strict=True)], np.bool_
    )
    for row in np.flatnonzero(judged):
        exact = correctly_rounded_row(logits[row], int(labels[row]), [BINARY64])
        loss[row], gradient[row] = exact.loss[BINARY64], exact.gradient[BINARY64]
    return Reference(
        loss=loss,
        gradient=gradient,
        relative_bound=BINARY64.unit_roundoff,
        component_bounds=np.full(len(labels), BINARY64.unit_roundoff),
        judged=judged,
        extended_rows=0,
        mpmath_rows=int(judged.sum()),
    )
