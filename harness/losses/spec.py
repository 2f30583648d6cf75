"""What a loss is, mathematically, over any arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from lossfuzz.harness.exact.enclosure import Enclosure
    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.targets import Targets


class Arithmetic(Protocol):
    """The operations that a textbook formula is written in, for numbers of one kind."""

    def number(self, value: float) -> Any:
        """A float64, exactly."""

    def exp(self, value: Any) -> Any:
        """Exponential."""

    def log(self, value: Any) -> Any:
        """Natural logarithm of a positive number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRounding:
    """In what units the errors of rows count, so that `bounds` is their bound.

    Attributes:
        loss: shape ``[rows]``, of errors of the loss, beside u.
        gradient: shape ``[rows]``, of errors of a gradient component, beside u.
    """

    loss: NDArray[np.float64]
    gradient: NDArray[np.float64]


class Derived(Protocol):
    """What a loss brings along that is not one of ours, but derived from a user's formula."""

    def exact_row(
        self, logits: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]] | None:
        """Loss and gradient of a row ``[classes]`` that float64 left undecided; None if none."""

    def exact_loss(
        self, logits: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> float | None:
        """The loss alone of a row ``[classes]`` that need not have a derivative; None if none."""

    def rounding(
        self, spec: LossSpec, logits: NDArray[Any], targets: Targets, reference: Reference
    ) -> ExplainedRounding:
        """What rounding explains of each row, in place of the loss's steepness."""


def _none(classes: int) -> float:
    del classes
    return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """A loss of one row of logits, with its gradient with respect to those logits.

    The definition stands here twice, so that one can check the other. `evaluate` is written
    without cancellation and gives the gradient by a formula of its own; `textbook` is the
    definition word for word, from which Arb derives the gradient.

    Attributes:
        name: what the literature calls it, with its parameters.
        formula: the definition, as text.
        target: one of `targets.KINDS`: what the loss is given beside the logits.
        evaluate: ``(logits, targets) -> (loss [rows, 1], gradient [rows, classes])`` as
            enclosures, for finite logits; `targets.masked` says which of them to leave out.
        textbook: ``(logits, targets, arithmetic) -> loss`` of one row, as lists of numbers in
            which masked classes have been left out.
        domain: for which inputs the loss has an exact value.
        source: where the definition is written down.
        steepness: bounds the magnitude that a gradient component can have.
        error_factor: how many times the error of plain softmax cross-entropy rounding explains,
            as `bounds` derives it; for its further operations.
        headroom: ``classes -> factor`` by which a plain sum's terms, or the sum itself, may exceed
            the loss: there it may overflow while the loss does not.
        averages: whether the loss is a mean over the classes, so that a gradient component is at
            most the steepness divided by their number.
        masks: whether a logit of -inf takes its class out of the sum.
        needs_mass: whether every class with a finite logit must be allowed a positive target, as
            smoothing does: then a masked class makes the loss infinite.
        reduction: None for a loss of each row, else one of `reduced.REDUCTIONS`.
        base: of a reduction, the loss of a row.
        derived: of a user's formula, what follows from it; None for a loss of ours.
        loaded: whether it can be evaluated; a formula that was only read of in a record cannot.
    """

    name: str
    formula: str
    target: str
    evaluate: Callable[[Enclosure, Targets], tuple[Enclosure, Enclosure]]
    textbook: Callable[[Sequence[Any], Sequence[Any], Arithmetic], Any]
    domain: str
    source: str
    steepness: float = 1.0
    error_factor: float = 1.0
    headroom: Callable[[int], float] = _none
    averages: bool = False
    masks: bool = True
    needs_mass: bool = False
    reduction: str | None = None
    base: LossSpec | None = None
    derived: Derived | None = None
    loaded: bool = True
