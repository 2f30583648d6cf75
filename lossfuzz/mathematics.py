"""The mathematics that a user's loss is held against: by name, by value, or by a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.reduced import reduced, reduction_named
from lossfuzz.harness.losses.spec import LossSpec
from lossfuzz.harness.losses.table import loss_named

if TYPE_CHECKING:
    from collections.abc import Callable


def spec_of(
    against: str | LossSpec | Callable[..., Any], reduction: str | None = None
) -> LossSpec:
    """The loss that is meant.

    Args:
        against: a name or its short form, such as ``softmax-cross-entropy``; the name
            ``package.module:formula``; a loss; or a formula ``(x, logits, label) -> number``.
        reduction: of `reduced.REDUCTIONS`, if a row's loss is reduced over the batch; with any
            signs between its words.

    Raises:
        ValueError: the name or the reduction is not known.
        TypeError: it is something else.
    """
    if isinstance(against, type):
        raise TypeError(
            "expected a loss's name such as 'softmax-cross-entropy', a LossSpec or a formula "
            f"(x, logits, label), got the class {against.__name__}"
        )
    if isinstance(against, LossSpec):
        from lossfuzz.harness.formula.spec import known

        spec = known(against)
    elif isinstance(against, str):
        spec = loss_named(against, load=True)
    elif callable(against):
        from lossfuzz.harness.formula.spec import formula

        spec = formula(against)
    else:
        raise TypeError(
            "expected a loss's name such as 'softmax-cross-entropy', a LossSpec or a formula "
            f"(x, logits, label), got {against!r} of type {type(against).__name__}"
        )
    if reduction is None:
        return spec
    if not isinstance(reduction, str):
        raise TypeError(
            f"expected a reduction by name such as 'mean', got {reduction!r} of type "
            f"{type(reduction).__name__}"
        )
    reduction = reduction_named(reduction)
    if spec.reduction is not None:
        raise ValueError(f"{spec.name!r} is reduced already; leave the reduction out")
    return reduced(spec, reduction)
