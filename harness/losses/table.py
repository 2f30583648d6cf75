"""Every loss, by name: ours, their reductions, and users' formulas."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lossfuzz.harness.losses import binary, cross_entropy, divergences, focal, reduced
from lossfuzz.harness.losses.reduced import REDUCTIONS, suffix
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.spec import LossSpec
from lossfuzz.harness.losses.unloaded import is_name_of_formula, unloaded_loss
from lossfuzz.harness.records.spelling import unknown
from lossfuzz.harness.users.importing import imported

if TYPE_CHECKING:
    from collections.abc import Iterable

LOSSES: tuple[LossSpec, ...] = (
    SOFTMAX_CROSS_ENTROPY,
    *cross_entropy.LOSSES,
    *divergences.LOSSES,
    *binary.LOSSES,
    *focal.LOSSES,
    *reduced.LOSSES,
)
"""All losses that paths compute; rows first, reductions last."""

ALIASES: dict[str, LossSpec] = {
    "softmax-cross-entropy": SOFTMAX_CROSS_ENTROPY,
    "cross-entropy": SOFTMAX_CROSS_ENTROPY,
    "sparse-softmax-cross-entropy": SOFTMAX_CROSS_ENTROPY,
    "sparse-categorical-cross-entropy": SOFTMAX_CROSS_ENTROPY,
    "categorical-cross-entropy": cross_entropy.ONE_HOT_CROSS_ENTROPY,
    "softmax-cross-entropy-soft-labels": cross_entropy.SOFT_CROSS_ENTROPY,
    "soft-softmax-cross-entropy": cross_entropy.SOFT_CROSS_ENTROPY,
    "label-smoothing": cross_entropy.SMOOTHED_CROSS_ENTROPY,
    "smoothed-softmax-cross-entropy": cross_entropy.SMOOTHED_CROSS_ENTROPY,
    "sigmoid-cross-entropy": binary.BINARY_CROSS_ENTROPY,
    "soft-binary-cross-entropy": binary.SOFT_BINARY_CROSS_ENTROPY,
    "smoothed-binary-cross-entropy": binary.SMOOTHED_BINARY_CROSS_ENTROPY,
    "weighted-binary-cross-entropy": binary.WEIGHTED_BINARY_CROSS_ENTROPY,
    "focal": focal.CATEGORICAL_FOCAL[2.0],
    "categorical-focal": focal.CATEGORICAL_FOCAL[2.0],
    "binary-focal": focal.BINARY_FOCAL[2.0],
    "kl-divergence": divergences.KL_DIVERGENCE,
    "generalised-cross-entropy": divergences.GENERALISED_CROSS_ENTROPY,
    "logsumexp": divergences.LOG_SUM_EXP,
}
"""Short names beside the slugs of the full ones; focal losses with gamma 2."""


ELSEWHERE: dict[str, str] = {
    "sparse_categorical_crossentropy": "softmax-cross-entropy",
    "categorical_crossentropy": "categorical-cross-entropy",
    "binary_crossentropy": "sigmoid-cross-entropy",
    "categorical_focal_crossentropy": "categorical-focal",
    "binary_focal_crossentropy": "binary-focal",
    "categorical_generalized_cross_entropy": "generalised-cross-entropy",
    "kld": "kl-divergence",
    "KLDivergence": "kl-divergence",
    "kullback_leibler_divergence": "kl-divergence",
    "sparse_softmax_cross_entropy_with_logits": "softmax-cross-entropy",
    "softmax_cross_entropy_with_logits": "categorical-cross-entropy",
    "sigmoid_cross_entropy_with_logits": "sigmoid-cross-entropy",
    "weighted_cross_entropy_with_logits": "weighted-binary-cross-entropy",
    "reduce_logsumexp": "logsumexp",
}
"""What Keras and TensorFlow call some losses, on probabilities or logits; no names here."""


def slug(name: str) -> str:
    """A name in lower case, whatever is no letter, digit, dot or slash replaced by ``-``."""
    return re.sub(r"[^a-z0-9./]+", "-", name.lower()).strip("-")


def _plain(name: str) -> str:
    """A name by which it is found whatever stands between its words and numbers."""
    return "" if set(":<") & set(name) else re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


_ROW_SLUGS: dict[str, LossSpec] = {
    _plain(name): loss
    for name, loss in (
        *((loss.name, loss) for loss in LOSSES if loss.reduction is None),
        *ALIASES.items(),
    )
}


def is_built_in(name: str, loss: LossSpec | None = None) -> bool:
    """Whether a name is one of our losses' own, and that loss the given one, if one is given."""
    found = next((one for one in LOSSES if one.name == name), None)
    found = found or _ROW_SLUGS.get(_plain(name)) or _in_table(name)
    return found is not None and (loss is None or found is loss)


def loss_named(name: str, *, load: bool = False) -> LossSpec:
    """The loss of that name.

    A name is the full one; its `slug`, or with other signs between its words; one of `ALIASES`; or
    ``package.module:attribute``, a formula or a function to make one of. To each, ``, mean over
    the batch`` may be added, or to the short ones ``-mean``; likewise sum and weighted mean.

    Args:
        name: of the loss.
        load: whether a formula's module is imported. A name out of a record is never asked for
            so: without, a formula that this process does not know can be told, and not evaluated.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    whole = _row_loss(name, load=load) or _in_table(name)
    if whole is not None:
        return whole
    for reduction in sorted(REDUCTIONS, key=len, reverse=True):
        for ending in (suffix(reduction), *_short(reduction)):
            stem = name.removesuffix(ending)
            base = _row_loss(stem, load=load) if stem != name else None
            if base is not None and base.reduction is None:
                return reduced.reduced(base, reduction)
    known = (*(loss.name for loss in LOSSES), *ALIASES, *map(slug, (one.name for one in LOSSES)))
    raise ValueError(unknown("loss", name, known, ELSEWHERE, _known()))


def losses_matching(patterns: Iterable[str]) -> list[LossSpec]:
    """The losses whose names match any of the shell patterns, in the table's order.

    Slugs are matched as well as names. A pattern that is no pattern but another name of
    `loss_named` chooses that loss; what is not in the table comes last.

    Raises:
        ValueError: a pattern matches nothing; the message lists the known names.
    """
    chosen: list[LossSpec] = []
    for pattern in patterns:
        matching = [
            loss
            for loss in LOSSES
            if fnmatchcase(loss.name, pattern) or fnmatchcase(slug(loss.name), pattern)
        ]
        chosen += matching or [_named_by(pattern)]
    others = [loss for loss in dict.fromkeys(chosen) if loss not in LOSSES]
    return [loss for loss in LOSSES if loss in chosen] + others


def _short(reduction: str) -> tuple[str, str]:
    return f"-{slug(suffix(reduction))}", f"-{slug(reduction)}"


def _named_by(pattern: str) -> LossSpec:
    try:
        return loss_named(pattern, load=True)
    except ValueError as error:
        message = str(error)
        if message.startswith("unknown loss"):
            message += " (shell patterns work: '*focal*')"
        raise ValueError(message) from None


def _known() -> str:
    names = "; ".join(loss.name for loss in LOSSES)
    return (
        f"{names}; or in short {', '.join(ALIASES)}; with -mean, -sum, -weighted-mean or "
        "-mean-with-sample-weight for a "
        "whole batch's; or package.module:formula"
    )


def _in_table(name: str) -> LossSpec | None:
    plain = _plain(name)
    return next((loss for loss in LOSSES if plain and plain == _plain(loss.name)), None)


def _row_loss(name: str, *, load: bool) -> LossSpec | None:
    """A loss of a row by any name that it has, or a formula."""
    for loss in LOSSES:
        if loss.name == name:
            return loss
    return _ROW_SLUGS.get(_plain(name)) or _formula_named(name, load=load)


def _formula_named(name: str, *, load: bool) -> LossSpec | None:
    """A formula of this process; else one that is imported, or was only read of.

    Raises:
        ValueError: it cannot be imported, or is no formula.
    """
    from lossfuzz.harness.formula.spec import FORMULAS, formula

    if name in FORMULAS:
        return FORMULAS[name]
    if not load:
        return unloaded_loss(name)
    if not is_name_of_formula(name):
        return None  # with a reduction, perhaps
    found = imported(name)
    if isinstance(found, LossSpec):
        if found.derived is None or found.reduction is not None or found.name == name:
            return found
        # by this name another process finds it, options and all
        return FORMULAS.add(name, replace(found, name=name), found)
    if not callable(found):
        raise ValueError(  # noqa: TRY004 - the name is what is wrong, not its type
            f"{name!r} is a {type(found).__name__}, expected a formula: a function "
            "exact(x, logits, label), with @lossfuzz.formula above it or without"
        )
    spec: LossSpec = formula(found, name=name)
    return spec
