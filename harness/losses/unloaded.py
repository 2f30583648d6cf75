"""Losses that a record names and that nobody has loaded: they can be told, and not evaluated.

A stored run is data. What it names is looked up among what this process knows, and is imported
only where its user asks for that.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.spec import LossSpec
from lossfuzz.harness.records.fields import flag, one_of, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_FACTS: dict[str, dict[str, Any]] = {}
"""What records told of the formulas of other processes, by name."""


class NotLoadedError(ValueError):
    """Something of a user's was asked to run that was only read of; the message names it."""


def facts_of_loss(loss: LossSpec) -> dict[str, Any]:
    """What has to be told of a user's formula, so that its results can be shown without it."""
    return {
        "formula": loss.formula,
        "target": loss.target,
        "masks": loss.masks,
        "needs_mass": loss.needs_mass,
    }


def learn_loss(name: str, record: Mapping[str, Any]) -> None:
    """Keep what a record tells of a formula.

    Raises:
        ValueError: it is not what `facts_of_loss` wrote.
    """
    _FACTS[name] = {
        "formula": text(record, "formula"),
        "target": one_of(record, "target", kinds.KINDS),
        "masks": flag(record, "masks"),
        "needs_mass": flag(record, "needs_mass"),
    }


def unloaded_loss(name: str) -> LossSpec | None:
    """The loss of a row that a formula of that name is; None if it can be none's name."""
    facts = _FACTS.get(name)
    if facts is None:
        if not is_name_of_formula(name):
            return None
        facts = {"formula": "written by the user", "target": kinds.INDEX}

    return _made(name, **facts)


@functools.lru_cache(maxsize=1024)
def _made(name: str, **facts: Any) -> LossSpec:
    """Of the same facts the same object, since cells are compared."""

    def refuse(*_: Any) -> NoReturn:
        raise NotLoadedError(f"the formula {name} was read of in a record, and was not loaded")

    return LossSpec(
        name=name,
        **facts,
        evaluate=refuse,
        textbook=refuse,
        domain="known to the formula alone",
        source="the user's formula",
        loaded=False,
    )


def is_name_of_formula(name: str) -> bool:
    """Whether a name is ``package.module:attribute``."""
    module, colon, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)
