"""How TensorFlow runs a loss: op by op, as a function, or compiled."""

from __future__ import annotations

from lossfuzz.harness.records.spelling import unknown

MODES = ("eager", "graph", "xla")
"""Run op by op; as ``tf.function``; as ``tf.function(jit_compile=True)``."""

_ELSEWHERE = {"tf.function": "graph", "function": "graph", "jit_compile": "xla", "jit": "xla"}


def mode_named(name: str) -> str:
    """The name itself, if it is a mode.

    Raises:
        ValueError: it is none; the message lists the modes.
    """
    if name not in MODES:
        raise ValueError(unknown("mode", name, MODES, _ELSEWHERE))
    return name
