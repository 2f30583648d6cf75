"""The entry of connectionist temporal classification: a sum over paths, by dynamic programming."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, softmax, structure
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.operations.shapes import ints

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


@entry(
    "CTCLoss",
    "CTCLossV2",
    domain="labels that fit into the time",
    roundings="8 T",
    source="Graves et al. 2006, Connectionist temporal classification, section 4.1",
)
def _ctc_loss(call: Call, logits: Any, places: Any, labels: Any, lengths: Any) -> Variable:
    """The loss alone: nothing should ask for the operation's own gradient."""
    scores = call.real(logits)
    classes = scores.shape[2]
    blank = classes - 1 if call.operation.kind == "CTCLoss" else 0
    log_p = softmax.log_softmax(scores)
    rows, values = call.whole(places)[:, 0], call.whole(labels)
    losses = [
        _of_one(call, log_p, row, values[rows == row], time, blank)
        for row, time in enumerate(ints(call, lengths))
    ]
    return structure.assembled(losses, np.concatenate)


def _of_one(call: Call, log_p: Variable, row: int, labels: Any, time: int, blank: int) -> Variable:
    """Minus the log of the sum, over all paths that spell the labels, of their probabilities."""
    spelled = np.full(2 * len(labels) + 1, blank, np.intp)
    spelled[1::2] = labels
    states = len(spelled)
    _, batch, classes = log_p.shape
    places = (np.arange(time)[:, None] * batch + row) * classes + spelled[None, :]
    terms = structure.moved(log_p, places.astype(np.intp))
    never = call.tape.constant(-np.inf)
    starts = np.arange(states) < 2
    forward = selections.picked(starts, structure.rearranged(terms, lambda at: at[0]), never)
    # two steps at once may leave out a blank, but none between two equal labels
    skips = np.zeros(states, np.bool_)
    skips[2:] = (spelled[2:] != blank) & (spelled[2:] != spelled[:-2])
    for moment in range(1, time):
        ways = [forward]
        for back in (1, 2):
            index = np.concatenate([np.full(min(back, states), -1), np.arange(states - back)])
            allowed = index >= 0 if back == 1 else skips & (index >= 0)
            moved = structure.moved(forward, index[:states].astype(np.intp))
            ways.append(selections.picked(allowed, moved, never))
        stacked = structure.assembled(ways, np.stack)
        summed = structure.reshaped(softmax.logsumexp(stacked, 0), (states,))
        own = structure.moved(terms, np.arange(states) + moment * states)
        forward = arithmetic.add(summed, own)
    ends = structure.moved(forward, np.arange(states)[-2:])
    return arithmetic.negate(softmax.logsumexp(ends, 0))
