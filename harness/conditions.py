"""What the measures of a batch need of its exact values; computed once for all cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formats import format_of
from lossfuzz.harness.layout import empty_rows
from lossfuzz.harness.ulp import ulps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.reference.judge import Reference

    Reals = NDArray[np.float64]

_BLOCK_LOGITS = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Condition numbers, units and margins of a batch.

    Attributes:
        loss: shape ``[rows]``, ``|loss| + sum_k |x_k g_k|``.
        margin: shape ``[rows]``, the rest's log-sum-exp minus the label's logit: with one rival,
            the difference of the two; positive where the label loses.
        largest_gradient: shape ``[rows]``, the largest magnitude of the row's gradient.
        smallest_other: shape ``[rows]``, the smallest component besides the label's, of 0 or more;
            infinity for a single class.
        gradient: shape ``[rows, classes]``, the exact gradient, in the order of `layout`.
        per_ulp: shape ``[rows, classes]``, one over the ulp of each gradient component.
        per_condition: shape ``[rows, classes]``, one over
            ``u * |g_j| * (1 + |x_j| + sum_k p_k |x_k|)``, at most one over the smallest subnormal.
    """

    loss: Reals
    margin: Reals
    largest_gradient: Reals
    smallest_other: Reals
    gradient: Reals
    per_ulp: Reals
    per_condition: Reals


def conditions_of(logits: NDArray[Any], labels: NDArray[Any], reference: Reference) -> Conditions:
    """The conditions of a batch ``[rows, classes]``."""
    rows, classes = logits.shape
    loss, largest, smallest = (np.empty(rows) for _ in range(3))
    gradient, per_ulp, per_condition = (empty_rows(rows, classes) for _ in range(3))
    gradient[...] = reference.gradient
    block = max(1, _BLOCK_LOGITS // classes)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for start in range(0, rows, block):
            part = slice(start, start + block)
            loss[part], largest[part], smallest[part] = _fill_block(
                logits[part],
                labels[part],
                gradient[part],
                per_ulp[part],
                per_condition[part],
            )
        # log(exp(loss) - 1), without overflow and without cancellation
        margin = reference.loss + np.log(-np.expm1(-reference.loss))
    loss += np.abs(reference.loss)
    return Conditions(
        loss=loss,
        margin=margin,
        largest_gradient=largest,
        smallest_other=smallest,
        gradient=gradient,
        per_ulp=per_ulp,
        per_condition=per_condition,
    )


def _fill_block(
    logits: NDArray[Any],
    labels: NDArray[Any],
    gradient: Reals,
    per_ulp: Reals,
    per_condition: Reals,
) -> tuple[Reals, Reals, Reals]:
    """Fill the two arrays; return ``sum_k |x_k g_k|``, the largest and the smallest component."""
    fmt = format_of(logits)
    magnitudes = empty_rows(*logits.shape)
    np.abs(logits, out=magnitudes, dtype=np.float64, casting="unsafe")
    magnitudes[np.isinf(magnitudes)] = 0  # masked classes have no weight
    index = np.arange(len(labels))
    steepness = np.abs(gradient)
    weighted = np.multiply(steepness, magnitudes)
    label_weighted = weighted[index, labels]
    spread = weighted.sum(axis=1)
    label_probability = 1 + gradient[index, labels]
    mean = spread - label_weighted + label_probability * magnitudes[index, labels]
    np.divide(1, ulps(steepness, fmt), out=per_ulp)
    magnitudes += 1 + mean[:, None]
    magnitudes *= steepness
    magnitudes *= fmt.unit_roundoff
    np.maximum(magnitudes, fmt.smallest_subnormal, out=magnitudes)
    np.divide(1, magnitudes, out=per_condition)
    largest = steepness.max(axis=1)
    steepness[index, labels] = np.inf
    return spread, largest, steepness.min(axis=1)
