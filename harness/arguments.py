"""Whether a loss was meant to be called otherwise: in another order, or on another kind of input.

A loss that is wrong on every ordinary row may be a bad loss, or a good one of other arguments. It
is called with its arguments exchanged, on probabilities, and on the other kind of labels: where
one of these gives the exact values on all ordinary rows, that is what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.execution import CellRunner, UnavailableError
from lossfuzz.harness.formats import format_of
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.targets import INDEX, NONE, ONE_HOT
from lossfuzz.harness.paths.own import loss_of
from lossfuzz.harness.paths.own_call import checked_call
from lossfuzz.harness.paths.signature import Signature, signature_of
from lossfuzz.harness.prepared import prepare_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.prepared import Prepared
    from lossfuzz.harness.trial import Trial

_TOLERANCE = 1e-2
_UNITS = 64
_FEW = 1 / 4
"""Of the ordinary rows: a loss that is right on more of them takes what it was given."""


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
    cell = trial.runner.cell
    try:
        logits, targets = trial.rows(shape)
        rows = prepare_targets(logits, targets, {}, cell.path.loss)
        shares = _on_probabilities(trial, logits, targets)
    except FormulaError:
        return ""
    batches = [one for one in (rows, shares) if one is not None]
    if any(_right(trial.runner.run, one) > _FEW for one in batches):
        return ""
    for way in _ways(trial):
        if _right(_calling(trial, way), rows) == 1:
            return _told(way)
    if shares is not None:
        for way in _logarithms(trial):
            if _right(_calling(trial, way), shares) == 1:
                return _told(way)
    return ""


def _told(way: _Otherwise) -> str:
    return (
        f"{way.told}: as it is called it is wrong on ordinary rows, and right as {way.source}; "
        f"pass lambda logits, labels: {way.source}"
    )


def _on_probabilities(trial: Trial, logits: NDArray[Any], targets: Any) -> Prepared | None:
    """For a user's formula, which may be of probabilities: rows of them."""
    loss = trial.runner.cell.path.loss
    if (loss.base or loss).derived is None or logits.shape[-1] == 1:
        return None
    wide = np.exp(logits.astype(np.float64))
    shares = trial.runner.cell.format.cast(wide / wide.sum(axis=-1, keepdims=True))
    return prepare_targets(shares, targets, {}, loss)


def _right(run: Callable[[NDArray[Any], NDArray[Any]], Any], prepared: Prepared) -> float:
    """The share of rows, with an exact value, whose loss is right; 0 if there is none."""
    try:
        with np.errstate(all="ignore"):
            losses = run(prepared.logits, prepared.fed).loss.astype(np.float64)
    except UnavailableError:
        return 0.0
    exact = prepared.reference.loss
    judged = prepared.reference.judged[: len(exact)] & np.isfinite(exact)
    if not judged.any() or losses.shape != exact.shape:
        return 0.0
    allowed = max(_TOLERANCE, _UNITS * format_of(prepared.logits).unit_roundoff)
    near = np.abs(losses - exact) <= allowed * np.maximum(1.0, np.abs(exact))
    return float(near[judged].mean())


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
