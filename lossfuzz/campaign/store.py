"""The store: one SQLite file in the campaign's folder, written only by the coordinator."""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossfuzz.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

SCHEMA = 1
FILE = "campaign.sqlite"
_LOCK = ".campaign.lock"
_APPLICATION_ID = 0x10552022
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tasks (number INTEGER PRIMARY KEY, result BLOB NOT NULL);
CREATE TABLE left_out (task INTEGER, cell TEXT, recipe INTEGER, finding TEXT NOT NULL,
                       PRIMARY KEY (task, cell)) WITHOUT ROWID;
CREATE TABLE reductions (key TEXT PRIMARY KEY, finding TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    """A campaign's plan, environment, finished tasks and findings; open by one process at a time.

    Every write is a transaction, so that a killed coordinator leaves what it had finished.
    """

    def __init__(self, connection: sqlite3.Connection, lock: IO[str] | None = None) -> None:
        self._connection, self._lock = connection, lock

    @classmethod
    def create(cls, folder: Path, plan: dict[str, Any]) -> Store:
        """A new store for a plan.

        Raises:
            UsageError: the folder already holds one, or cannot be written.
        """
        path = folder / FILE
        if path.exists():
            raise UsageError(
                f"{str(folder)!r} already holds a campaign: go on with "
                f"'lossfuzz resume {folder}', or choose another folder with --out"
            )
        with _one_line(folder):
            lock = _locked(folder)
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.executescript(_TABLES)
            store = cls(connection, lock)
            store.keep("plan", plan)
        return store

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The store in a folder.

        Raises:
            UsageError: there is none, it is not one, is damaged, newer, or in use.
        """
        path = folder / FILE
        if not path.is_file():
            raise UsageError(f"{str(folder)!r} holds no campaign: expected a file {FILE} there")
        with _one_line(folder):
            lock = _locked(folder)
            connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True)
            _check(connection, path)
        return cls(connection, lock)

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The store in a folder as it is now, to be read while another process may write to it.

        Neither locks that process out nor changes the file; everything that is read is of the same
        moment.

        Raises:
            UsageError: there is none, it is not one, is damaged or newer.
        """
        path = folder / FILE
        if not path.is_file():
            raise UsageError(f"{str(folder)!r} holds no campaign: expected a file {FILE} there")
        with _one_line(folder):
            connection = _reading(path)
            _check(connection, path)
        return cls(connection)

    def close(self) -> None:
        """Let the store go."""
        self._connection.close()
        if self._lock is not None:
            self._lock.close()

    def discard(self) -> None:
        """Let the store go, and remove its files."""
        path = Path(self._connection.execute("PRAGMA database_list").fetchone()[2])
        self.close()
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        path.with_name(_LOCK).unlink(missing_ok=True)

    def keep(self, name: str, value: Any) -> None:
        """Write one of the campaign's facts."""
        with _one_line(None), self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value))
            )

    def fact(self, name: str) -> Any:
        """One of the campaign's facts; None if it is not known."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def finish(self, number: int, result: dict[str, Any]) -> None:
        """Write a task's result; a second one for the same task changes nothing."""
        packed = zlib.compress(json.dumps(result, sort_keys=True).encode(), 1)
        with _one_line(None), self._connection:
            self._connection.execute("INSERT OR IGNORE INTO tasks VALUES (?, ?)", (number, packed))

    def finished(self) -> set[int]:
        """Numbers of the tasks that are done."""
        return {number for (number,) in self._connection.execute("SELECT number FROM tasks")}

    def results(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The finished tasks' results, one at a time, in the order of their numbers."""
        for number, packed in self._connection.execute(
            "SELECT number, result FROM tasks ORDER BY number"
        ):
            yield number, json.loads(zlib.decompress(packed))

    def leave_out(self, task: int, cell: str, recipe: int, finding: dict[str, Any]) -> None:
        """Write that a cell is not run from a task's recipe on, and the finding that says why."""
        with _one_line(None), self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO left_out VALUES (?, ?, ?, ?)",
                (task, cell, recipe, json.dumps(finding)),
            )

    def left_out(self) -> dict[int, dict[str, tuple[int, dict[str, Any]]]]:
        """Task to cell name to recipe and finding."""
        found: dict[int, dict[str, tuple[int, dict[str, Any]]]] = {}
        for task, cell, recipe, finding in self._connection.execute(
            "SELECT task, cell, recipe, finding FROM left_out ORDER BY task, cell"
        ):
            found.setdefault(task, {})[cell] = recipe, json.loads(finding)
        return found

    def keep_reduced(self, key: str, finding: dict[str, Any]) -> None:
        """Write a finding that was made small."""
        with _one_line(None), self._connection:
            self._connection.execute(
                "INSERT OR REPLACE INTO reductions VALUES (?, ?)", (key, json.dumps(finding))
            )

    def reduced(self) -> dict[str, dict[str, Any]]:
        """The findings that were made small, by their keys."""
        rows = self._connection.execute("SELECT key, finding FROM reductions")
        return {key: json.loads(finding) for key, finding in rows}


def _reading(path: Path) -> sqlite3.Connection:
    """A connection within a transaction that only reads.

    A store with a log beside it is or was being written, and its readers need the log. Without
    one all is in the file; opening it as ordinary would leave an empty log behind, and fail where
    nothing may be written.
    """
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() else "immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    connection.isolation_level = None
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment that counts
    if mode != "mode=ro" and log.exists():  # somebody went on with the campaign just now
        connection.close()
        return _reading(path)
    return connection


def _locked(folder: Path) -> IO[str]:
    lock = (folder / _LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(f"another process is running the campaign in {str(folder)!r}") from None
    return lock


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise UsageError(f"{str(path)!r} is an SQLite file, but no campaign of lossfuzz")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise UsageError(
            f"{str(path)!r} was written by a newer lossfuzz (schema {version}, this one reads up "
            f"to {SCHEMA}): update lossfuzz"
        )
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise UsageError(f"{str(path)!r} is damaged: restore a copy, or start another campaign")
    connection.execute("SELECT value FROM meta WHERE name = 'plan'").fetchone()[0]


@contextlib.contextmanager
def _one_line(folder: Path | None) -> Iterator[None]:
    where = f" in {str(folder)!r}" if folder is not None else ""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if folder is None:
            raise UsageError(
                f"the campaign's store cannot be written ({error}); what was finished before is "
                "kept: make room, then go on with 'lossfuzz resume'"
            ) from None
        raise UsageError(
            f"the campaign's store{where} is damaged or no store ({error}); nothing was changed"
        ) from None
    except (OSError, TypeError) as error:
        raise UsageError(f"the campaign's store{where} cannot be used ({error})") from None
