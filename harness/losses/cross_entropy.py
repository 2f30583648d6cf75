"""Softmax cross-entropy with dense targets, smoothed or at a temperature.

    loss(x, t) = sum_j t_j (log(sum_k exp(x_k)) - x_j) = T log1p(S) - sum_j t_j d_j,  T = sum_j t_j
    dloss/dx_j = T p_j - t_j = p_j (T - t_j) - t_j (1 - p_j)

(notation of `softmax`). Both terms of the loss are nonnegative. The gradient's second form loses
nothing where one of its terms is 0, as with one-hot targets; where p is near t, the cancellation
is the mathematics' own. Smoothing by a replaces t_j by (1 - a) t_j + a/n; a temperature divides
the logits, and so the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.softmax import Softmax
from lossfuzz.harness.losses.spec import Arithmetic, LossSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.losses.targets import Targets

_DOMAIN = (
    "rows with at least one finite logit, none of them +inf or NaN, whose targets are 0 wherever "
    "the logit is -inf"
)
_BRIDLE = (
    "Bridle 1990, 'Probabilistic interpretation of feedforward classification network outputs'"
)


SMALLEST_WEIGHT_INVERSE = 256.0
"""Of a distribution in `targets`: what a term may exceed its weighted self by."""


def smoothed(weights: Enclosure, smoothing: float) -> tuple[Enclosure, Enclosure]:
    """Targets, smoothed, and for each the sum of the other ones; both without cancellation."""
    classes = weights.middle.shape[-1]
    total = weights.sum()
    others = (total - weights).where(weights.middle != total.middle, 0.0)
    if smoothing == 0:
        return weights, others
    amount = weights.constant(smoothing)
    kept = 1.0 - amount
    each = total * amount / float(classes)
    return weights * kept + each, others * kept + each * float(classes - 1)


def dense_cross_entropy(
    logits: Enclosure, targets: Targets, smoothing: float, temperature: float
) -> tuple[Enclosure, Enclosure]:
    """Loss and gradient of every row."""
    softmax = Softmax.of(logits, targets.masked, temperature)
    weights, others = smoothed(logits.exactly(targets.weights, logits.numbers), smoothing)
    loss = weights.sum() * softmax.log_sum - (weights * softmax.differences).sum()
    gradient = softmax.probabilities * others - weights * softmax.complements
    return loss, gradient / temperature if temperature != 1 else gradient


def _textbook(
    smoothing: float, temperature: float
) -> Callable[[Sequence[Any], Sequence[Any], Arithmetic], Any]:
    def textbook(logits: Sequence[Any], targets: Sequence[Any], arithmetic: Arithmetic) -> Any:
        scaled = [x / arithmetic.number(temperature) for x in logits]
        total = arithmetic.log(sum(arithmetic.exp(x) for x in scaled))
        amount = arithmetic.number(smoothing)
        mass = sum(targets) * amount / arithmetic.number(len(logits))
        return sum(
            (t * (arithmetic.number(1) - amount) + mass) * (total - x)
            for t, x in zip(targets, scaled, strict=True)
        )

    return textbook


def _spec(
    name: str,
    target: str,
    *,
    formula: str = "sum_j t_j (log(sum_k exp(x_k)) - x_j)",
    smoothing: float = 0.0,
    temperature: float = 1.0,
    source: str = _BRIDLE,
) -> LossSpec:
    return LossSpec(
        name=name,
        formula=formula,
        target=target,
        evaluate=lambda x, t: dense_cross_entropy(x, t, smoothing, temperature),
        textbook=_textbook(smoothing, temperature),
        domain=_DOMAIN + (", no logit of -inf" if smoothing else ""),
        source=source,
        steepness=1 / temperature,
        error_factor=2.0,
        headroom=lambda classes: classes / smoothing if smoothing else SMALLEST_WEIGHT_INVERSE,
        needs_mass=smoothing > 0,
    )


SMOOTHING = 0.1

ONE_HOT_CROSS_ENTROPY = _spec("softmax cross-entropy, one-hot", kinds.ONE_HOT)
SOFT_CROSS_ENTROPY = _spec("softmax cross-entropy, soft labels", kinds.DISTRIBUTION)
SMOOTHED_CROSS_ENTROPY = _spec(
    f"softmax cross-entropy, one-hot smoothed by {SMOOTHING}",
    kinds.ONE_HOT,
    formula="sum_j ((1 - a) t_j + a/n) (log(sum_k exp(x_k)) - x_j)",
    smoothing=SMOOTHING,
    source="Szegedy et al. 2016, 'Rethinking the Inception architecture', section 7",
)
IGNORING_CROSS_ENTROPY = _spec(
    "softmax cross-entropy, ignoring a class",
    kinds.IGNORABLE,
    formula="log(sum_k exp(x_k)) - x_y, and 0 where the label is -1",
)
WARM_CROSS_ENTROPY = _spec(
    "softmax cross-entropy at temperature 2",
    kinds.INDEX,
    formula="log(sum_k exp(x_k / 2)) - x_y / 2",
    temperature=2.0,
    source="Hinton, Vinyals & Dean 2015, 'Distilling the knowledge in a neural network'",
)
COLD_CROSS_ENTROPY = _spec(
    "softmax cross-entropy at temperature 1/16",
    kinds.INDEX,
    formula="log(sum_k exp(16 x_k)) - 16 x_y",
    temperature=1 / 16,
    source="Wu et al. 2018, 'Unsupervised feature learning via non-parametric instance "
    "discrimination', who use 0.07",
)

LOSSES = (
    ONE_HOT_CROSS_ENTROPY,
    SOFT_CROSS_ENTROPY,
    SMOOTHED_CROSS_ENTROPY,
    IGNORING_CROSS_ENTROPY,
    WARM_CROSS_ENTROPY,
    COLD_CROSS_ENTROPY,
)
