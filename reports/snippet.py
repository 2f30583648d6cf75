"""A finding as a script that can be pasted and run; it needs TensorFlow and nothing of ours."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.numbers.decimals import proved
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.reports.components import telling_class
from lossfuzz.reports.literals import (
    PACKED_IMPORTS,
    SHOWN_CLASSES,
    is_packed,
    listed,
    literal,
    quoted,
)
from lossfuzz.reports.loss_source import CALLED, LossSource, loss_source

if TYPE_CHECKING:
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.harness.results.findings import Finding

LONGEST = 6000
"""Characters of logits and targets that are written out; longer batches come of their recipe."""

LONGEST_SCRIPT = 8000
"""Characters of a script that is shown in a message; a longer one has to be asked for."""

_FEW_ALIKE = 2

_DECORATORS = {"eager": "", "graph": "@tf.function\n", "xla": "@tf.function(jit_compile=True)\n"}

_INPUTS = """\
logits = tf.constant({logits}, tf.{format})
labels = tf.constant({labels}{label_type})
{rest}
"""

_FROM_RECIPE = """\
# too long to be written out: lossfuzz makes it of its recipe
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.measuring.prepared import inputs_of
from lossfuzz.strategies.recipes import Recipe, expand

batch = expand(Recipe.from_json({recipe}))
logits, labels = inputs_of(batch.logits, batch.labels, {target}{loss})
logits, labels = tf.constant(logits), tf.constant(labels)
{rest}
"""

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
    gradient = (
        "gradient" if _rank(finding) == 2 else "tf.reshape(gradient, [-1, logits.shape[-1]])"
    )
    if len(finding.logits) <= SHOWN_CLASSES:
        printed = f"[float(g) for g in {gradient}[{row}]]"
    else:
        printed = f"[float({gradient}[{row}, k]) for k in {told}]"
    exact_gradient = listed([proved(exact[k]) for k in told])
    if is_on_a_kink(finding):
        exact_gradient = quoted(f"{ON_A_KINK}")
    return (
        imports(finding, bound=bound)
        + (_from_recipe(finding, path.loss) if needs_recipe(finding) else inputs(finding))
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


def shown_classes(finding: Finding) -> list[int]:
    """The classes whose components are told: all, or of a wide row those that tell most."""
    exact, observed = np.array(finding.exact_gradient), np.array(finding.observed_gradient)
    if len(exact) <= SHOWN_CLASSES:
        return list(range(len(exact)))
    chosen = {finding.label, int(np.abs(exact).argmax())}
    if exact.shape == observed.shape:
        with np.errstate(invalid="ignore"):
            apart = np.abs(observed - exact)
        chosen.add(int(np.where(np.isfinite(apart), apart, np.inf).argmax()))
    telling = telling_class(finding)
    if telling is not None:
        chosen.add(telling)
    return sorted(chosen)


def _rank(finding: Finding) -> int:
    """Axes of the logits that the script feeds."""
    if finding.batch is not None:
        return len(finding.batch.shape) + 1
    if needs_recipe(finding) and finding.batch_rows > 1:
        return len(finding.recipe["shape"])
    return 2


def imports(finding: Finding, *, bound: bool = False) -> str:
    """The packages that a finding's path needs and the user's loss, and an empty line.

    Args:
        finding: of the path.
        bound: as `snippet` has it.
    """
    path = path_named(finding.path)
    lines = ["import tensorflow as tf\n"]
    if is_packed(_written(finding)):
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


def inputs(finding: Finding, copies: int | None = None) -> str:
    """Logits and labels of the batch that shows a finding.

    Args:
        finding: whose row.
        copies: of the row that make the batch; by default those that the finding itself tells of.
    """
    path = path_named(finding.path)
    loss, fmt = path.loss, format_named(finding.format).dtype_name
    rest = _shaped(finding, loss)
    if finding.batch is None and (copies or finding.repeated):
        rest = repeated(copies or finding.batch_rows)
    elif finding.batch is None and finding.batch_rows > 1:
        rest = f"# one row of {finding.batch_rows}: the recipe in results.json has them all\n"
    code = _INPUTS.format(
        logits=_logits(finding),
        format=fmt,
        labels=_labels(finding, loss),
        label_type="" if by_label(loss) else f", tf.{fmt}",
        rest=rest,
    )
    return code if _is_labelled(path) else without_labels(code)


def fed(path: LossPath) -> str:
    """What the script's step is given, as code; a user's loss may take the logits alone."""
    return "logits, labels" if _is_labelled(path) else "logits"


def _is_labelled(path: LossPath) -> bool:
    called = path.arguments if path.own else path.source
    return not called or "labels" in called


def without_labels(code: str) -> str:
    """Lines of inputs without those that make the labels, for a loss that takes none."""
    lines = code.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("labels = "))


def _written(finding: Finding) -> str:
    return _logits(finding) + _labels(finding, path_named(finding.path).loss)


def needs_recipe(finding: Finding) -> bool:
    """Whether its batch is made of its recipe, since it takes too many numbers to write it out.

    That is one of many different rows, or of a row that is as long as it was found.
    """
    if finding.batch is not None or finding.repeated or "shape" not in finding.recipe:
        return False
    many = len(finding.logits) > LONGEST // 20
    return finding.batch_rows > 1 or (many and is_long(finding))


def is_long(finding: Finding) -> bool:
    """Whether logits and targets take more than `LONGEST` characters."""
    return len(_written(finding)) > LONGEST


def _from_recipe(finding: Finding, loss: LossSpec) -> str:
    rest = ""
    if finding.batch_rows == 1:
        row = f"[{finding.row}:{finding.row + 1}]"
        rest = (
            f"logits = tf.reshape(logits, [-1, logits.shape[-1]]){row}\n"
            f"labels = tf.reshape(labels, [-1{'' if by_label(loss) else ', labels.shape[-1]'}])"
            f"{row}\n"
        )
    reduced = f", loss_named({quoted(finding.loss)})" if loss.reduction is not None else ""
    own = f", masks={loss.masks}" if path_named(finding.path).own and not reduced else ""
    own += ", needs_mass=True" if own and loss.needs_mass else ""
    code = _FROM_RECIPE.format(
        recipe=finding.recipe, target=quoted(loss.target), loss=reduced or own, rest=rest
    )
    unneeded = "from lossfuzz.harness.losses.table import loss_named\n"
    code = code if reduced else code.replace(unneeded, "")
    if _is_labelled(path_named(finding.path)):
        return code
    alone = code.replace(
        "logits, labels = tf.constant(logits), tf.constant(labels)", "logits = tf.constant(logits)"
    )
    return without_labels(alone)


def _logits(finding: Finding) -> str:
    if finding.batch is None:
        return f"[{listed(finding.logits)}]"
    return _stacked([listed(row) for row in finding.batch.logits])


def _labels(finding: Finding, loss: LossSpec) -> str:
    if finding.batch is None:
        return f"[{_target(finding, loss)}]"
    if by_label(loss):
        labels = [int(row[0]) for row in finding.batch.targets]
        many = len(labels) > SHOWN_CLASSES
        return f"[int(k) for k in {listed(labels)}]" if many else str(labels)
    return _stacked([listed(row) for row in finding.batch.targets])


def _stacked(rows: list[str]) -> str:
    """Rows as a list of lists; equal ones that follow each other as a product."""
    runs = [(row, len(list(run))) for row, run in itertools.groupby(rows)]
    if any(count > _FEW_ALIKE for _, count in runs):
        return " + ".join(f"[{row}] * {count}" if count > 1 else f"[{row}]" for row, count in runs)
    inside = ",\n".join(f"    {row}" for row in rows)
    return f"[\n{inside},\n]"


def _shaped(finding: Finding, loss: LossSpec) -> str:
    """How flat rows get their leading axes back."""
    batch = finding.batch
    if batch is None or len(batch.shape) == 1:
        return ""
    shape = list(batch.shape)
    targets = shape if by_label(loss) else [*shape, len(finding.logits)]
    return (
        f"logits = tf.reshape(logits, {[*shape, len(finding.logits)]})\n"
        f"labels = tf.reshape(labels, {targets})\n"
    )


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


def repeated(copies: int) -> str:
    """How a batch is made of copies of the row; nothing for one."""
    if copies == 1:
        return ""
    return (
        f"logits = tf.repeat(logits, {int(copies)}, axis=0)\n"
        f"labels = tf.repeat(labels, {int(copies)}, axis=0)\n"
    )
