"""Calling a user's loss as its user does, and checking what it returns."""

from __future__ import annotations

import inspect
import re
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.losses.reduced import sample_weights
from lossfuzz.harness.losses.targets import BY_CLASS
from lossfuzz.harness.users.interruption import is_from_outside
from lossfuzz.harness.users.user_code import kind_of, line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.signature import Signature

    Loss = Callable[..., Any]

ONE_FOR_EACH_CLASS = "one loss for each class"
ONE_AXIS_TOO_MANY = "drop the last axis"
ONE_FOR_THE_BATCH = "of a mean or a sum over the batch say so"
FLOATING = ("float16", "bfloat16", "float32", "float64")
_IN_USER_CODE = "in user code:"
_NODE = re.compile(r"\{\{.*?\}\}\s*| \[Op:\w+\].*$")
"""What TensorFlow writes around a message: names of its nodes and operations."""

_MOST_SHOWN = 140


class LossError(TypeError):
    """A user's loss returned what no loss of these logits can be; the message is one line."""


def checked_call(
    loss: Loss, against: LossSpec, written: str, signature: Signature
) -> Callable[[Any, Any, FloatFormat], Any]:
    """``(logits, targets, format) -> losses``, as `LossPath.call` is, of a user's loss.

    Args:
        loss: the user's.
        against: what it is to compute.
        written: its name, for messages.
        signature: how it is called.
    """
    raw = raw_call(loss, written, signature)

    def call(logits: Any, labels: Any, fmt: FloatFormat) -> Any:
        return _checked(raw(logits, labels, fmt), logits, labels, against, written)

    return call


def raw_call(
    loss: Loss, written: str, signature: Signature
) -> Callable[[Any, Any, FloatFormat], Any]:
    """The same without a check of what comes back.

    In graph and XLA a loss that TensorFlow cannot trace as it stands, since tensors decide in an
    ``if`` or a loop, is converted by AutoGraph, as ``tf.function`` does by default.
    """
    converted: list[Loss] = []

    def as_given(*arguments: Any) -> Any:
        return loss(*arguments)

    def call(logits: Any, labels: Any, _: FloatFormat) -> Any:
        import tensorflow as tf

        given = signature.arguments(logits, labels, _weights(logits, signature))
        try:
            eager = tf.executing_eagerly()
            try:
                return (converted[0] if converted and not eager else loss)(*given)
            except Exception as error:
                if eager or converted or isinstance(error, RecursionError):
                    raise
                # a function of our own that calls it: so objects and partials are converted too
                converted[:] = [tf.autograph.to_graph(as_given)]
                return converted[0](*given)
        except BaseException as error:
            if is_from_outside(error):
                raise
            raise LossError(
                f"{written} raised {kind_of(error)}{_place(error, loss)}: {_first_line(error)}"
                f"{fed(logits, labels)}"
            ) from error

    return call


def fed(logits: Any, labels: Any) -> str:
    """What a loss was given, in brackets."""
    both = (
        f"{what} {one.dtype.name} {list(one.shape)}"
        for what, one in (("logits", logits), ("labels", labels))
    )
    return f" (given {', '.join(both)})"


def _weights(logits: Any, signature: Signature) -> Any:
    import tensorflow as tf

    if not signature.weighted:
        return None
    rows = logits.shape[:-1]
    weights = sample_weights(rows.num_elements()).reshape(tuple(rows))
    return tf.cast(tf.constant(weights), logits.dtype)


def _first_line(error: BaseException) -> str:
    first = line_of(error)
    if not first.startswith(_IN_USER_CODE):
        return _NODE.sub("", first)[:_MOST_SHOWN]
    metadata = getattr(error, "ag_error_metadata", None)
    cause = str(getattr(metadata, "cause_message", "")).strip().splitlines()
    last = str(error).strip().splitlines()[-1].strip()
    return _NODE.sub("", cause[0] if cause else last).strip()[:_MOST_SHOWN]


def _place(error: BaseException, loss: Loss) -> str:
    """The last line of the loss's own file that an error came through."""
    function = getattr(loss, "func", loss)
    code: Any = getattr(function, "__code__", None)
    if code is None:
        code = getattr(type(function).__call__, "__code__", None)
    if code is None:
        return ""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == code.co_filename
    ]
    return f" ({Path(code.co_filename).name}, line {lines[-1]})" if lines else ""


def _checked(losses: Any, logits: Any, labels: Any, against: LossSpec, written: str) -> Any:
    """What a loss returned, if it has the shape and the kind of dtype that a loss has.

    Raises:
        LossError: it has not.
    """
    import tensorflow as tf

    wanted = () if against.reduction else tuple(logits.shape[:-1])
    given = fed(logits, labels)
    expected = f"expected losses of shape {list(wanted)} for logits {list(logits.shape)}"
    if not isinstance(losses, tf.Tensor | tf.Variable):
        raise LossError(f"{written} returned {_described(losses)}; {expected} as a tensor{given}")
    if losses.dtype.name not in FLOATING:
        raise LossError(
            f"{written} returned dtype {losses.dtype.name}; expected a floating one, such as the "
            f"logits' own{given}"
        )
    if losses.shape.rank is None or not losses.shape.is_fully_defined():
        return tf.ensure_shape(losses, wanted)
    got = tuple(losses.shape)
    if got == wanted:
        return losses
    if against.target in BY_CLASS and got == (*wanted, 1) == tuple(logits.shape):
        return tf.squeeze(losses, -1)  # the mean over one class, of a loss of every element
    raise LossError(
        f"{written} returned shape {list(got)}; {expected}"
        f"{_advice(got, wanted, tuple(logits.shape))}{given}"
    )


def _described(losses: Any) -> str:
    if losses is None:
        return "None"
    if inspect.iscoroutine(losses):
        losses.close()  # else Python warns that nobody awaited it
        return "a coroutine, since it is an async function"
    if inspect.isgenerator(losses) or inspect.isasyncgen(losses):
        return "a generator, since it yields"
    kind = type(losses).__name__
    return f"{'an' if kind[:1] in 'AEIOUaeiou' else 'a'} {kind}"


def _advice(got: tuple[int, ...], wanted: tuple[int, ...], logits: tuple[int, ...]) -> str:
    if not got:
        return f" ({ONE_FOR_THE_BATCH}: reduction='mean' or --reduction mean)"
    if wanted and got == (*wanted, 1):
        return f" ({ONE_AXIS_TOO_MANY}: keepdims=True leaves one)"
    if got == logits:
        return f" ({ONE_FOR_EACH_CLASS}: sum or average over the last axis)"
    return ""
