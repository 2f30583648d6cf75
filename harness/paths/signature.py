"""How a user's loss is called: in which order, with which of logits, targets and weights."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.reduced import WEIGHTED
from lossfuzz.harness.losses.targets import NONE
from lossfuzz.harness.users.user_code import UserCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec

_TARGETS_FIRST = frozenset({"y_true", "labels", "label", "targets", "target"})
_LOGITS_SECOND = frozenset({"y_pred", "logits", "predictions", "output"})
_WEIGHTS_THIRD = frozenset({"sample_weight", "sample_weights", "weights", "weight"})

_WEIGHTS = (
    "tf.reshape(tf.cast(tf.range(tf.size(logits[..., 0])) % 8 + 1, logits.dtype) / 4,\n"
    "    tf.shape(logits)[:-1])"
)
"""`reduced.sample_weights`, of the rows' shape and in the logits' dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a loss is called with.

    Attributes:
        swapped: whether the targets come before the logits.
        labelled: whether it is given targets at all.
        weighted: whether it is given sample weights, last.
    """

    swapped: bool = False
    labelled: bool = True
    weighted: bool = False

    def arguments(self, logits: Any, labels: Any, weights: Any) -> tuple[Any, ...]:
        """Of what there is, what the loss is given."""
        if not self.labelled:
            return (logits,)
        given = (labels, logits) if self.swapped else (logits, labels)
        return (*given, weights) if self.weighted else given

    @property
    def source(self) -> str:
        """The arguments as code of ``logits``, ``labels`` and ``tf``."""
        return ", ".join(self.arguments("logits", "labels", _WEIGHTS))


def signature_of(loss: Callable[..., Any], against: LossSpec, name: str = "") -> Signature:
    """How a loss is called, as its parameters and their names say.

    Args:
        loss: of a user.
        against: the mathematics that it is to compute.
        name: of the loss, for the error.

    Raises:
        TypeError: it cannot be called so.
    """
    weighted = against.reduction in WEIGHTED
    if any(base.__module__.startswith(("keras.", "tf_keras.")) for base in type(loss).__mro__):
        return Signature(swapped=True, weighted=weighted)
    try:
        with UserCode(name or type(loss).__name__):  # an object may compute its signature
            signature = inspect.signature(loss)
    except Exception:  # noqa: BLE001 - whatever an object raises that is asked for its own
        return Signature()
    required = _required(signature)
    if against.target == NONE and required == 1:
        return Signature(labelled=False)
    names = [parameter.lower() for parameter in signature.parameters]
    third = names[2] if len(names) > 2 else ""
    weighted = weighted and _binds(signature, 3) and (required == 3 or third in _WEIGHTS_THIRD)
    try:
        signature.bind(*(None,) * (3 if weighted else 2))
    except TypeError as error:
        name = name or getattr(loss, "__name__", type(loss).__name__)
        raise TypeError(
            f"expected a loss that can be called with (logits, labels); {name}{signature} "
            f"cannot: {error}{_advice(required, against)}"
        ) from None
    swapped = len(names) > 1 and names[0] in _TARGETS_FIRST and names[1] in _LOGITS_SECOND
    return Signature(swapped=swapped, weighted=weighted)


def _required(signature: inspect.Signature) -> int:
    """How many arguments must be given by their place."""
    return sum(
        one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        for one in signature.parameters.values()
    )


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def _advice(required: int, against: LossSpec) -> str:
    if required == 1:
        return " (of a loss without labels say so: against a formula with target='none')"
    if required == 3 and against.reduction not in WEIGHTED:
        return f" (a loss with sample weights takes reduction={' or '.join(map(repr, WEIGHTED))})"
    return ""
