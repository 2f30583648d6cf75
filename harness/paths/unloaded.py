"""Paths of users that a record names and that nobody has loaded: they can be told, not called.

A plan's record holds what has to be told of them, so that results can be shown, compared and
joined without the modules that they came from.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NoReturn

from lossfuzz.harness.losses.table import is_built_in, loss_named
from lossfuzz.harness.losses.unloaded import NotLoadedError, facts_of_loss, learn_loss
from lossfuzz.harness.paths.own import written_call
from lossfuzz.harness.paths.path import AS, LossPath
from lossfuzz.harness.paths.signature import Signature
from lossfuzz.harness.records.fields import flag, inner, record_of, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FACTS: dict[str, dict[str, Any]] = {}
"""What records told of the paths of other processes, by name."""


def facts_of(paths: Iterable[LossPath]) -> dict[str, Any]:
    """What has to be told of the paths that are no built-in ones; empty if all are."""
    users = [path for path in paths if ":" in path.name]
    bases = [path.loss.base or path.loss for path in users]
    losses = {base.name: facts_of_loss(base) for base in bases if not is_built_in(base.name)}
    told = {
        path.name: {
            "loss": path.loss.name,
            "own": path.own,
            **asdict(_signature(path.arguments)),
        }
        for path in users
    }
    return {"paths": told, "losses": losses} if told else {}


def learn(record: Mapping[str, Any]) -> None:
    """Keep what a record tells of users' paths.

    Raises:
        ValueError: it is not what `facts_of` wrote.
    """
    for name, told in inner(record, "losses", {}).items():
        learn_loss(name, record_of(told, "losses"))
    for name, told in inner(record, "paths", {}).items():
        facts = record_of(told, "paths")
        _FACTS[name] = {
            "loss": text(facts, "loss"),
            "own": flag(facts, "own"),
            **{one.name: flag(facts, one.name) for one in fields(Signature)},
        }


def unloaded_path(name: str) -> LossPath | None:
    """The path of a user that a name stands for; None if it can be none's name.

    Raises:
        ValueError: the loss that it was held against is not known.
    """
    facts = _FACTS.get(name)
    if facts is None:
        written, separator, against = name.partition(AS)
        if not separator or ":" not in written:
            return None
        facts = {"loss": against, "own": True, **asdict(Signature())}
    return _made(name, **facts)


@functools.lru_cache(maxsize=1024)
def _made(name: str, *, loss: str, own: bool, **how: bool) -> LossPath:
    """Of the same facts the same object, since cells are compared."""

    def refuse(*_: Any) -> NoReturn:
        raise NotLoadedError(f"{name} was read of in a record, and was not loaded")

    spec = loss_named(loss)
    arguments = Signature(**how).source if own else ""
    return LossPath(
        name=name,
        loss=spec,
        api="tensorflow",
        call=refuse,
        source=written_call(name.partition(AS)[0], arguments) if own else "",
        documented=spec,
        own=own,
        arguments=arguments,
        loaded=False,
    )


def _signature(arguments: str) -> Signature:
    """How a loss is called whose arguments are so, since a record holds no code.

    A record is data, and what it held as code would stand in scripts that users run.
    """
    ways = itertools.product((False, True), repeat=len(fields(Signature)))
    names = [one.name for one in fields(Signature)]
    found = (Signature(**dict(zip(names, way, strict=True))) for way in ways)
    return next((one for one in found if one.source == arguments), Signature())
