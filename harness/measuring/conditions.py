"""What the measures of a batch need of its exact values; computed once for all cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.reduced import row_factors, row_headroom
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.measuring.margins import margins_of, row_softmax
from lossfuzz.harness.numbers.formats import BINARY32, FloatFormat, format_of
from lossfuzz.harness.numbers.layout import empty_rows
from lossfuzz.harness.numbers.ulp import ulps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.losses.targets import Targets

    Reals = NDArray[np.float64]

_BLOCK_LOGITS = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Condition numbers, units and margins of a batch.

    Attributes:
        format: of the logits.
        error_factor: of the loss; see `bounds`.
        headroom: of the loss, times the rows that it sums; see `flags`.
        summed_rows: rows that a reduced loss sums; 0 for a loss of each row.
        one_sided: whether only the label's component of the gradient is negative.
        at_the_ends_of_range: shape ``[rows]``; rows so near to overflow that users' losses are
            not held to them, see the function of that name.
        loss_scale: shape ``[rows]``, or ``[1]`` if reduced: what the loss's errors count against,
            beside u: ``max(1, |loss|)``, or what rounding explains of a user's formula.
        scale: shape ``[rows]``, the largest magnitude that a gradient component can have.
        loss: shape ``[rows]``, or ``[1]`` if reduced: ``|loss| + sum_k |x_k g_k|``.
        margin: shape ``[rows]``, see `margins`.
        margin_decides: whether loss and gradient of a row hang on its margin alone, so that one
            row's margin and loss may be told of the path: not where a row holds several targets.
        largest_gradient: shape ``[rows]``, the largest magnitude of the row's gradient.
        smallest_other: shape ``[rows]``, the smallest component besides the label's, of 0 or more;
            infinity for a single class.
        gradient: shape ``[rows, classes]``, the exact gradient, in the order of `layout`.
        per_ulp: shape ``[rows, classes]``, one over the ulp of each gradient component.
        per_condition: shape ``[rows, classes]``, one over the error that a relative error of u in
            every logit and in the result explains, at most one over the smallest subnormal: of
            softmax cross-entropy ``u |g_j| (1 + |x_j| + sum_k p_k |x_k|)``; of other losses
            ``u (|g_j| + scale p_j (|x_j| + sum_k p_k |x_k|))``, to first order.
    """

    format: FloatFormat
    error_factor: float
    headroom: float
    summed_rows: int
    one_sided: bool
    at_the_ends_of_range: NDArray[np.bool_]
    loss_scale: Reals
    scale: Reals
    loss: Reals
    margin: Reals
    margin_decides: bool
    largest_gradient: Reals
    smallest_other: Reals
    gradient: Reals
    per_ulp: Reals
    per_condition: Reals

    @property
    def is_reduced(self) -> bool:
        """Whether the loss is one number for the whole batch."""
        return self.summed_rows > 0


def conditions_of(
    logits: NDArray[Any],
    labels: NDArray[Any],
    reference: Reference,
    loss: LossSpec = SOFTMAX_CROSS_ENTROPY,
    targets: Targets | None = None,
    row_reference: Reference | None = None,
) -> Conditions:
    """The conditions of a batch ``[rows, classes]``.

    Args:
        logits: of the batch.
        labels: shape ``[rows]``.
        reference: of the loss.
        loss: that is measured.
        targets: for a loss other than that of integer labels.
        row_reference: of a reduced loss, the exact values of its rows.
    """
    rows, classes = logits.shape
    fmt = format_of(logits)
    plain = targets is None or (loss.base or loss) is SOFTMAX_CROSS_ENTROPY
    scale = np.full(rows, loss.steepness / (classes if loss.averages else 1))
    loss_scale = np.maximum(1, np.abs(reference.loss))
    if loss.target == kinds.PROBABILITY and targets is not None:
        loss_scale = np.maximum(loss_scale, _weighted_logits(logits, loss, targets))
    if (base := loss.base or loss).derived is not None and targets is not None:
        of_rows = row_reference or reference
        explained = base.derived.rounding(base, logits, targets, of_rows)
        loss_scale, scale = explained.loss, explained.gradient
        if loss.reduction:
            total = (loss_scale * row_factors(loss.reduction, rows)).sum(keepdims=True)
            loss_scale = np.fmax(total, np.abs(reference.loss))
    if loss.reduction:
        scale *= row_factors(loss.reduction, rows)
    spread, largest, smallest = (np.empty(rows) for _ in range(3))
    gradient, per_ulp, per_condition = (empty_rows(rows, classes) for _ in range(3))
    gradient[...] = reference.gradient
    block = max(1, _BLOCK_LOGITS // classes)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for start in range(0, rows, block):
            part = slice(start, start + block)
            floor = _Floor(gradient[part], per_ulp[part], per_condition[part], fmt)
            index = labels[part].astype(np.int64)
            if plain:
                factor = scale[part] / loss.steepness
                values = _fill_block(logits[part], index, factor, floor)
            else:
                values = _fill_dense_block(logits[part], index, scale[part], floor, loss)
            spread[part], largest[part], smallest[part] = values
        condition = spread + np.abs(reference.loss)
        if loss.reduction:
            condition = np.abs(reference.loss) + spread[reference.judged].sum()
    return Conditions(
        format=fmt,
        error_factor=loss.error_factor,
        headroom=loss.headroom(classes) * (row_headroom(loss.reduction, rows)),
        summed_rows=rows if loss.reduction else 0,
        one_sided=loss.target in (kinds.INDEX, kinds.ONE_HOT)
        and not loss.needs_mass
        and loss.derived is None,
        at_the_ends_of_range=at_the_ends_of_range(
            logits, fmt, summed=classes * (rows if loss.reduction else 1)
        ),
        loss_scale=loss_scale,
        scale=scale,
        loss=condition,
        margin=margins_of(logits, labels, loss, reference, targets),
        margin_decides=classes == 1
        or (loss.target in (kinds.INDEX, kinds.ONE_HOT, kinds.NONE) and not loss.needs_mass),
        largest_gradient=largest,
        smallest_other=smallest,
        gradient=gradient,
        per_ulp=per_ulp,
        per_condition=per_condition,
    )


def at_the_ends_of_range(logits: NDArray[Any], fmt: FloatFormat, summed: int) -> NDArray[np.bool_]:
    """Which rows ``[rows, classes]`` hold a finite logit that is too near to overflow.

    That is within a factor of 8 of it, where differences and small multiples of logits overflow in
    one sound loss or the other; and within 8 times as many numbers as the loss sums, but not below
    2**64: a sum of losses as large as the logits overflows there, and nobody trains there. Nothing
    counts but the inputs, for an intermediate value may be one of this algorithm alone.

    Neither are users' losses held to logits below binary32's normal numbers, other than 0, which
    kernels flush to 0.

    Args:
        logits: of the rows.
        fmt: of the logits.
        summed: how many numbers the loss sums: the classes of a row, or of all rows of a batch.
    """
    magnitudes = np.abs(logits.astype(np.float64))
    last = fmt.largest_finite / _ROOM
    end = min(last, max(_NOBODY_TRAINS, last / summed))
    beyond = (magnitudes > end) & np.isfinite(magnitudes)
    flushed = (magnitudes < BINARY32.smallest_normal) & (magnitudes > 0)
    return np.asarray((beyond | flushed).any(axis=1))


_ROOM = 8
_NOBODY_TRAINS = 2.0**64


def _weighted_logits(logits: NDArray[Any], loss: LossSpec, targets: Targets) -> Reals:
    """What ``x t`` weighs in the usual stable form, ``max(x, 0) - x t + log1p(exp(-|x|))``.

    For a target between 0 and 1 it cancels all but digits of the loss, whatever is done about it:
    the form is TensorFlow's own, and its error stays below u times this.
    """
    magnitudes = np.abs(logits.astype(np.float64))
    between = (targets.weights > 0) & (targets.weights < 1) & np.isfinite(magnitudes)
    weighed = np.where(between, magnitudes, 0.0) * targets.weights
    rows = weighed.mean(axis=1) if loss.averages else weighed.sum(axis=1)
    if loss.reduction is None:
        return np.asarray(rows)
    return np.asarray((rows * row_factors(loss.reduction, len(rows))).sum(keepdims=True))


@dataclass(frozen=True, slots=True)
class _Floor:
    """A block's arrays, those to be filled and those to fill them from."""

    gradient: Reals
    per_ulp: Reals
    per_condition: Reals
    format: FloatFormat


def _fill_block(
    logits: NDArray[Any], labels: NDArray[np.int64], factor: Reals, floor: _Floor
) -> tuple[Reals, Reals, Reals]:
    """Fill the two arrays; return ``sum_k |x_k g_k|``, the largest and the smallest component.

    The softmax is read off the gradient, which is the softmax times the row's factor.
    """
    fmt, gradient = floor.format, floor.gradient
    magnitudes = _magnitudes(logits)
    index = np.arange(len(labels))
    steepness = np.abs(gradient)
    weighted = np.multiply(steepness, magnitudes)
    label_weighted = weighted[index, labels]
    spread = weighted.sum(axis=1)
    label_probability = 1 + gradient[index, labels] / factor
    mean = (spread - label_weighted) / factor + label_probability * magnitudes[index, labels]
    np.divide(1, ulps(steepness, fmt), out=floor.per_ulp)
    magnitudes += 1 + mean[:, None]
    magnitudes *= steepness
    _invert(magnitudes, floor)
    largest = steepness.max(axis=1)
    steepness[index, labels] = np.inf
    return spread, largest, steepness.min(axis=1)


def _fill_dense_block(
    logits: NDArray[Any], labels: NDArray[np.int64], scale: Reals, floor: _Floor, loss: LossSpec
) -> tuple[Reals, Reals, Reals]:
    """The same for a gradient from which no softmax can be read."""
    magnitudes = _magnitudes(logits)
    steepness = np.abs(floor.gradient)
    spread = np.multiply(steepness, magnitudes).sum(axis=1)
    np.divide(1, ulps(steepness, floor.format), out=floor.per_ulp)
    wide = logits.astype(np.float64)
    if loss.target not in kinds.BY_CLASS:
        probabilities = row_softmax(wide)
        magnitudes += (probabilities * magnitudes).sum(axis=1, keepdims=True)
    else:
        decay = np.exp(-np.abs(wide))
        probabilities = decay / (1 + decay) ** 2
    magnitudes *= probabilities * scale[:, None]
    magnitudes += steepness
    _invert(magnitudes, floor)
    largest = steepness.max(axis=1)
    steepness[np.arange(len(labels)), labels] = np.inf
    return spread, largest, steepness.min(axis=1)


def _magnitudes(logits: NDArray[Any]) -> Reals:
    magnitudes: Reals = empty_rows(*logits.shape)
    np.abs(logits, out=magnitudes, dtype=np.float64, casting="unsafe")
    magnitudes[np.isinf(magnitudes)] = 0  # masked classes have no weight
    return magnitudes


def _invert(errors: Reals, floor: _Floor) -> None:
    errors *= floor.format.unit_roundoff
    np.maximum(errors, floor.format.smallest_subnormal, out=errors)
    np.divide(1, errors, out=floor.per_condition)
