"""What coordinator and worker say to each other: one JSON object a line.

To a worker: ``{"id": number, "do": "task" | "probe" | "replay" | "reduce" | "cliffs" | "start",
...}``. From it: ``{"at": cell, "task": number, "recipe": number, "made": recipe}`` before
TensorFlow is called for a cell, ``{"away": true}`` once it has returned, and ``{"done": ...}`` or
``{"failed": line, "audit": bool}`` at the end of each request. Each of them carries the request's
``id`` and the worker's ``pid``: whatever else comes through the pipe, such as from a process that
a loss forked, is dropped. The announcements are what is known of a worker that dies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Something for a worker to do.

    Attributes:
        kind: ``task``, ``probe``, ``replay``, ``reduce`` or ``cliffs``.
        key: what the coordinator calls it.
        group: of the cells that it needs; a worker that has them is preferred.
        body: the rest, as JSON's types.
        seconds: that each of its calls may take; the engine's, if it is None.
        fresh: whether it needs a worker that has done nothing yet.
    """

    kind: str
    key: str
    group: int
    body: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    fresh: bool = False

    def line(self, number: int) -> bytes:
        """The request as a line, under a number that its answers carry."""
        return (json.dumps({"id": number, "do": self.kind, **self.body}) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker was when it was last heard of: a call of TensorFlow.

    Attributes:
        task: number of the task that the cell was run for.
        cell: name of the cell that TensorFlow was called for.
        recipe: number of the task's step; -1 while its route was looked for.
        made: the recipe of the batch, as JSON's types, of the plan or a mutant; None for a route.
    """

    task: int
    cell: str
    recipe: int
    made: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A request that a worker carried out."""

    request: Request
    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A request that ended in an error of ours, not of a path's.

    Attributes:
        request: what was asked.
        message: in one line.
        audit: whether the exact reference was found wrong.
    """

    request: Request
    message: str
    audit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A request whose worker died, or was killed since it took too long or too much memory.

    Attributes:
        request: what was asked.
        reason: in one line.
        timeout: whether it hung.
        outside: whether a signal ended it that comes from others, as a rule, not from a path.
        starting: whether it had not even started.
        away: whether the last call that it announced had returned.
        calls: that the worker announced for tasks in its life, the last ones, oldest first.
        seconds: from the first of them to its end.
        usual: the longest time that the last cell took for a batch before; None if it did none.
    """

    request: Request
    reason: str
    timeout: bool
    outside: bool = False
    starting: bool = False
    away: bool = False
    calls: tuple[Place, ...] = ()
    seconds: float = 0.0
    usual: float | None = None

    @property
    def place(self) -> Place | None:
        """The last call that was announced; None before any."""
        return self.calls[-1] if self.calls else None


Event = Finished | Failed | Lost
