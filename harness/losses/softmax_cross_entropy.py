"""Softmax cross-entropy with an integer label.

    loss(x, y) = log(sum_k exp(x_k)) - x_y
    dloss/dx_j = softmax(x)_j - [j = y]

Written without cancellation. With w the largest logit, d_k = x_k - x_w and S the sum of exp(d_k)
over k != w,

    loss = -d_y + log1p(S)                               both terms are >= 0
    dloss/dx_j = exp(d_j) / (1 + S)                      for j != y
    dloss/dx_y = -(sum of exp(d_k) over k != y) / (1 + S)

so every operation after the (exact) differences keeps relative accuracy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


def _evaluate(logits: Sequence[Any], label: int, arithmetic: Arithmetic) -> tuple[Any, list[Any]]:
    winner = max(range(len(logits)), key=logits.__getitem__)
    differences = [arithmetic.subtract(logit, logits[winner]) for logit in logits]
    weights = [arithmetic.exp(difference) for difference in differences]
    tail = arithmetic.sum([weight for k, weight in enumerate(weights) if k != winner])
    total = arithmetic.sum(weights)
    others = arithmetic.sum([weight for k, weight in enumerate(weights) if k != label])
    loss = arithmetic.log1p(tail) - differences[label]
    gradient = [arithmetic.divide(weight, total) for weight in weights]
    gradient[label] = -arithmetic.divide(others, total)
    return loss, gradient


SOFTMAX_CROSS_ENTROPY = LossSpec(
    name="softmax cross-entropy with an integer label",
    formula="log(sum_k exp(x_k)) - x_y",
    evaluate=_evaluate,
    domain="rows with at least one finite logit, none of them +inf or NaN, whose label's logit is "
    "finite; a logit of -inf masks its class",
    source="Bridle 1990, 'Probabilistic interpretation of feedforward classification network "
    "outputs'; Blanchard, Higham & Higham 2021, IMA J. Numer. Anal. 41, for the shifted form",
)
