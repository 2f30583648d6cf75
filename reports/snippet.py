"""A finding as a script that can be pasted and run; it needs TensorFlow and nothing of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.paths.table import PATHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.findings import Finding

_DECORATORS = {"eager": "", "graph": "@tf.function\n", "xla": "@tf.function(jit_compile=True)\n"}

_SCRIPT = """\
import tensorflow as tf
{imports}
logits = tf.constant([{logits}], tf.{format})
labels = tf.constant([{label}])

{decorator}def step(logits, labels):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = {source}
    return loss, tape.gradient(loss, logits)

with tf.device("{device}"):
    loss, gradient = step(logits, labels)
print("loss    ", float(loss[0]), " exact:", {exact_loss})
print("gradient", {gradient}, " exact:", {exact_gradient})
"""


def snippet(finding: Finding) -> str:
    """The script for one finding; it prints what is beside what should be."""
    path = next(path for path in PATHS if path.name == finding.path)
    label = finding.label
    short = len(finding.logits) <= _SHOWN_CLASSES
    exact = _listed(finding.exact_gradient) if short else repr(finding.exact_gradient[label])
    return _SCRIPT.format(
        imports="" if path.api == "tensorflow" else f"import {path.api}\n",
        logits=_listed(finding.logits),
        format=finding.format,
        label=label,
        decorator=_DECORATORS[finding.mode],
        source=path.source.replace("\n", "\n        "),
        device=finding.device,
        exact_loss=_literal(finding.exact_loss),
        gradient="[float(g) for g in gradient[0]]" if short else f"float(gradient[0, {label}])",
        exact_gradient=exact,
    )


_SHOWN_CLASSES = 8


def _listed(values: Sequence[float]) -> str:
    return "[" + ", ".join(_literal(value) for value in values) + "]"


def _literal(value: float) -> str:
    return repr(value) if abs(value) < float("inf") else f'float("{value}")'
