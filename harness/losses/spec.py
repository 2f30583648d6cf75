"""What a loss is, mathematically, over any arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Arithmetic(Protocol):
    """The operations that a loss is written in, for numbers of one kind."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """A loss of one row of logits, with its gradient with respect to those logits.

    Attributes:
        name: what the literature calls it.
        formula: the definition, as text.
        evaluate: ``(logits, label, arithmetic) -> (loss, gradient)`` for finite logits in which
            masked classes have been left out.
        domain: for which inputs the loss has an exact value.
        source: where the definition is written down.
    """

    name: str
    formula: str
    evaluate: Callable[[Sequence[Any], int, Arithmetic], tuple[Any, list[Any]]]
    domain: str
    source: str
