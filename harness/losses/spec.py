"""What a loss is, mathematically, over any arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.losses.targets import Targets
    from lossfuzz.harness.reference.enclosure import Enclosure


class Arithmetic(Protocol):
    """The operations that a textbook formula is written in, for numbers of one kind."""

    def number(self, value: float) -> Any:
        """A float64, exactly."""

    def exp(self, value: Any) -> Any:
        """Exponential."""

    def log(self, value: Any) -> Any:
        """Natural logarithm of a positive number."""


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
