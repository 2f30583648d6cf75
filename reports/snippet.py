"""A finding as a script that can be pasted and run; it needs TensorFlow and nothing of ours."""

from __future__ import annotations

import json
import keyword
from typing import TYPE_CHECKING

from lossfuzz.harness.findings import UPSTREAM_IGNORED
from lossfuzz.harness.formats import format_named
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.paths.own import is_importable
from lossfuzz.harness.paths.table import path_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.findings import Finding
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.path import LossPath

_DECORATORS = {"eager": "", "graph": "@tf.function\n", "xla": "@tf.function(jit_compile=True)\n"}

_INPUTS = """\
logits = tf.constant([{logits}], tf.{format})
labels = tf.constant([{label}]{label_type})
{repeat}
"""

_STEP = """\
{decorator}def step(logits, labels):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = {source}
    return loss, tape.gradient(loss, logits{upstream})

with tf.device({device}):
    loss, gradient = step(logits, labels)
"""

_OUTPUT = """\
print("loss    ", float(tf.reshape(loss, [-1])[0]), " exact:", {exact_loss})
print("gradient", {gradient}, " exact:", {exact_gradient})
"""

SHOWN_CLASSES = 8
"""Rows of more classes are not written out class by class."""


def snippet(finding: Finding) -> str:
    """The script for one finding; it prints what is beside what should be."""
    label = finding.label
    short = len(finding.logits) <= SHOWN_CLASSES
    exact = finding.exact_gradient
    return (
        imports(finding)
        + inputs(finding)
        + step(finding)
        + _OUTPUT.format(
            exact_loss=literal(finding.exact_loss),
            gradient="[float(g) for g in gradient[0]]"
            if short
            else f"float(gradient[0, {label}])",
            exact_gradient=listed(exact) if short else repr(exact[label]),
        )
    )


def imports(finding: Finding) -> str:
    """The packages that a finding's path needs, and an empty line."""
    path = path_named(finding.path)
    lines = ["import tensorflow as tf"]
    module, attributes = _own_name(path)
    if module and _is_plain(module, attributes):
        lines.append(f"import {module}")
    elif module:
        lines += [
            "import importlib",
            "import operator",
            f"own_loss = operator.attrgetter({quoted(attributes)})(",
            f"    importlib.import_module({quoted(module)}))",
        ]
    if path.api != "tensorflow":
        lines.append(f"import {path.api}")
    return "\n".join(lines) + "\n\n"


def inputs(finding: Finding, copies: int | None = None) -> str:
    """Logits and labels of the row, as many copies of it as there are in a reduced loss's batch.

    Args:
        finding: whose row.
        copies: that make the batch; by default those that the finding itself tells of.
    """
    loss = path_named(finding.path).loss
    fmt = format_named(finding.format).dtype_name
    return _INPUTS.format(
        logits=listed(finding.logits),
        format=fmt,
        label=_target(finding, loss),
        label_type="" if by_label(loss) else f", tf.{fmt}",
        repeat=_repetition(finding) if copies is None else repeated(copies),
    )


def step(finding: Finding, mode: str | None = None) -> str:
    """Definition and call of the step that computes loss and gradient of logits and labels.

    Args:
        finding: whose path and device.
        mode: instead of the finding's own.
    """
    path = path_named(finding.path)
    mode = finding.mode if mode is None else mode
    if path.trains is not None:
        return f"mode = {mode!r}\n{path.source}\n"
    return _STEP.format(
        decorator=_DECORATORS[mode],
        source=_source(path).replace("\n", "\n        "),
        upstream=_upstream(finding),
        device=quoted(finding.device.rpartition("/")[2]),
    )


def _upstream(finding: Finding) -> str:
    """The argument for gradients from above, where the finding is about them."""
    if finding.kind != UPSTREAM_IGNORED:
        return ""
    return f", {finding.upstream!r} * tf.ones_like(loss)"


def _source(path: LossPath) -> str:
    module, attributes = _own_name(path)
    plain = _is_plain(module, attributes)
    if not path.source:
        return f"{f'{module}.{attributes}' if plain else 'own_loss'}.call(logits, labels, None)"
    if path.own and module and not plain:
        return f"own_loss({path.source.rpartition('(')[2]}"
    return path.source


def _own_name(path: LossPath) -> tuple[str, str]:
    """Module and name of what is the user's own; nothing where there is nothing to import."""
    written = path.name.partition(" as ")[0] if path.own else path.name
    module, separator, attributes = written.partition(":")
    return (module, attributes) if separator and is_importable(path.name) else ("", "")


def _is_plain(*dotted: str) -> bool:
    """Whether names can be written as code, since they are nothing but names and dots."""
    parts = [part for name in dotted for part in name.split(".")]
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)


def by_label(loss: LossSpec) -> bool:
    """Whether a loss is fed integer labels."""
    return loss.target in (kinds.INDEX, kinds.IGNORABLE, kinds.NONE)


def _target(finding: Finding, loss: LossSpec) -> str:
    if loss.target == kinds.IGNORABLE and finding.target and not any(finding.target):
        return str(kinds.IGNORED)
    if by_label(loss):
        return str(int(finding.label))
    if finding.target:
        return listed(finding.target)
    return listed([float(k == finding.label) for k in range(len(finding.logits))])


def _repetition(finding: Finding) -> str:
    """How a reduced loss's batch is made of the row."""
    if finding.batch_rows == 1 or finding.repeated:
        return repeated(finding.batch_rows)
    return f"# one row of {int(finding.batch_rows)}: the recipe in results.json has them all\n"


def repeated(copies: int) -> str:
    """How a batch is made of copies of the row; nothing for one."""
    if copies == 1:
        return ""
    return (
        f"logits = tf.repeat(logits, {int(copies)}, axis=0)\n"
        f"labels = tf.repeat(labels, {int(copies)}, axis=0)\n"
    )


def listed(values: Sequence[float]) -> str:
    """Numbers as a Python list; many equal ones as a product."""
    if len(values) > SHOWN_CLASSES and len(set(values)) == 1:
        return f"[{literal(values[0])}] * {len(values)}"
    return "[" + ", ".join(literal(value) for value in values) + "]"


def literal(value: float) -> str:
    """A number as Python reads it."""
    return repr(float(value)) if abs(value) < float("inf") else f'float("{float(value)}")'


def quoted(text: str) -> str:
    """Any text as a literal of Python in ASCII, whatever it contains."""
    return json.dumps(text)
