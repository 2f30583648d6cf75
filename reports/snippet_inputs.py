"""The logits and targets of a script, written as code or made again from a recipe."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.reports.components import telling_class
from lossfuzz.reports.literals import (
    SHOWN_CLASSES,
    listed,
    quoted,
)

if TYPE_CHECKING:
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.harness.results.findings import Finding


_INPUTS = """\
logits = tf.constant({logits}, tf.{format})
labels = tf.constant({labels}{label_type})
{rest}
"""

LONGEST = 6000
"""Characters of logits and targets that are written out; longer batches come of their recipe."""


_FEW_ALIKE = 2


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


def rank(finding: Finding) -> int:
    """Axes of the logits that the script feeds."""
    if finding.batch is not None:
        return len(finding.batch.shape) + 1
    if needs_recipe(finding) and finding.batch_rows > 1:
        return len(finding.recipe["shape"])
    return 2


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


def written(finding: Finding) -> str:
    """Logits and labels, as numbers."""
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
    return len(written(finding)) > LONGEST


def from_recipe(finding: Finding, loss: LossSpec) -> str:
    """Logits and labels, made again of the finding's recipe."""
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
