"""How large an error rounding can explain.

The defect bound. With d_k = x_k - max x and p the softmax, the shift rounds each d_k by u |d_k|,
exp, log and division err by about u, and a plain sum of n terms by (n - 1) u (Blanchard, Higham &
Higham 2021, "Accurately computing the log-sum-exp and softmax functions", section 4). What the
shifts do to the sum is sum_k p_k |d_k| u, at most the entropy of p, so at most u ln n; what they
do to a component is p |d| u, below u / e; the logarithm's own rounding adds u ln n; and the loss
is at least |d_y|, which covers the label's shift. So every shifted algorithm stays within
(n + 2 ln n + 8) u times max(1, |value|), whatever the order of its sum, and one that errs by more
does something else than rounding. Where that exceeds one eighth (19 classes in bfloat16), one
eighth is the bound: nobody who sums so many terms well does it one by one in such a format. Summed
in blocks or in a wider accumulator, as every kernel measured here does, half formats err by less
than 24 u at up to 70,000 classes; a sum that stagnates errs by a quarter of the loss. Where the
loss is returned in a wider format than the logits', u is still the logits': a path cannot owe more
digits than its input's operations carry.

Other losses do more: a second sum over the classes, a power, a quotient. Each names the factor
(`LossSpec.error_factor`) by which its operations exceed these. A sum over a batch of N rows adds
N u, whatever its order.

A user's own loss may be computed by any algorithm, of which nothing is known here: other sums,
powers and quotients than those that were counted. It gets twice as much, up to the same eighth.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lossfuzz.harness.numbers.formats import FloatFormat


_LARGEST_SHARE = 0.125
"""Of the value, or of the largest possible gradient component."""


USERS_ROOM = 2.0
"""By how much a user's own loss may exceed what was counted of an algorithm that is known."""


def defect_bound(
    classes: int,
    fmt: FloatFormat,
    *,
    error_factor: float = 1.0,
    summed_rows: int = 0,
    room: float = 1.0,
) -> float:
    """The largest mixed error that rounding explains, in units of u.

    Args:
        classes: of a row.
        fmt: whose u it is.
        error_factor: of the loss.
        summed_rows: of the batch that a reduced loss sums.
        room: `USERS_ROOM` for a user's own loss.
    """
    explained = error_factor * (classes + 2 * math.log(classes) + 8) + summed_rows
    return min(room * explained, _LARGEST_SHARE / fmt.unit_roundoff)
