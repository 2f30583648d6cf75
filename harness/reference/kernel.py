"""Loss and whole gradient of a batch in float64 (or wider), with a proved error bound.

The formula is `softmax_cross_entropy`'s: with w the winner, d_k = x_k - x_w, e_k = exp(d_k) and S
the sum of e_k over k != w,

    loss = log1p(S) - d_y,   g_j = e_j / (1 + S),   g_y = -((S - e_y) + 1) / (1 + S) for y != w,
    g_w = -S / (1 + S) for y = w.

Bound, with u the unit roundoff of the working precision (2**-53), n classes, first order in u
(terms in u**2 are below one part in 2**40 of it, and `_MARGIN` covers them):

* d_k is exact where the two logits share enough exponent range, else it errs by u |d_k|. With
  |d_k| <= D = 128 + ln n the factor exp(d_k) errs by D u; beyond D all n terms together weigh
  less than exp(-128) = 2**-184, in which even a relative error of 746 u stays below 2**-220.
* exp errs by at most `_EXP_UNITS` u, log1p likewise (assumed of the C library: 2 ulp; the
  strictest published tables give 0.52 to 1 ulp for glibc and for NumPy's vector code. The audit
  against mpmath would find a library that breaks it).
* The sum is folded in halves, so it errs by ceil(log2 n) u relative to a sum of nonnegative
  terms (Higham 2002, eq. 4.6), whatever the library's own order of summation is.

So e_k and S are within E = (D + _EXP_UNITS + ceil(log2 n)) u. log1p has condition <= 1 for S >= 0
and both terms of the loss are nonnegative: the loss is within E + (_EXP_UNITS + 1) u. g_j is a
quotient: within 2 E + 3 u. For y != w, S - e_y + 1 is at least max(1, S), while its absolute
error is at most E (S + e_y) + 2 u (S + 1) <= (2 E + 4 u) max(1, S): g_y is within 3 E + 7 u.
One bound serves all: 3 E + (_EXP_UNITS + 8) u, plus the absolute 2**-200 for what underflows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXP_UNITS = 4
_MARGIN = 1.0 + 2.0**-20
_BLOCK_BYTES = 1 << 17
_CLASSES_FIRST_BELOW = 64

ABSOLUTE_BOUND = 2.0**-200
"""Absolute error of a value beside its relative bound; far below every format's quantum/2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelValues:
    """Loss and gradient of a batch, up to a bound.

    Attributes:
        loss: shape ``[rows]``; NaN where the row has no exact value.
        gradient: shape ``[rows, classes]``; NaN in such rows.
        relative_bound: of every value, beside `ABSOLUTE_BOUND`.
    """

    loss: NDArray[Any]
    gradient: NDArray[Any]
    relative_bound: float


def relative_bound(classes: int, unit_roundoff: float) -> float:
    """The proved relative error of every value of the kernel for rows of so many classes."""
    differences = 128 + math.log(classes)
    term = differences + _EXP_UNITS + math.ceil(math.log2(classes))
    return (3 * term + _EXP_UNITS + 8) * unit_roundoff * _MARGIN


def evaluate(
    logits: NDArray[Any], labels: NDArray[np.int64], working: type[np.floating[Any]] = np.float64
) -> KernelValues:
    """Loss and gradient of every row of a batch.

    Args:
        logits: shape ``[rows, classes]``, of any format up to binary32 (wider exponents would
            leave the range in which the bound holds).
        labels: shape ``[rows]``, each in ``[0, classes)``.
        working: the precision to compute in.
    """
    rows, classes = logits.shape
    loss = np.empty(rows, working)
    gradient = np.empty((rows, classes), working)
    block = max(1, _BLOCK_BYTES // (classes * np.dtype(working).itemsize))
    evaluate_block = _evaluate_columns if classes < _CLASSES_FIRST_BELOW else _evaluate_rows
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for start in range(0, rows, block):
            part = slice(start, start + block)
            evaluate_block(logits[part], labels[part], loss[part], gradient[part])
    unit_roundoff = float(np.finfo(working).eps) / 2
    return KernelValues(
        loss=loss, gradient=gradient, relative_bound=relative_bound(classes, unit_roundoff)
    )


def _evaluate_rows(
    logits: NDArray[Any], labels: NDArray[np.int64], loss: NDArray[Any], gradient: NDArray[Any]
) -> None:
    gradient[...] = logits
    index = np.arange(len(labels))
    winner = gradient.argmax(axis=1)
    gradient -= gradient[index, winner][:, None]
    label_difference = gradient[index, labels]
    np.exp(gradient, out=gradient)
    label_weight = gradient[index, labels]
    gradient[index, winner] = 0
    tail = _folded_sum(gradient)
    gradient[index, winner] = 1
    total = 1 + tail
    np.divide(gradient, total[:, None], out=gradient)
    gradient[index, labels] = _label_gradient(tail, total, label_weight, winner == labels)
    loss[...] = np.log1p(tail) - label_difference
    _mark_undefined(loss, gradient)


def _evaluate_columns(
    logits: NDArray[Any], labels: NDArray[np.int64], loss: NDArray[Any], gradient: NDArray[Any]
) -> None:
    """The same with the classes along the first axis: few classes make rows too short a loop."""
    work = np.ascontiguousarray(logits.T).astype(loss.dtype)
    index = np.arange(len(labels))
    winner = work.argmax(axis=0)
    work -= work[winner, index]
    label_difference = work[labels, index]
    np.exp(work, out=work)
    label_weight = work[labels, index]
    work[winner, index] = 0
    tail = _folded_sum(work.T)
    work[winner, index] = 1
    total = 1 + tail
    work /= total
    work[labels, index] = _label_gradient(tail, total, label_weight, winner == labels)
    loss[...] = np.log1p(tail) - label_difference
    gradient[...] = work.T
    _mark_undefined(loss, gradient)


def _label_gradient(
    tail: NDArray[Any], total: NDArray[Any], label_weight: NDArray[Any], wins: NDArray[np.bool_]
) -> NDArray[Any]:
    others = np.where(wins, tail, (tail - label_weight) + 1)
    return -others / total


def _folded_sum(terms: NDArray[Any]) -> NDArray[Any]:
    """Sum over the classes (last axis) in ceil(log2 n) rounds of halving."""
    while terms.shape[1] > 1:
        half = (terms.shape[1] + 1) // 2
        folded = terms[:, :half].copy(order="K")
        folded[:, : terms.shape[1] - half] += terms[:, half:]
        terms = folded
    return terms[:, 0].copy()


def _mark_undefined(loss: NDArray[Any], gradient: NDArray[Any]) -> None:
    undefined = ~np.isfinite(loss)
    loss[undefined] = np.nan
    gradient[undefined] = np.nan
