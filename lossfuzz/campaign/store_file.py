"""The file of a store: made, found, locked and opened, and seen to be one of ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
import stat
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign import store_v1
from lossfuzz.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 2
FILE = "campaign.sqlite"
LOCK = ".campaign.lock"
APPLICATION_ID = 0x10552022
TABLES = """
CREATE TABLE records (
    kind TEXT NOT NULL, key TEXT NOT NULL, digest BLOB NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (kind, key)
);
"""


def holds_store(folder: Path) -> bool:
    """Whether a folder has a store, or a link under its name, whatever that leads to."""
    return os.path.lexists(folder / FILE)


def found(folder: Path) -> Path:
    """The store's file in a folder.

    Raises:
        UsageError: there is none; or it, or a file that SQLite keeps beside it, leads elsewhere.
    """
    path = folder / FILE
    for one in (path, folder / f"{FILE}-wal", folder / f"{FILE}-shm", folder / f"{FILE}-journal"):
        if one.is_symlink():
            raise UsageError(
                f"{str(one)!r} is a symbolic link: expected a campaign's own file; copy the "
                "folder with the files that its links lead to"
            )
    if not path.is_file():
        raise UsageError(f"{str(folder)!r} holds no campaign: expected a file {FILE} there")
    return path


def made(folder: Path) -> Path:
    """An empty store under a name of its own."""
    path = folder / f".campaign-{secrets.token_hex(8)}"
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.executescript(TABLES)
    return path


def writing(path: Path, *, log: bool = False) -> sqlite3.Connection:
    """A connection that writes.

    Args:
        path: of the file, which is there.
        log: whether writes go to a log first, so that others can read meanwhile.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    if log:
        connection.execute("PRAGMA journal_mode = WAL")
    return connection


def reading(path: Path) -> sqlite3.Connection:
    """A connection within a transaction that only reads.

    A store with a log beside it is or was being written, and its readers need the log. Without
    one all is in the file; opening it as ordinary would leave an empty log behind, and fail where
    nothing may be written.
    """
    log = path.with_name(path.name + "-wal")
    mode = "mode=ro" if log.exists() else "immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)
    connection.isolation_level = None
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the moment that counts
    if mode != "mode=ro" and log.exists():  # somebody went on with the campaign just now
        connection.close()
        return reading(path)
    return connection


def locked(folder: Path) -> int:
    """A descriptor that holds the lock of a folder's campaign.

    Raises:
        UsageError: another process holds it, or a file that is not ours stands in its place.
    """
    path = folder / LOCK
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UsageError(f"{str(path)!r} is no plain file: remove it")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UsageError(f"another process is running the campaign in {str(folder)!r}") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def unlocked(lock: int) -> None:
    """Let a lock go.

    Closing alone would leave it with a child that another thread has forked and that has not
    started its own program yet.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def version_of(connection: sqlite3.Connection) -> int:
    """The schema of a store."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is a store of ours, before anything in it is asked.

    Raises:
        UsageError: it is none.
    """
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise UsageError(f"{str(path)!r} is an SQLite file, but no campaign of lossfuzz")
    version = version_of(connection)
    if version > SCHEMA:
        raise UsageError(
            f"{str(path)!r} was written by a newer lossfuzz (schema {version}, this one reads up "
            f"to {SCHEMA}): update lossfuzz"
        )
    tables = {SCHEMA: TABLES, store_v1.SCHEMA: store_v1.TABLES}.get(version)
    if tables is None or _layout(connection) != _layout_of(tables):
        raise UsageError(
            f"{str(path)!r} is damaged or no store of lossfuzz: its tables are not those that "
            "lossfuzz makes; nothing was changed"
        )
    if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
        raise UsageError(f"{str(path)!r} is damaged: restore a copy, or start another campaign")


def _layout(connection: sqlite3.Connection) -> set[tuple[Any, ...]]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 100")
    return set(rows.fetchall())


def _layout_of(tables: str) -> set[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(tables)
        return _layout(connection)
