"""A finding as a script that can be pasted and run; it needs TensorFlow and nothing of ours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lossfuzz.harness.numbers.decimals import proved
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.reports.literals import (
    PACKED_IMPORTS,
    SHOWN_CLASSES,
    is_packed,
    listed,
    literal,
    quoted,
)
from lossfuzz.reports.loss_source import CALLED, LossSource, loss_source
from lossfuzz.reports.snippet_inputs import (
    fed,
    from_recipe,
    inputs,
    needs_recipe,
    rank,
    shown_classes,
    written,
)

if TYPE_CHECKING:
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.harness.results.findings import Finding


LONGEST_SCRIPT = 8000
"""Characters of a script that is shown in a message; a longer one has to be asked for."""


_DECORATORS = {"eager": "", "graph": "@tf.function\n", "xla": "@tf.function(jit_compile=True)\n"}


_STEP = """\
{decorator}def step({fed}):
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = {source}
    return loss, {gradient}

with tf.device({device}):
    loss, gradient = step({fed})
"""

_OUTPUT = """\
print("loss    ", float(tf.reshape(loss, [-1])[{loss_row}]), " exact:", {exact_loss})
print("gradient", {gradient}, " exact:", {exact_gradient})
"""


_FURTHER = """\
further = tf.constant([{logits}], tf.{format})
print("further ", float(tf.reshape(step({fed})[0], [-1])[0]), " exact:", {exact_loss})
"""


def snippet(finding: Finding, *, bound: bool = False) -> str:
    """The script for one finding; it prints what is beside what should be.

    Args:
        finding: of any kind.
        bound: whether what defines a loss that nobody else has is left out, for a run in which
            `loss_source.CALLED` is there already.
    """
    path = path_named(finding.path)
    row = finding.place
    told = shown_classes(finding)
    exact = finding.exact_gradient
    gradient = "gradient" if rank(finding) == 2 else "tf.reshape(gradient, [-1, logits.shape[-1]])"
    if len(finding.logits) <= SHOWN_CLASSES:
        printed = f"[float(g) for g in {gradient}[{row}]]"
    else:
        printed = f"[float({gradient}[{row}, k]) for k in {told}]"
    exact_gradient = listed([proved(exact[k]) for k in told])
    if is_on_a_kink(finding):
        exact_gradient = quoted(f"{ON_A_KINK}")
    return (
        imports(finding, bound=bound)
        + (from_recipe(finding, path.loss) if needs_recipe(finding) else inputs(finding))
        + step(finding, bound=bound)
        + _OUTPUT.format(
            loss_row=0 if path.loss.reduction is not None else row,
            exact_loss=literal(proved(finding.exact_loss)),
            gradient=printed,
            exact_gradient=exact_gradient,
        )
        + _further(finding)
    )


ON_A_KINK = "any number between the one-sided derivatives, for the row lies on a kink"
"""What is said in place of an exact gradient that there is none of."""


def is_on_a_kink(finding: Finding) -> bool:
    """Whether its row has an exact loss and no derivative."""
    return math.isfinite(finding.exact_loss) and any(map(math.isnan, finding.exact_gradient))


def _further(finding: Finding) -> str:
    """The row that shows that a loss has stopped: its loss is the same, its exact loss larger."""
    if not finding.further or finding.batch_rows > 1:
        return ""
    return _FURTHER.format(
        logits=listed(finding.further),
        format=format_named(finding.format).dtype_name,
        exact_loss=literal(proved(finding.further_exact_loss)),
        fed=fed(path_named(finding.path)).replace("logits", "further"),
    )


def imports(finding: Finding, *, bound: bool = False) -> str:
    """The packages that a finding's path needs and the user's loss, and an empty line.

    Args:
        finding: of the path.
        bound: as `snippet` has it.
    """
    path = path_named(finding.path)
    lines = ["import tensorflow as tf\n"]
    if is_packed(written(finding)):
        lines.append(PACKED_IMPORTS)
    source = _own_source(path)
    if source is not None and not (bound and (source.quoted or not source.complete)):
        if source.module:
            name = source.module.partition(".")[0]
            lines.append(f"# needs {_word(name)}: put its folder on PYTHONPATH\n")
        lines.append(source.code)
    if path.api != "tensorflow":
        lines.append(f"import {path.api}\n")
    return "".join(lines) + "\n"


def _word(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


def _own_source(path: LossPath) -> LossSource | None:
    """How a user's loss is had; None of the libraries' paths."""
    return loss_source(path) if path.own or (":" in path.name and not path.source) else None


def step(finding: Finding, mode: str | None = None, *, bound: bool = False) -> str:
    """Definition and call of the step that computes loss and gradient of logits and labels.

    Args:
        finding: whose path and device.
        mode: instead of the finding's own.
        bound: as `snippet` has it.
    """
    path = path_named(finding.path)
    mode = finding.mode if mode is None else mode
    if path.trained:
        return f"mode = {mode!r}\n{path.source}\n"
    above = ""
    if finding.upstream:
        values = ", ".join(map(literal, finding.upstream))
        above = f", tf.reshape(tf.constant([{values}], loss.dtype), tf.shape(loss))"
    gradient = f"tape.gradient(loss, logits{above})"
    return _STEP.format(
        decorator=_DECORATORS[mode],
        fed=fed(path),
        source=_source(path, bound=bound).replace("\n", "\n        "),
        gradient=f"tf.convert_to_tensor({gradient})" if path.own else gradient,
        device=quoted(finding.device.rpartition("/")[2]),
    )


def _source(path: LossPath, *, bound: bool) -> str:
    source = _own_source(path)
    if source is None:
        return path.source
    if not path.source:
        return f"{source.called}.call(logits, labels, None)"
    called = CALLED if bound and source.quoted else source.called
    return f"{called}({path.arguments})"
