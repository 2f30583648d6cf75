"""One way in which users compute a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat


AS = " as "
"""Between the name of a user's loss and that of what it is to compute, in a path's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPath:
    """A loss path: what a user calls, on logits, to get a loss.

    Attributes:
        name: unique, ``api/way/variant``.
        loss: the mathematics that it is used for.
        api: the package that a user imports for it.
        call: ``(logits, targets, format) -> losses`` on tensors: logits ``[..., classes]``,
            targets as `targets.KINDS` describes the kind of the loss; losses ``[...]``, or a
            scalar for a reduced loss. It imports TensorFlow itself, so that listing paths does
            not.
        source: the same as an expression of ``logits`` and ``labels``, for a pasted snippet.
        documented: the mathematics that the path's documentation or code promises, with its
            clip; the loss itself where it promises that.
        trained: whether it is a whole model, whose source is a script that makes it and trains it
            on a batch; the gradient is then the one that the optimizer received.
        own: whether it is a user's own loss, which nobody has tried before.
        function: the user's own object, where it is known.
        bounds: the interval that a user's own loss takes its inputs from; None for any.
        arguments: what the user's own is called with, as code of ``logits`` and ``labels``.
        quotable: whether a script may tell it by its source; not where that gives other values.
        loaded: whether it can be called; one that was only read of in a record cannot.
    """

    name: str
    loss: LossSpec
    api: str
    call: Callable[[Any, Any, FloatFormat], Any]
    source: str
    documented: LossSpec
    trained: bool = False
    own: bool = False
    function: Callable[..., Any] | None = None
    bounds: tuple[float, float] | None = None
    arguments: str = ""
    quotable: bool = True
    loaded: bool = True

    @property
    def written(self) -> str:
        """The name as its user writes it, such as ``module:loss``."""
        return self.name.partition(AS)[0] if self.own else self.name
