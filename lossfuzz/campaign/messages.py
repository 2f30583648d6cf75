"""What coordinator and worker say to each other: one JSON object a line.

To a worker: ``{"do": "task" | "probe" | "reduce" | "cliffs" | "start", ...}``. From it: ``{"at":
cell, "recipe": number, "made": recipe}`` before TensorFlow is called for a cell, and ``{"done":
..., ...}`` or ``{"failed": line, "audit": bool}`` at the end of each request. The announcement is
what is known of a worker that dies.
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
        kind: ``task``, ``probe``, ``reduce`` or ``cliffs``.
        key: what the coordinator calls it.
        group: of the cells that it needs; a worker that has them is preferred.
        body: the rest, as JSON's types.
    """

    kind: str
    key: str
    group: int
    body: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """The request as a line."""
        return (json.dumps({"do": self.kind, **self.body}) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker was when it was last heard of.

    Attributes:
        cell: name of the cell that TensorFlow was called for.
        recipe: number of the task's step; -1 while its route was looked for.
        made: the recipe of the batch, as JSON's types, of the plan or a mutant; None for a route.
    """

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
        place: the last one announced; None before any.
        reason: in one line.
        timeout: whether it hung.
    """

    request: Request
    place: Place | None
    reason: str
    timeout: bool


Event = Finished | Failed | Lost
