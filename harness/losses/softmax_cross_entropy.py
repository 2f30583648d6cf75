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

from typing import TYPE_CHECKING, Any, Protocol

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.cross_entropy import dense_cross_entropy
from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


class RowArithmetic(Protocol):
    """The operations that a row is evaluated with, for numbers of one kind."""

    def subtract(self, left: Any, right: Any) -> Any:
        """Difference of two stored numbers, exact."""

    def exp(self, value: Any) -> Any:
        """Exponential."""

    def log1p(self, value: Any) -> Any:
        """Logarithm of one plus a nonnegative number."""

    def sum(self, values: Sequence[Any]) -> Any:
        """Sum of nonnegative numbers; 0 for none."""

    def divide(self, left: Any, right: Any) -> Any:
        """Quotient."""


def evaluate_row(
    logits: Sequence[Any], label: int, arithmetic: RowArithmetic
) -> tuple[Any, list[Any]]:
    """Loss and gradient of one row of finite logits."""
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


def _textbook(logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic) -> Any:
    chosen = sum(t * x for t, x in zip(targets, logits, strict=True))
    return arithmetic.log(sum(arithmetic.exp(x) for x in logits)) - chosen


SOFTMAX_CROSS_ENTROPY = LossSpec(
    name="softmax cross-entropy with an integer label",
    formula="log(sum_k exp(x_k)) - x_y",
    target=kinds.INDEX,
    evaluate=lambda x, t: dense_cross_entropy(x, t, 0.0, 1.0),
    textbook=_textbook,
    domain="rows with at least one finite logit, none of them +inf or NaN, whose label's logit is "
    "finite; a logit of -inf masks its class",
    source="Bridle 1990, 'Probabilistic interpretation of feedforward classification network "
    "outputs'; Blanchard, Higham & Higham 2021, IMA J. Numer. Anal. 41, for the shifted form",
)
