"""What a cell does with logits that have no exact value: infinities, fully masked rows, NaN.

Nobody can say what is right there, so nothing of it is judged: it is recorded as the cell's
policy. NaN has to propagate; a cell that returns a finite loss for NaN swallows it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.targets import Targets, targets_of
from lossfuzz.harness.running.execution import UnavailableError, own_name, refusals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.running.execution import CellRunner, Runner

_INFINITY = math.inf

LABELLED: dict[str, tuple[float, float]] = {
    "+inf at the label": (_INFINITY, 0.0),
    "+inf beside the label": (0.0, _INFINITY),
    "-inf at the label": (-_INFINITY, 0.0),
    "-inf everywhere": (-_INFINITY, -_INFINITY),
    "NaN beside the label": (0.0, math.nan),
}
"""Rows of a loss with a label, the first class: its logit and the others'."""

BY_CLASS: dict[str, tuple[float, float]] = {
    "+inf, target 1": (_INFINITY, 1.0),
    "+inf, target 0": (_INFINITY, 0.0),
    "-inf, target 1": (-_INFINITY, 1.0),
    "-inf, target 0": (-_INFINITY, 0.0),
    "NaN, target 1": (math.nan, 1.0),
}
"""Rows of a loss that judges each class by itself: all logits and all targets."""


def has_policy(loss: LossSpec) -> bool:
    """Whether a loss's rows can be told apart, so that its policy can be asked for."""
    return loss.reduction is None


def may_not_end(runner: CellRunner, shape: tuple[int, ...]) -> bool:
    """Whether a user's own loss loops as its numbers say, and so may never end on infinities.

    It is traced, and its graph searched for loops; what cannot be traced may loop, too.
    """
    import tensorflow as tf

    cell = runner.cell
    if not cell.path.own:
        return False
    logits = np.zeros(shape, cell.format.dtype)
    labels = np.zeros(math.prod(shape[:-1]), np.int32)
    targets = targets_of(cell.path.loss.target, logits.reshape(-1, shape[-1]), labels)
    fed = targets.fed(shape, logits.dtype)

    def forward(given: Any, beside: Any) -> Any:
        return cell.path.call(given, beside, cell.format)

    try:
        with refusals(own_name(cell)):
            traced = tf.function(forward, autograph=False).get_concrete_function(
                tf.constant(logits), tf.constant(fed)
            )
    except UnavailableError:
        return True
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    return any("While" in node.op for node in nodes)


def policy_of(runner: Runner, shape: tuple[int, ...]) -> dict[str, str]:
    """What a cell returns for each such row, in words.

    Args:
        runner: of the cell, whose loss is one of each row.
        shape: of a batch that the cell was run on, classes last; nothing is compiled anew.

    Returns:
        The row's description to ``loss NaN, gradient finite`` and the like; ``refused`` for a
        cell that refuses such a batch.
    """
    cell, loss = runner.cell, runner.cell.path.loss
    by_class = loss.target in kinds.BY_CLASS
    names = list(BY_CLASS if by_class else LABELLED)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    found: dict[str, str] = {}
    for start in range(0, len(names), rows):
        part = names[start : start + rows]
        logits, weights = np.zeros((rows, classes)), np.zeros((rows, classes))
        weights[:, 0] = 1.0
        for row, name in enumerate(part):
            first, second = (BY_CLASS if by_class else LABELLED)[name]
            if by_class:
                logits[row], weights[row] = first, second
            else:
                logits[row, 0], logits[row, 1:] = first, second
        targets = Targets(
            kind=loss.target,
            weights=weights,
            labels=np.zeros(rows, np.int64),
            masked=np.isneginf(logits),
        )
        fed = cell.format.cast(logits).reshape(shape)
        try:
            observed = runner.run(fed, targets.fed(shape, fed.dtype))
        except UnavailableError:
            found.update(dict.fromkeys(part, "refused"))
            continue
        for row, name in enumerate(part):
            loss_text, gradient_text = _told(observed.loss[row]), _told(observed.gradient[row])
            found[name] = f"loss {loss_text}, gradient {gradient_text}"
    return found


def _told(values: NDArray[Any]) -> str:
    """What is the least finite among some numbers."""
    wide = np.asarray(values).astype(np.float64)
    if np.isnan(wide).any():
        return "NaN"
    if np.isposinf(wide).any():
        return "inf"
    return "-inf" if np.isneginf(wide).any() else "finite"
