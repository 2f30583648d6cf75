"""Entries of a softmax: softmax, its logarithm, and the fused cross-entropies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, softmax, structure, sums
from lossfuzz.harness.programs.operations.entry import Call, entry

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


@entry("Softmax", roundings="n + 6", source="Blanchard, Higham & Higham 2021")
def _softmax(call: Call, value: Any) -> Variable:
    return softmax.softmax(call.real(value))


@entry("LogSoftmax", roundings="n + 8", source="Blanchard, Higham & Higham 2021")
def _log_softmax(call: Call, value: Any) -> Variable:
    return softmax.log_softmax(call.real(value))


@entry("SoftmaxCrossEntropyWithLogits", roundings="2 n + 8")
def _cross_entropy(call: Call, features: Any, labels: Any) -> tuple[Variable, Variable]:
    logits, targets = call.real(features), call.real(labels)
    shape = np.broadcast_shapes(logits.shape, targets.shape)
    logits, targets = structure.broadcast(logits, shape), structure.broadcast(targets, shape)
    log_p = softmax.log_softmax(logits)
    terms = arithmetic.negate(arithmetic.multiply(targets, log_p))
    loss = structure.reshaped(sums.total(terms, (1,)), shape[:1])
    return loss, arithmetic.subtract(softmax.softmax(logits), targets)


@entry("SparseSoftmaxCrossEntropyWithLogits", domain="labels below the classes", roundings="n + 8")
def _sparse(call: Call, features: Any, labels: Any) -> tuple[Variable, Variable]:
    logits, columns = call.real(features), call.whole(labels).astype(np.intp)
    rows, classes = logits.shape
    log_p = softmax.log_softmax(logits)
    valid = (columns >= 0) & (columns < classes)
    places = np.where(valid, np.arange(rows) * classes + columns, -1)
    found = arithmetic.negate(structure.moved(log_p, places))
    if not valid.all():  # TensorFlow makes NaN of them
        nan = call.tape.constant(np.where(valid, 0.0, np.nan))
        found = selections.picked(valid, found, nan)
    one_hot = (np.arange(classes)[None, :] == columns[:, None]).astype(np.float64)
    backprop = arithmetic.subtract(softmax.softmax(logits), call.tape.constant(one_hot))
    return found, backprop
