"""Stores of the first schema, which had no digests: they are read, and not written any more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

SCHEMA = 1
TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (number INTEGER PRIMARY KEY, result BLOB NOT NULL);
CREATE TABLE left_out (task INTEGER, cell TEXT, recipe INTEGER, finding TEXT NOT NULL,
                       PRIMARY KEY (task, cell)) WITHOUT ROWID;
CREATE TABLE reductions (key TEXT PRIMARY KEY, finding TEXT NOT NULL) WITHOUT ROWID;
"""


def contents(
    connection: sqlite3.Connection,
) -> tuple[dict[str, dict[str, Any]], dict[int, int]]:
    """All but the tasks' results, and the tasks' numbers with their rows, as `Store` keeps them.

    Raises:
        ValueError: it is damaged.
    """
    meta = connection.execute("SELECT name, value FROM meta")
    left_out = connection.execute("SELECT task, cell, recipe, finding FROM left_out")
    reductions = connection.execute("SELECT key, finding FROM reductions")
    small = {
        "meta": {name: json.loads(value) for name, value in meta},
        "left out": {
            f"{task} {cell}": {
                "task": task,
                "cell": cell,
                "recipe": recipe,
                "finding": json.loads(finding),
            }
            for task, cell, recipe, finding in left_out
        },
        "reduced": {key: json.loads(finding) for key, finding in reductions},
    }
    numbers = connection.execute("SELECT number FROM tasks")
    return small, {number: number for (number,) in numbers}


def result(connection: sqlite3.Connection, number: int) -> bytes:
    """A task's result, packed."""
    found = connection.execute("SELECT result FROM tasks WHERE number = ?", (number,))
    packed = found.fetchone()[0]
    if not isinstance(packed, bytes):
        raise ValueError(f"task {number} holds no result")  # noqa: TRY004 - the file is damaged
    return packed
