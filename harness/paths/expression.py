"""A path from the expression that a user would write, which is run as it stands.

So what a finding shows is what was measured. Expressions work for logits of any rank from 2 on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.paths.path import LossPath

if TYPE_CHECKING:
    from collections.abc import Callable

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.numbers.formats import FloatFormat

SAMPLE_WEIGHTS = (
    "tf.reshape(\n"
    "    tf.cast(tf.range(tf.size(labels)) % 8 + 1, logits.dtype) / 4, tf.shape(labels))"
)
"""`reduced.sample_weights`, shaped like integer labels."""


def expression_path(
    name: str,
    loss: LossSpec,
    source: str,
    *,
    api: str = "tensorflow",
    documented: LossSpec | None = None,
) -> LossPath:
    """The path of an expression in ``logits``, ``labels``, ``tf`` and the API's package.

    Args:
        name: of the path.
        loss: the mathematics that it is used for.
        source: the expression.
        api: the package that it needs.
        documented: what it promises, where that is not the loss itself.
    """
    return LossPath(
        name=name,
        loss=loss,
        api=api,
        call=_call(name, source, api),
        source=source,
        documented=documented or loss,
    )


def _call(name: str, source: str, api: str) -> Callable[[Any, Any, FloatFormat], Any]:
    code = compile(source, f"<{name}>", "eval")

    def call(logits: Any, labels: Any, _: FloatFormat) -> Any:
        import tensorflow as tf

        names = {"tf": tf, api: importlib.import_module(api), "logits": logits, "labels": labels}
        return eval(code, names)  # noqa: S307 - an expression of these tables, never a user's

    return call
