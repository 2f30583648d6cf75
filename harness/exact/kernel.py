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
  against mpmath finds a library that breaks it).
* The sum is folded in halves down to 8 terms, so it errs by (ceil(log2 n/8) + 7) u relative to a
  sum of nonnegative terms (Higham 2002, section 4.2), whatever the library's own order.

So e_k errs by E = (D + _EXP_UNITS) u and S by F = E + (ceil(log2 n/8) + 7) u. log1p has condition
<= 1 for S >= 0 and both terms of the loss are nonnegative: the loss is within F + (_EXP_UNITS +
1) u. g_j = e_j (1 / (1 + S)) is within E + F + 4 u. For y != w, S - e_y + 1 is at least
max(1, S), while its absolute error is at most F S + E e_y + 2 u (S + 1) <= (2 F + 4 u) max(1, S):
g_y is within 3 F + 7 u. One bound serves all: 3 F + (_EXP_UNITS + 8) u, plus the absolute
2**-200 for what underflows; `component_bound` is the tighter one of the other components.

D is 0 where every difference is exact. That is certain if the exponents of all finite nonzero
logits of a block lie within 52 - p of each other, p the precision of their format: all differences
are then multiples of the smallest logit's last place, and below 2**53 times it.

The loss is also returned in its two parts, -d_y and log1p(S), since their sum often lies on a
rounding boundary but for a vanishing log1p(S): the first part is exact or errs by u |d_y|
(`linear_error`), the second is positive whenever a second class is unmasked (below 2**-1000 it is
given as 2**-1000, see `exact`), and errs relatively by the bound above with 746 for D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import format_of
from lossfuzz.harness.numbers.layout import CLASSES_FIRST_BELOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_EXP_UNITS = 4
_MARGIN = 1.0 + 2.0**-20
_BLOCK_BYTES = 1 << 19
_FOLDED_DOWN_TO = 8
_REACH = 128
_WHOLE_REACH = 746
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
        component_bounds: shape ``[rows]``, tighter than `relative_bound`, of the gradient's
            components other than the label's.
        flagged: what `evaluate` was asked to find in the gradient, shape ``[rows]``.
    """

    loss: NDArray[Any]
    gradient: NDArray[Any]
    relative_bound: float
    linear: NDArray[Any]
    linear_error: NDArray[Any]
    curved: NDArray[Any]
    curved_bound: float
    component_bounds: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def _term_units(classes: int, reach: float) -> tuple[float, float]:
    """E and F of the module's derivation, in units of u."""
    folds = max(0, math.ceil(math.log2(classes / _FOLDED_DOWN_TO)))
    term = (reach + math.log(classes) if reach else 0.0) + _EXP_UNITS
    return term, term + folds + _FOLDED_DOWN_TO - 1


def relative_bound(classes: int, unit_roundoff: float, reach: float = _REACH) -> float:
    """The proved relative error of every value of the kernel for rows of so many classes."""
    _, total = _term_units(classes, reach)
    return (3 * total + _EXP_UNITS + 8) * unit_roundoff * _MARGIN


def component_bound(classes: int, unit_roundoff: float, *, exact_differences: bool) -> float:
    """The same of the gradient's components other than the label's."""
    term, total = _term_units(classes, 0 if exact_differences else _REACH)
    return (term + total + 4) * unit_roundoff * _MARGIN


def evaluate(
    logits: NDArray[Any],
    labels: NDArray[np.int64],
    working: type[np.floating[Any]] = np.float64,
    flag: Callable[[NDArray[Any], float], NDArray[np.bool_]] | None = None,
) -> KernelValues:
    """Loss and gradient of every row of a batch.

    Args:
        logits: shape ``[rows, classes]``, of any format up to binary32 (wider exponents would
            leave the range in which the bound holds).
        labels: shape ``[rows]``, each in ``[0, classes)``.
        working: the precision to compute in.
        flag: asked of each block's gradient and the bound of its components while the block is
            in the cache; says which of its rows to flag.
    """
    rows, classes = logits.shape
    unit_roundoff = float(np.finfo(working).eps) / 2
    gradient = np.empty((rows, classes), working)
    linear, linear_error, curved = (np.empty(rows, working) for _ in range(3))
    component_bounds = np.empty(rows)
    flagged = np.zeros(rows, np.bool_)
    block = max(1, _BLOCK_BYTES // (classes * np.dtype(working).itemsize))
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for start in range(0, rows, block):
            part = slice(start, start + block)
            linear[part], linear_error[part], tail, work = _evaluate_block(
                logits[part], labels[part], gradient[part]
            )
            curved[part] = np.maximum(np.log1p(tail), _SMALLEST_CURVED)
            curved[part][~_has_company(tail, logits[part], classes)] = 0
            exact = _differences_are_exact(logits[part])
            bound = component_bound(classes, unit_roundoff, exact_differences=exact)
            component_bounds[part] = bound
            if flag is not None:
                flagged[part] = flag(work, bound)
        loss = curved + linear
    undefined = ~np.isfinite(loss)
    if undefined.any():
        for values in (loss, gradient, linear, linear_error, curved):
            values[undefined] = np.nan
    linear_error *= unit_roundoff
    return KernelValues(
        loss=loss,
        gradient=gradient,
        relative_bound=relative_bound(classes, unit_roundoff),
        linear=linear,
        linear_error=linear_error,
        curved=curved,
        curved_bound=relative_bound(classes, unit_roundoff, reach=_WHOLE_REACH),
        component_bounds=component_bounds,
        flagged=flagged,
    )


def _has_company(tail: NDArray[Any], logits: NDArray[Any], classes: int) -> NDArray[np.bool_]:
    """Whether a second class is unmasked: where the tail vanishes, the logits must be asked."""
    company = tail > 0
    if classes > 1 and not company.all():
        alone = np.flatnonzero(~company)
        company[alone] = np.isfinite(logits[alone]).sum(axis=1) > 1
    return company


def _differences_are_exact(logits: NDArray[Any]) -> bool:
    """Whether all differences of a block's logits are certainly exact in float64."""
    fmt = format_of(logits)
    room = 52 - fmt.precision
    if fmt.emax - fmt.emin <= room:
        return True
    sign_bit = 8 * fmt.dtype.itemsize - 1
    # bits without their sign are in the order of the magnitudes; less one, zero comes last
    magnitudes = logits.view(fmt.bits_dtype) & fmt.bits_dtype.type((1 << sign_bit) - 1)
    if magnitudes.max() >= fmt.infinity_ordinal:
        magnitudes[magnitudes >= fmt.infinity_ordinal] = 0
    largest = int(magnitudes.max())
    magnitudes -= fmt.bits_dtype.type(1)
    smallest = int(magnitudes.min()) + 1
    if largest == 0:
        return True
    stored_bits = fmt.precision - 1
    return max(largest >> stored_bits, 1) - max(smallest >> stored_bits, 1) <= room


def _evaluate_block(
    logits: NDArray[Any], labels: NDArray[np.int64], gradient: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Fill the gradient; return -d_y, its magnitude where inexact (else 0), S and the gradient.

    The gradient that is returned is in the order of `layout`.
    """
    rows, classes = gradient.shape
    index = np.arange(rows)
    gradient[...] = logits
    winner = gradient.argmax(axis=1)
    few = classes < CLASSES_FIRST_BELOW
    work = np.ascontiguousarray(gradient.T) if few else gradient
    cells = work.reshape(-1)
    at_winner = winner * rows + index if few else index * classes + winner
    at_label = labels * rows + index if few else index * classes + labels

    largest, label_logit = cells[at_winner], cells[at_label]
    linear = largest - label_logit
    linear_error = np.where(_difference_is_exact(largest, label_logit, linear), 0, linear)
    work -= largest if few else largest[:, None]
    np.exp(work, out=work)
    label_weight = cells[at_label]
    cells[at_winner] = 0
    tail = _folded_sum(work) if few else _folded_sum(work.T)
    cells[at_winner] = 1
    total = 1 + tail
    others = np.where(winner == labels, tail, (tail - label_weight) + 1)
    work *= 1 / total if few else (1 / total)[:, None]
    cells[at_label] = -others / total
    if few:
        work = work.T
        gradient[...] = work
    return linear, linear_error, tail, work


def _difference_is_exact(
    left: NDArray[Any], right: NDArray[Any], difference: NDArray[Any]
) -> NDArray[np.bool_]:
    """Knuth's error-free transformation: whether ``left - right`` was not rounded."""
    part = difference - left
    return np.asarray((left - (difference - part)) - (right + part) == 0)


def _folded_sum(terms: NDArray[Any]) -> NDArray[Any]:
    """Sum over the first axis, the classes, halving until few are left."""
    count = len(terms)
    if count <= _FOLDED_DOWN_TO:
        return np.asarray(terms.sum(axis=0))
    half = (count + 1) // 2
    folded = np.empty_like(terms[:half])
    np.add(terms[: count - half], terms[half:], out=folded[: count - half])
    folded[count - half :] = terms[count - half : half]
    while half > _FOLDED_DOWN_TO:
        count, half = half, (half + 1) // 2
        folded[: count - half] += folded[half:count]
    return np.asarray(folded[:half].sum(axis=0))
