"""A finding as a script that can be pasted and run; it needs TensorFlow and nothing of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.paths.table import path_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.findings import Finding
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.path import LossPath

_DECORATORS = {"eager": "", "graph": "@tf.function\n", "xla": "@tf.function(jit_compile=True)\n"}

_INPUTS = """\
import tensorflow as tf
{imports}
logits = tf.constant([{logits}], tf.{format})
labels = tf.constant([{label}]{label_type})
{repeat}
"""

_STEP = """\
{decorator}def step(logits, labels):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = {source}
    return loss, tape.gradient(loss, logits)

with tf.device("{device}"):
    loss, gradient = step(logits, labels)
"""

_OUTPUT = """\
print("loss    ", float(tf.reshape(loss, [-1])[0]), " exact:", {exact_loss})
print("gradient", {gradient}, " exact:", {exact_gradient})
"""

_SHOWN_CLASSES = 8


def snippet(finding: Finding) -> str:
    """The script for one finding; it prints what is beside what should be."""
    path = path_named(finding.path)
    module, _, attribute = finding.path.partition(":")
    label = finding.label
    short = len(finding.logits) <= _SHOWN_CLASSES
    exact = _listed(finding.exact_gradient) if short else repr(finding.exact_gradient[label])
    inputs = _INPUTS.format(
        imports="".join(f"import {name}\n" for name in _imported(path)),
        logits=_listed(finding.logits),
        format=finding.format,
        label=_target(finding, path.loss),
        label_type="" if _by_label(path.loss) else f", tf.{finding.format}",
        repeat=_repetition(finding),
    )
    if path.trains is None:
        step = _STEP.format(
            decorator=_DECORATORS[finding.mode],
            source=path.source.replace("\n", "\n        ")
            or f"{module}.{attribute}.call(logits, labels, None)",
            device=finding.device,
        )
    else:
        step = f"mode = {finding.mode!r}\n{path.source}\n"
    return (
        inputs
        + step
        + _OUTPUT.format(
            exact_loss=_literal(finding.exact_loss),
            gradient="[float(g) for g in gradient[0]]"
            if short
            else f"float(gradient[0, {label}])",
            exact_gradient=exact,
        )
    )


def _imported(path: LossPath) -> list[str]:
    """The packages that a path's script needs beside TensorFlow."""
    own = [path.name.partition(":")[0]] if ":" in path.name else []
    return own + ([] if path.api == "tensorflow" else [path.api])


def _by_label(loss: LossSpec) -> bool:
    return loss.target in (kinds.INDEX, kinds.IGNORABLE, kinds.NONE)


def _target(finding: Finding, loss: LossSpec) -> str:
    if loss.target == kinds.IGNORABLE and finding.target and not any(finding.target):
        return str(kinds.IGNORED)
    if _by_label(loss):
        return str(finding.label)
    if finding.target:
        return _listed(finding.target)
    return _listed([float(k == finding.label) for k in range(len(finding.logits))])


def _repetition(finding: Finding) -> str:
    """How a reduced loss's batch is made of the row."""
    if finding.batch_rows == 1:
        return ""
    if not finding.repeated:
        return f"# one row of {finding.batch_rows}: the recipe in results.json has them all\n"
    return (
        f"logits = tf.repeat(logits, {finding.batch_rows}, axis=0)\n"
        f"labels = tf.repeat(labels, {finding.batch_rows}, axis=0)\n"
    )


def _listed(values: Sequence[float]) -> str:
    if len(values) > _SHOWN_CLASSES and len(set(values)) == 1:
        return f"[{_literal(values[0])}] * {len(values)}"
    return "[" + ", ".join(_literal(value) for value in values) + "]"


def _literal(value: float) -> str:
    return repr(value) if abs(value) < float("inf") else f'float("{value}")'
