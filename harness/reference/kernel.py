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
_SMALLEST_CURVED = 2.0**-1000

ABSOLUTE_BOUND = 2.0**-200
"""Absolute error of a value beside its relative bound; far below every format's quantum/2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelValues:
    """Loss and gradient of a batch, up to a bound.

    Attributes:
        loss: shape ``[rows]``; NaN where the row has no exact value.
        gradient: shape ``[rows, classes]``; NaN in such rows.
        relative_bound: of every value, beside `ABSOLUTE_BOUND`.
        linear: the loss's part -d_y, shape ``[rows]``.
        linear_error: bound of its absolute error, 0 where it is exact.
        curved: the loss's part log1p(S).
        curved_bound: its relative error.
    """

    loss: NDArray[Any]
    gradient: NDArray[Any]
    relative_bound: float
    linear: NDArray[Any]
    linear_error: NDArray[Any]
    curved: NDArray[Any]
    curved_bound: float


def relative_bound(classes: int, unit_roundoff: float, reach: float = 128) -> float:
    """The proved relative error of every value of the kernel for rows of so many classes."""
    differences = reach + math.log(classes)
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
    gradient = np.empty((rows, classes), working)
    linear, linear_error, curved = (np.empty(rows, working) for _ in range(3))
    block = max(1, _BLOCK_BYTES // (classes * np.dtype(working).itemsize))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for start in range(0, rows, block):
            part = slice(start, start + block)
            linear[part], linear_error[part], tail = _evaluate_block(
                logits[part], labels[part], gradient[part]
            )
            curved[part] = np.maximum(np.log1p(tail), _SMALLEST_CURVED)
            curved[part][~_has_company(tail, logits[part], classes)] = 0
        loss = curved + linear
    undefined = ~np.isfinite(loss)
    for values in (loss, gradient, linear, linear_error, curved):
        values[undefined] = np.nan
    unit_roundoff = float(np.finfo(working).eps) / 2
    linear_error *= unit_roundoff
    return KernelValues(
        loss=loss,
        gradient=gradient,
        relative_bound=relative_bound(classes, unit_roundoff),
        linear=linear,
        linear_error=linear_error,
        curved=curved,
        curved_bound=relative_bound(classes, unit_roundoff, reach=746),
    )


def _has_company(tail: NDArray[Any], logits: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Whether a second class is unmasked: where the tail vanishes, the logits must be asked."""
    company = tail > 0
    if classes > 1 and not company.all():
        alone = np.flatnonzero(~company)
        company[alone] = np.isfinite(logits[alone]).sum(axis=1) > 1
    return company


def _evaluate_block(
    logits: NDArray[Any], labels: NDArray[np.int64], gradient: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Fill the gradient; return -d_y, its magnitude where inexact (else 0), and S."""
    rows = np.arange(len(labels))
    few = logits.shape[1] < _CLASSES_FIRST_BELOW
    # few classes make rows too short a loop: then the work array has its classes first in memory
    work = np.empty(gradient.shape[::-1], gradient.dtype).T if few else gradient
    work[...] = logits
    winner = work.argmax(axis=1)
    largest, label_logit = work[rows, winner], work[rows, labels]
    linear = largest - label_logit
    linear_error = np.where(_difference_is_exact(largest, label_logit, linear), 0, linear)
    work -= largest[:, None]
    np.exp(work, out=work)
    label_weight = work[rows, labels]
    work[rows, winner] = 0
    tail = _folded_sum(work)
    work[rows, winner] = 1
    total = 1 + tail
    others = np.where(winner == labels, tail, (tail - label_weight) + 1)
    np.divide(work, total[:, None], out=work)
    work[rows, labels] = -others / total
    if few:
        gradient[...] = work
    return linear, linear_error, tail


def _difference_is_exact(
    left: NDArray[Any], right: NDArray[Any], difference: NDArray[Any]
) -> NDArray[np.bool_]:
    """Knuth's error-free transformation: whether ``left - right`` was not rounded."""
    part = difference - left
    return np.asarray((left - (difference - part)) - (right + part) == 0)


def _folded_sum(terms: NDArray[Any]) -> NDArray[Any]:
    """Sum over the classes (last axis) in ceil(log2 n) rounds of halving."""
    while terms.shape[1] > 1:
        half = (terms.shape[1] + 1) // 2
        folded = terms[:, :half].copy(order="K")
        folded[:, : terms.shape[1] - half] += terms[:, half:]
        terms = folded
    return terms[:, 0].copy()
