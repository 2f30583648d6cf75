"""The store: one SQLite file in the campaign's folder, written only by the coordinator.

Every record has a digest of its kind, key and content, and one record tells how many there are
and the sum of their digests: a bit that flips, a record that is missing and one that counts twice
are noticed, whichever they are. What the file holds is data: a schema that is not exactly ours,
such as one with a view or a trigger, is not asked anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign import store_file, store_v1
from lossfuzz.campaign.store_file import FILE, LOCK, SCHEMA
from lossfuzz.errors import UsageError
from lossfuzz.harness.records.fields import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LARGEST = 1 << 28
"""Bytes that a record may have when it is unpacked; a task's have some hundred thousand."""

_META, _TASK, _LEFT_OUT, _REDUCED, _TALLY = "meta", "task", "left out", "reduced", "tally"
_MODULUS = 1 << 256


class Store:
    """A campaign's plan, environment, finished tasks and findings; open by one process at a time.

    Every write is a transaction, so that a killed coordinator leaves what it had finished.
    """

    def __init__(
        self, connection: sqlite3.Connection, folder: Path, lock: int | None = None
    ) -> None:
        """Read all records but the tasks' results, and see that none is missing.

        Raises:
            UsageError: one is missing, damaged or too many.
        """
        self._connection, self._folder, self._lock = connection, folder, lock
        self._small: dict[str, dict[str, Any]] = {}
        self._tasks: dict[int, int] = {}
        self._digests: dict[tuple[str, str], bytes] = {}
        self._sum = 0
        self.is_old = store_file.version_of(connection) < SCHEMA
        if self.is_old:
            self._small, self._tasks = store_v1.contents(connection)
        else:
            self._load()

    @classmethod
    def create(cls, folder: Path, plan: dict[str, Any], **facts: Any) -> Store:
        """A new store for a plan, which is there with all its facts or not at all.

        Raises:
            UsageError: the folder already holds one, or cannot be written.
        """
        path = folder / FILE
        if store_file.holds_store(folder):
            raise UsageError(
                f"{str(folder)!r} already holds a campaign: go on with "
                f"'lossfuzz resume {folder}', or choose another folder with --out"
            )
        with _one_line(folder, "cannot be written"):
            lock = store_file.locked(folder)
            unfinished = store_file.made(folder)
            try:
                store = cls(store_file.writing(unfinished), folder)
                with store._writes():
                    for name, value in {"plan": plan, **facts}.items():
                        store._write(_META, name, value)
                store.close()
                unfinished.rename(path)
            except BaseException:
                store_file.unlocked(lock)
                raise
            finally:
                unfinished.unlink(missing_ok=True)
            return cls(store_file.writing(path, log=True), folder, lock)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """The store in a folder, to go on with it.

        Raises:
            UsageError: there is none, it is not one, is damaged, of another version, or in use.
        """
        path = store_file.found(folder)
        with _one_line(folder):
            lock = store_file.locked(folder)
            try:
                connection = store_file.writing(path)
                store_file.check(connection, path)
                _refuse_old(connection, folder)
                connection.execute("PRAGMA journal_mode = WAL")
                return cls(connection, folder, lock)
            except BaseException:
                store_file.unlocked(lock)
                raise

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The store in a folder as it is now, to be read while another process may write to it.

        Neither locks that process out nor changes the file; everything that is read is of the same
        moment.

        Raises:
            UsageError: there is none, it is not one, is damaged or newer.
        """
        path = store_file.found(folder)
        with _one_line(folder):
            connection = store_file.reading(path)
            store_file.check(connection, path)
            return cls(connection, folder)

    def close(self) -> None:
        """Let the store go."""
        self._connection.close()
        if self._lock is not None:
            store_file.unlocked(self._lock)
            self._lock = None

    def discard(self) -> None:
        """Let the store go, and remove its files."""
        self.close()
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm", LOCK):
            (self._folder / name).unlink(missing_ok=True)

    def keep(self, name: str, value: Any) -> None:
        """Write one of the campaign's facts."""
        with self._writes():
            self._write(_META, name, value)

    def fact(self, name: str, default: Any = None) -> Any:
        """One of the campaign's facts; the default if it is not known."""
        found = self._small[_META].get(name)
        return default if found is None else found

    def finish(self, number: int, result: dict[str, Any]) -> None:
        """Write a task's result; a second one for the same task changes nothing."""
        if number not in self._tasks:
            with self._writes():
                self._write(_TASK, str(number), result)

    def finished(self) -> set[int]:
        """Numbers of the tasks that are done."""
        return set(self._tasks)

    def results(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The finished tasks' results, one at a time, in the order of their numbers.

        Raises:
            UsageError: one is damaged.
        """
        for number, row in sorted(self._tasks.items()):
            with _one_line(self._folder):
                if self.is_old:
                    yield number, unpacked(store_v1.result(self._connection, row))
                else:
                    yield number, self._result(number, row)

    def leave_out(self, task: int, cell: str, recipe: int, finding: dict[str, Any]) -> None:
        """Write that a cell is not run from a task's recipe on, and the finding that says why."""
        value = {"task": task, "cell": cell, "recipe": recipe, "finding": finding}
        with self._writes():
            self._write(_LEFT_OUT, f"{task} {cell}", value)

    def left_out(self) -> dict[int, dict[str, tuple[int, dict[str, Any]]]]:
        """Task to cell name to recipe and finding."""
        found: dict[int, dict[str, tuple[int, dict[str, Any]]]] = {}
        values = self._small[_LEFT_OUT].values()
        for one in sorted(values, key=lambda one: (one["task"], one["cell"])):
            found.setdefault(one["task"], {})[one["cell"]] = one["recipe"], one["finding"]
        return found

    def keep_reduced(self, key: str, finding: dict[str, Any]) -> None:
        """Write a finding that was made small."""
        with self._writes():
            self._write(_REDUCED, key, finding)

    def reduced(self) -> dict[str, dict[str, Any]]:
        """The findings that were made small, by their keys."""
        return dict(self._small[_REDUCED])

    def _load(self) -> None:
        """Read what `_write` wrote."""
        self._small = {_META: {}, _LEFT_OUT: {}, _REDUCED: {}}
        self._tasks, self._digests, self._sum = {}, {}, 0
        tally = None
        for row, kind, key, digest in self._connection.execute(
            "SELECT rowid, kind, key, digest FROM records"
        ).fetchall():
            if kind == _TALLY:
                tally = self._content(row, kind, key, digest)
                continue
            self._note(kind, key, digest)
            if kind == _TASK:
                self._tasks[int(key)] = row
            else:
                self._small[kind][key] = self._content(row, kind, key, digest)
        if self._digests and tally != self._tallied():
            raise _damaged("records are missing or count twice")

    def _result(self, number: int, row: int) -> dict[str, Any]:
        key = str(number)
        return record_of(self._content(row, _TASK, key, self._digests[_TASK, key]), f"task {key}")

    def _content(self, row: int, kind: str, key: str, digest: bytes) -> Any:
        found = self._connection.execute("SELECT content FROM records WHERE rowid = ?", (row,))
        content = found.fetchone()[0]
        if not isinstance(content, bytes) or digest_of(kind, key, content) != digest:
            raise _damaged(f"the record {kind} {key[:60]!r} does not match its digest")
        return unpacked(content)

    def _tallied(self) -> dict[str, Any]:
        return {"records": len(self._digests), "sum": f"{self._sum:064x}"}

    def _note(self, kind: str, key: str, digest: bytes) -> None:
        before = int.from_bytes(self._digests.get((kind, key), b""), "big")
        self._sum = (self._sum - before + int.from_bytes(digest, "big")) % _MODULUS
        self._digests[kind, key] = digest

    @contextlib.contextmanager
    def _writes(self) -> Iterator[None]:
        """One transaction for some `_write` and the tally of all records."""
        with _one_line(self._folder, "cannot be written"):
            try:
                with self._connection:
                    yield
                    self._put(_TALLY, "", self._tallied())
            except BaseException:  # Ctrl-C, too: what the file holds counts
                self._load()
                raise
        with contextlib.suppress(sqlite3.Error):  # so that a copy of the file alone has it all
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, kind: str, key: str, value: Any) -> None:
        row, digest = self._put(kind, key, value)
        self._note(kind, key, digest)
        if kind == _TASK:
            self._tasks[int(key)] = row
        else:
            self._small[kind][key] = value

    def _put(self, kind: str, key: str, value: Any) -> tuple[int, bytes]:
        content = zlib.compress(json.dumps(value, sort_keys=True).encode(), 1)
        digest = digest_of(kind, key, content)
        cursor = self._connection.execute(
            "INSERT OR REPLACE INTO records (kind, key, digest, content) VALUES (?, ?, ?, ?)",
            (kind, key, digest, content),
        )
        return cursor.lastrowid or 0, digest


def digest_of(kind: str, key: str, content: bytes) -> bytes:
    """The digest of a record, which holds for its place as well as for its content."""
    return hashlib.sha256(f"{kind}\0{key}\0".encode() + content).digest()


def unpacked(content: bytes) -> Any:
    """What was packed, unless it is larger than any record of ours.

    Raises:
        zlib.error: it is damaged.
        ValueError: it is no JSON, or too large.
    """
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(content, _LARGEST)
    if not unpacking.eof:
        raise _damaged("a record is larger than any of ours, or cut off")
    return json.loads(text)


def _refuse_old(connection: sqlite3.Connection, folder: Path) -> None:
    if store_file.version_of(connection) < SCHEMA:
        raise UsageError(
            f"the campaign in {str(folder)!r} was begun by an older lossfuzz, whose stores have "
            "no digests: 'lossfuzz report', 'compare' and 'merge' read it; to go on with it takes "
            "the lossfuzz that began it"
        )


def _damaged(how: str) -> ValueError:
    return ValueError(how)


@contextlib.contextmanager
def _one_line(folder: Path, how: str = "") -> Iterator[None]:
    """Tell what goes wrong with a store in one line.

    Args:
        folder: of the store.
        how: what it is that cannot be done; by default it cannot be read.
    """
    where = f"the campaign's store in {str(folder)!r}"
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if how:
            raise UsageError(
                f"{where} {how} ({error}); what was finished before is kept: make room, then go "
                "on with 'lossfuzz resume'"
            ) from None
        raise UsageError(
            f"{where} is damaged or no store ({error}); nothing was changed"
        ) from None
    except (ValueError, TypeError, KeyError, LookupError, zlib.error, RecursionError) as error:
        raise UsageError(
            f"{where} is damaged ({error}); nothing was changed: restore a copy"
        ) from None
