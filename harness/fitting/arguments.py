"""Whether a loss was meant to be called otherwise: in another order, or on another kind of input.

A loss that is wrong on every ordinary row may be a bad loss, or a good one of other arguments. It
is called with its arguments exchanged, on probabilities, and on the other kind of labels: where
one of these gives the exact values on all ordinary rows, that is what it takes. A loss that is
reduced says one number of a batch, which may be right by chance: it is asked of several batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.targets import INDEX, NONE, ONE_HOT
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.numbers.formats import format_of
from lossfuzz.harness.paths.own import loss_of
from lossfuzz.harness.paths.own_call import checked_call
from lossfuzz.harness.paths.signature import Signature, signature_of
from lossfuzz.harness.running.execution import CellRunner, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.targets import Targets
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.running.trial import Trial

_TOLERANCE = 1e-2
_UNITS = 64
_FEW = 1 / 4
"""Of the ordinary rows: a loss that is right on more of them takes what it was given."""

_BATCHES = (2, 3, 5, 8)
"""Rows of the batches of which a reduced loss is asked too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Otherwise:
    """Another way of calling a loss.

    Attributes:
        logits: code of what it gets for the logits.
        labels: code of what it gets for the labels.
        swapped: whether the labels come first.
        told: what a loss that is to be called so takes.
    """

    logits: str = "logits"
    labels: str = "labels"
    swapped: bool
    told: str

    @property
    def source(self) -> str:
        """The call as code."""
        first, second = self.logits, self.labels
        return f"loss({second}, {first})" if self.swapped else f"loss({first}, {second})"


def other_arguments(trial: Trial, shape: tuple[int, ...]) -> str:
    """How a loss wants to be called that is wrong as it is called; empty if nothing fits better.

    Args:
        trial: of a user's loss.
        shape: of the ordinary rows.
    """
    loss = trial.runner.cell.path.loss
    shapes = [shape, *((rows, shape[-1]) for rows in _BATCHES if loss.reduction is not None)]
    try:
        batches = [trial.rows(one) for one in shapes]
        rows = [prepare_targets(*one, {}, loss) for one in batches]
        shares = _on_probabilities(trial, batches)
    except FormulaError:
        return ""
    if any(_right(trial.runner.run, one) > _FEW for one in (rows, shares)):
        return ""
    for way in _ways(trial):
        if _right(_calling(trial, way), rows) == 1:
            return _told(way)
    for way in _logarithms(trial) if shares else ():
        if _right(_calling(trial, way), shares) == 1:
            return _told(way)
    return ""


def _told(way: _Otherwise) -> str:
    return (
        f"{way.told}: as it is called it is wrong on ordinary rows, and right as {way.source}; "
        f"pass lambda logits, labels: {way.source}"
    )


def _on_probabilities(
    trial: Trial, batches: Sequence[tuple[NDArray[Any], Targets]]
) -> list[Prepared]:
    """For a user's formula, which may be of probabilities: rows of them; else none."""
    loss = trial.runner.cell.path.loss
    if (loss.base or loss).derived is None or batches[0][0].shape[-1] == 1:
        return []
    found = []
    for logits, targets in batches:
        wide = np.exp(logits.astype(np.float64))
        shares = trial.runner.cell.format.cast(wide / wide.sum(axis=-1, keepdims=True))
        found.append(prepare_targets(shares, targets, {}, loss))
    return found


def _right(run: Callable[[NDArray[Any], NDArray[Any]], Any], batches: Sequence[Prepared]) -> float:
    """The share of losses, with an exact value, that are right; 0 if there is none."""
    near = [_are_near(run, one) for one in batches]
    found = np.concatenate([np.zeros(0, np.bool_), *near])
    return float(found.mean()) if found.size else 0.0


def _are_near(
    run: Callable[[NDArray[Any], NDArray[Any]], Any], prepared: Prepared
) -> NDArray[np.bool_]:
    """Whether the losses of a batch that have an exact value are right; False if it is refused."""
    exact = prepared.reference.loss
    judged = prepared.reference.judged[: len(exact)] & np.isfinite(exact)
    try:
        with np.errstate(all="ignore"):
            losses = run(prepared.logits, prepared.fed).loss.astype(np.float64)
    except UnavailableError:
        return np.zeros(1, np.bool_)
    if losses.shape != exact.shape:
        return np.zeros(1, np.bool_)
    allowed = max(_TOLERANCE, _UNITS * format_of(prepared.logits).unit_roundoff)
    near = np.abs(losses - exact) <= allowed * np.maximum(1.0, np.abs(exact))
    return np.asarray(near[judged])


def _ways(trial: Trial) -> Iterator[_Otherwise]:
    """Other ways of calling a loss, the likeliest first."""
    loss = trial.runner.cell.path.loss
    signature = _signature(trial)
    orders = (signature.swapped, not signature.swapped) if signature.labelled else (False,)
    for labels, kind in _label_kinds(loss.target):
        for logits in ("logits", "tf.nn.softmax(logits)", "tf.sigmoid(logits)"):
            for swapped in orders:
                parts = []
                if swapped != signature.swapped:
                    order = "(labels, logits)" if swapped else "(logits, labels)"
                    parts.append(f"takes {order}")
                if logits != "logits":
                    name = "softmax" if "softmax" in logits else "sigmoid"
                    parts.append(f"expects probabilities, {name}(logits)")
                parts += [kind] if kind else []
                if parts:
                    yield _Otherwise(
                        logits=logits, labels=labels, swapped=swapped, told=" and ".join(parts)
                    )


def _label_kinds(target: str) -> list[tuple[str, str]]:
    kinds = [("labels", "")]
    if target == INDEX:
        one_hot = "tf.one_hot(labels, tf.shape(logits)[-1], dtype=logits.dtype)"
        kinds.append((one_hot, "expects one-hot labels"))
    elif target == ONE_HOT:
        kinds.append(("tf.argmax(labels, -1, tf.int32)", "expects integer labels"))
    return kinds


def _logarithms(trial: Trial) -> Iterator[_Otherwise]:
    """What a loss of logits gets that is held against a formula of probabilities."""
    signature = _signature(trial)
    for logits in ("tf.math.log(logits)", "tf.math.log(logits) - tf.math.log1p(-logits)"):
        yield _Otherwise(
            logits=logits,
            swapped=signature.swapped,
            told=f"expects logits where {trial.runner.cell.path.loss.name} is given probabilities",
        )


def _signature(trial: Trial) -> Signature:
    path = trial.runner.cell.path
    return signature_of(loss_of(path), path.loss)


def _calling(trial: Trial, way: _Otherwise) -> Callable[[NDArray[Any], NDArray[Any]], Any]:
    """Runs the loss in that way, in the trial's cell."""
    path = trial.runner.cell.path
    loss, signature = loss_of(path), _signature(trial)
    codes = [compile(code, "<arguments>", "eval") for code in (way.logits, way.labels)]

    def call(logits: Any, labels: Any, *weights: Any) -> Any:
        import tensorflow as tf

        names = {"tf": tf, "logits": logits, "labels": labels}
        first, second = (eval(code, names) for code in codes)  # noqa: S307 - code of this module
        if path.loss.target == NONE and not signature.labelled:
            return loss(first)
        return loss(second, first, *weights) if way.swapped else loss(first, second, *weights)

    plain = Signature(weighted=signature.weighted)
    called = replace(path, call=checked_call(call, path.loss, path.name, plain))
    return CellRunner(replace(trial.runner.cell, path=called)).run
