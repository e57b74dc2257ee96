"""Objects on disk: one SQLite file, a global version that never repeats, and a bounded history to watch from.

The store knows bytes and keys, not Kubernetes: `host/objects.py` gives the documents their meaning.

Durability: `write` and `remove` return after the commit is with the operating system, so a kill -9 at any instant loses nothing
that returned. After `durable` a loss of power loses nothing either; whoever answers somebody outside awaits it first. What
controllers write in between follows from that and is made anew, so it does not wait for the disk: a loss of power takes the store
back to an earlier commit, never to a part of one (SQLite's WAL with `synchronous=NORMAL`).

Calls run inline on the event loop, a commit at 0.1 ms and a read at 20 µs: every read-check-write is atomic without a lock. Only
the wait for the disk, 0.4 ms to 10 ms, is had in a thread, and one wait is for all that wait.

History is kept in memory, per resource, bounded in count and bytes. A watcher holds only its position in it, so a slow
one costs no memory: once history has moved past its position it is told Expired and lists again, as it
is after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from penstock.host.history import Histories, Position, Step, StepType
from penstock.kit.errors import AlreadyExists, Conflict, Internal, NotFound, PlatformError, Unavailable

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS head(id INTEGER PRIMARY KEY CHECK(id = 0), version INTEGER NOT NULL);
INSERT OR IGNORE INTO head VALUES(0, 2);
CREATE TABLE IF NOT EXISTS objects(
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
  version INTEGER NOT NULL, uid TEXT NOT NULL, document BLOB NOT NULL,
  PRIMARY KEY(resource, namespace, name)) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS objects_by_uid ON objects(uid);
CREATE TABLE IF NOT EXISTS owners(
  owner_uid TEXT NOT NULL, uid TEXT NOT NULL, PRIMARY KEY(owner_uid, uid)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS owners_by_uid ON owners(uid);
"""
COLUMNS = "resource, namespace, name, version, uid, document"


class Row(NamedTuple):
    """One object: `resource` is `plural.group`, `document` its JSON, `version` the commit that wrote it."""

    resource: str
    namespace: str
    name: str
    version: int
    uid: str
    document: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Rows at the instant `version`; `more` says that rows after the last one match too."""

    rows: tuple[Row, ...]
    version: int
    more: bool = False


class Store:
    """The one writer of one SQLite file; ":memory:" keeps everything in memory for tests."""

    def __init__(self, path: Path | str, *, history_steps: int = 2048, history_bytes: int = 8 << 20) -> None:
        """Open or create the file. Raises Unavailable when it is in use, read-only, or no store of ours.

        `history_steps` and `history_bytes` bound what is kept per resource for watches.
        """
        self._path = str(path)
        if self._path != ":memory:":
            _create_private(Path(self._path))
        with self._translated():
            self._connection = sqlite3.connect(self._path, isolation_level=None, timeout=0.2)
            self._prepare()
            self._version: int = self._connection.execute("SELECT version FROM head").fetchone()[0]
        self._histories = Histories(self._version, steps=history_steps, size_bytes=history_bytes)
        self._log = None if self._path == ":memory:" else os.open(f"{self._path}-wal", os.O_RDONLY)
        self._durable = self._version
        self._syncing = asyncio.Lock()

    def _prepare(self) -> None:
        self._connection.executescript(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "PRAGMA cache_size=-8192; PRAGMA trusted_schema=OFF;"
        )
        (found,) = self._connection.execute("PRAGMA user_version").fetchone()
        if found not in (0, SCHEMA_VERSION):
            raise Unavailable(
                f"{self._path} was written by another version of Penstock (schema {found}, expected {SCHEMA_VERSION})",
                hint="run that version, or set PENSTOCK_HOME to another folder",
            )
        with self._transaction():
            for statement in SCHEMA.strip().removesuffix(";").split(";\n"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        self._connection.execute("PRAGMA synchronous=NORMAL")

    @property
    def version(self) -> int:
        """The version of the last commit."""
        return self._version

    @property
    def next_version(self) -> int:
        """The version that the next commit will get; a document carries it inside."""
        return self._version + 1

    def read(self, resource: str, namespace: str, name: str) -> Row | None:
        """The object under this key."""
        return self._one("resource=? AND namespace=? AND name=?", resource, namespace, name)

    def read_uid(self, uid: str) -> Row | None:
        """The object with this uid, of whatever resource."""
        return self._one("uid=?", uid)

    def dependents(self, owner_uid: str) -> tuple[Row, ...]:
        """Every object that names `owner_uid` among its owners."""
        with self._translated():
            found = self._connection.execute(
                f"SELECT {COLUMNS} FROM objects WHERE uid IN (SELECT uid FROM owners WHERE owner_uid=?)"  # noqa: S608
                " ORDER BY resource, namespace, name",
                (owner_uid,),
            )
            return tuple(Row(*row) for row in found)

    def list(
        self,
        resource: str,
        namespace: str | None = None,
        *,
        after: tuple[str, str] = ("", ""),
        limit: int | None = None,
    ) -> Page:
        """Rows ordered by namespace and name that come behind the key `after`; namespace None means all."""
        where, values = "resource=? AND (namespace, name) > (?, ?)", [resource, *after]
        if namespace is not None:
            where, values = f"{where} AND namespace=?", [*values, namespace]
        with self._translated():
            found = self._connection.execute(
                f"SELECT {COLUMNS} FROM objects WHERE {where} ORDER BY namespace, name LIMIT ?",  # noqa: S608
                (*values, -1 if limit is None else limit + 1),
            ).fetchall()
        more = limit is not None and len(found) > limit
        return Page(tuple(Row(*row) for row in found[:limit]), self._version, more)

    def write(
        self,
        resource: str,
        namespace: str,
        name: str,
        document: bytes,
        *,
        uid: str,
        owner_uids: Sequence[str] = (),
        expected: int | None = None,
    ) -> int:
        """Create (`expected` None) or replace the object whose version is `expected`; returns the new version."""
        old = self.read(resource, namespace, name)
        if expected is None and old is not None:
            raise AlreadyExists(f'{resource} "{name}" already exists')
        if expected is not None and (old is None or old.version != expected):
            raise Conflict(f'{resource} "{name}" is not at version {expected}')
        version = self.next_version
        with self._transaction():
            run = self._connection.execute
            run(
                "INSERT OR REPLACE INTO objects VALUES(?,?,?,?,?,?)",
                (resource, namespace, name, version, uid, document),
            )
            run("DELETE FROM owners WHERE uid=?", (uid,))
            self._connection.executemany(
                "INSERT INTO owners VALUES(?,?)", {(owner, uid) for owner in owner_uids}
            )
            run("UPDATE head SET version=?", (version,))
        self._committed(
            version,
            "MODIFIED" if old else "ADDED",
            Row(resource, namespace, name, version, uid, document),
            old,
        )
        return version

    def remove(self, resource: str, namespace: str, name: str, document: bytes, *, expected: int) -> int:
        """Remove the object at version `expected`; `document` is what watchers see last. Returns the new version."""
        old = self.read(resource, namespace, name)
        if old is None:
            raise NotFound(f'{resource} "{name}" not found')
        if old.version != expected:
            raise Conflict(f'{resource} "{name}" is not at version {expected}')
        version = self.next_version
        with self._transaction():
            run = self._connection.execute
            run(
                "DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", (resource, namespace, name)
            )
            run("DELETE FROM owners WHERE uid=?", (old.uid,))
            run("UPDATE head SET version=?", (version,))
        self._committed(version, "DELETED", old._replace(version=version, document=document), old)
        return version

    async def durable(self) -> None:
        """Return when all that was written before is on disk. Raises Unavailable when the disk refuses it."""
        written = self._version
        async with self._syncing:
            if self._log is None or self._durable >= written:
                return
            reached = self._version
            try:
                await asyncio.to_thread(os.fdatasync, self._log)
            except OSError as error:
                raise Unavailable(
                    f"cannot write {self._path}: {error.strerror}",
                    code="store_not_writable",
                    hint="check that the disk is sound",
                ) from error
            self._durable = reached

    def position(self, resource: str, since: int) -> Position:
        """Where a watch from version `since` starts. Raises Expired when history no longer reaches back that far."""
        return self._histories.position(resource, since, self._version)

    def check(self) -> str:
        """SQLite's own verdict on the file: "ok" or what is damaged."""
        with self._translated():
            return str(self._connection.execute("PRAGMA integrity_check").fetchone()[0])

    def close(self) -> None:
        """Fold the log into the file and release it; watches end."""
        self._histories.close()
        with self._translated():
            self._connection.close()
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _one(self, where: str, *values: str) -> Row | None:
        with self._translated():
            found = self._connection.execute(
                f"SELECT {COLUMNS} FROM objects WHERE {where}",  # noqa: S608
                values,
            ).fetchone()
        return Row(*found) if found else None

    def _committed(self, version: int, type: StepType, row: Row, old: Row | None) -> None:
        self._version = version
        self._histories.append(
            row.resource,
            Step(version, type, row.namespace, row.name, row.document, old.document if old else None),
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translate(error, self._path) from error


def _create_private(path: Path) -> None:
    """An empty file with mode 0600, since Secrets are stored; SQLite gives its log the same mode. Errors are SQLite's to tell."""
    with contextlib.suppress(OSError):
        path.touch(mode=0o600)
        path.chmod(0o600)


def _translate(error: sqlite3.Error, path: str) -> PlatformError:
    """SQLite's error as one that says what to do."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(
            f"{path} is in use by another process",
            code="store_in_use",
            hint="stop the other instance, or set PENSTOCK_HOME to another folder",
        )
    if name.startswith("SQLITE_FULL"):
        return Unavailable(
            f"cannot write {path}: the disk is full",
            code="disk_full",
            hint="free some space; nothing that was stored is lost",
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR")):
        return Unavailable(
            f"cannot write {path}: {error}",
            code="store_not_writable",
            hint="check that the folder exists, that its disk is sound and not read-only, and that this user may write to it,"
            " or set PENSTOCK_HOME to another folder",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Unavailable(
            f"{path} is damaged: {error}",
            code="store_damaged",
            hint="move the file away and start again, or restore a copy of it",
        )
    return Internal(f"{path}: {error}", code="store_failed")
