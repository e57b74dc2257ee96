"""Brings the files of a snapshot into the node's store: resumed where an earlier try ended, verified, several at once.

A file grows in a place of its own, of which one process at a time has the lock; only when its size and digest are right does it become
a blob with its digest for a name. So whatever ends the process, the next one goes on with what reached the disk, and a file that two
models have is brought once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from penstock.app.part_file import PART_BYTES, PartFile
from penstock.app.part_streams import LATER, MAX_FRUITLESS_TRIES, Streams, pause, wait_s
from penstock.app.progress import Meter, Moment, unheard
from penstock.app.unpack import safe_path
from penstock.contracts.source import MAX_FILES, Changed, Corrupt, ModelSource, RemoteFile, Snapshot, Unranged
from penstock.host.model_store import (
    JOURNAL,
    Algorithm,
    Entry,
    ModelStore,
    digest_of,
    is_whole,
    locked,
    seal,
)
from penstock.kit.errors import Exhausted, InvalidInput, TooLarge, Unavailable

PARALLEL_FILES = 4
SPARE_BYTES = 64 << 20
PARTED_BYTES = 2 * PART_BYTES
"""Files from this size on come in parts."""


def listed(source: ModelSource) -> Snapshot:
    """The source's snapshot, asked for again while the source is not available. Raises what the source raises, TooLarge."""
    fruitless = 0
    while True:
        try:
            snapshot = source.snapshot()
            break
        except Unavailable as error:
            fruitless += 1
            if fruitless >= MAX_FRUITLESS_TRIES:
                raise
            pause(error, fruitless)
    if len(snapshot.files) > MAX_FILES:
        raise TooLarge(f"found {len(snapshot.files)} files, expected at most {MAX_FILES}")
    return snapshot


def download(
    source: ModelSource,
    files: tuple[RemoteFile, ...],
    folder: Path,
    store: ModelStore,
    *,
    about: str = "",
    hear: Callable[[Moment], None] = unheard,
) -> dict[str, Entry]:
    """All `files` below `folder`, as links to blobs of the store; what they are. `about` tells this source's files from others'.

    Raises what the source raises, Changed if a file is no longer the listed one, Corrupt, InvalidInput for paths that cannot be
    there together, Exhausted and OSError without room on the disk.
    """
    targets = _targets(files, folder)
    sizes = [file.size_bytes for file in files]
    meter = Meter(None if None in sizes else sum(size or 0 for size in sizes), hear)
    streams = Streams()
    tasks = [_Download(source, f, targets[f.path], store, about, meter, streams) for f in files]
    _check_room(store.path, sum(task.missing_bytes() for task in tasks))
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        running = [pool.submit(task.run) for task in tasks]
        try:
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:
            streams.given_up.set()
    for one in done:
        one.result()
    meter.finish()
    return {file.path: one.result() for file, one in zip(files, running, strict=True)}


class _Download:
    """One file."""

    def __init__(
        self,
        source: ModelSource,
        file: RemoteFile,
        target: Path,
        store: ModelStore,
        about: str,
        meter: Meter,
        streams: Streams,
    ) -> None:
        self._source = source
        self._file = file
        self._target = target
        self._store = store
        self._meter = meter
        self._streams = streams
        self._algorithm: Algorithm = "sha256" if file.sha256 else "blake3"
        self._expected = file.sha256 or file.blake3
        same = [self._expected] if self._expected else [about, file.path, file.version, file.size_bytes]
        self._part = store.part(same)

    def missing_bytes(self) -> int:
        """How much room it still takes; 0 where the source does not say."""
        if self._expected and self._store.blob(self._algorithm, self._expected).exists():
            return 0
        with contextlib.suppress(FileNotFoundError):
            return max(0, (self._file.size_bytes or 0) - self._part.stat().st_blocks * 512)
        return self._file.size_bytes or 0

    def run(self) -> Entry:
        """Try until it is complete; a try that brought something forgets the failures before it."""
        if there := self._known():
            return there
        self._part.parent.mkdir(parents=True, exist_ok=True)
        lock = self._store.part_lock(self._part)
        with locked(lock, self._say_waiting):
            entry = self._known() or self._bring()
            lock.unlink(missing_ok=True)
            return entry

    def _known(self) -> Entry | None:
        """The file from the store, if a model that is here has it. It may come, and go, at any time."""
        if not self._expected:
            return None
        blob = self._store.blob(self._algorithm, self._expected)
        try:
            entry = Entry(blob.stat().st_size, self._algorithm, self._expected)
            if not is_whole(blob, entry, self._store.path):
                return None
            _link(blob, self._target)
        except FileNotFoundError:
            return None
        self._meter.there(entry.size_bytes)
        return entry

    def _bring(self) -> Entry:
        """Raises what the source raises, Changed and Corrupt after a second try from the beginning."""
        if self._expected:  # what is there in its place is spoiled, and takes room
            self._store.blob(self._algorithm, self._expected).unlink(missing_ok=True)
        elif not self._file.version:
            self._drop()  # nothing tells whether an earlier try's bytes are of the same content
        begun_anew = False
        while True:
            try:
                digest = self._content()
                return self._keep(digest)
            except (Changed, Corrupt) as error:
                self._meter.take_back(_size(self._part))
                self._drop()
                if begun_anew:
                    raise
                begun_anew = True
                reason = str(error) or f"{self._file.path}: cannot be continued"
                print(f"{reason}; fetching it anew", flush=True)

    def _content(self) -> str:
        """The digest of the complete part file."""
        size = self._file.size_bytes
        if size is not None and size >= PARTED_BYTES:
            with contextlib.suppress(Unranged):
                return self._in_parts(size)
            print(
                f"{self._file.path}: the source gives whole files only; fetching it in one piece", flush=True
            )
            self._drop()
        self._meter.there(_size(self._part))
        self._grow()
        return digest_of(self._part, self._algorithm)

    def _in_parts(self, size: int) -> str:
        with PartFile(self._part, size, self._algorithm) as parts:
            self._meter.there(parts.there_bytes)
            self._streams.run(self._source, self._file, parts, self._meter)
            self._check_given_up()
            return parts.digest()

    def _grow(self) -> None:
        """Let it grow to its end, however often the connection ends."""
        fruitless = 0
        while True:
            before = _size(self._part)
            try:
                with self._streams.slots:
                    self._grow_once(before)
                return
            except Unavailable as error:
                self._check_given_up()
                fruitless = 0 if _size(self._part) > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise
                self._streams.given_up.wait(wait_s(error, max(1, fruitless), self._file.path))

    def _grow_once(self, start: int) -> None:
        """From `start` to its end. Raises Unavailable if it ends early, Corrupt if it does not end."""
        size, expected = start, self._file.size_bytes
        if start and start == expected:
            return
        with self._part.open("ab") as out:
            for piece in self._source.read(self._file, start):
                size += len(piece)
                if expected is not None and size > expected:
                    raise Corrupt(f"{self._file.path}: found more than {expected} bytes", hint=LATER)
                out.write(piece)
                self._meter.add(len(piece), self._file.path)
                self._check_given_up()
            out.flush()
            os.fsync(out.fileno())
        if expected is not None and size < expected:
            raise Unavailable(f"the connection ended after {size} of {expected} bytes")

    def _keep(self, digest: str) -> Entry:
        """The part file becomes a blob. It is linked into the model first: at no time is it nobody's."""
        if self._expected and digest != self._expected:
            name = {"sha256": "SHA-256", "blake3": "BLAKE3"}[self._algorithm]
            raise Corrupt(
                f"{self._file.path}: found {name} {digest[:12]}…, expected {self._expected[:12]}…",
                hint=LATER,
            )
        entry = Entry(_size(self._part), self._algorithm, digest)
        adopt(self._store, self._part, self._target, entry)
        self._drop()
        return entry

    def _drop(self) -> None:
        for path in (self._part, self._part.with_suffix(JOURNAL)):
            path.unlink(missing_ok=True)

    def _check_given_up(self) -> None:
        if self._streams.given_up.is_set():
            raise _GivenUp

    def _say_waiting(self) -> None:
        print(f"{self._file.path}: another model of this node has it fetched now; waiting for it", flush=True)


class _GivenUp(Exception):
    """Another file failed; this one ends where it is."""


def adopt(store: ModelStore, path: Path, target: Path, entry: Entry) -> None:
    """`path`, whole and checked, becomes the blob of its content, and `target` a link to it; `path` may be `target`."""
    blob = store.blob(entry.algorithm, entry.digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if blob.exists() and is_whole(blob, entry, store.path):
        with contextlib.suppress(FileNotFoundError):
            _link(blob, target)
            return
    store.suspect(entry.digest)
    seal(path, entry.digest)
    if path != target:
        _link(path, target)
    new = blob.with_name(f"{blob.name}.{threading.get_ident()}.{os.getpid()}.new")
    os.link(path, new)
    new.replace(blob)


def _link(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    os.link(path, target)


def _targets(files: tuple[RemoteFile, ...], folder: Path) -> dict[str, Path]:
    """Where each file goes. Raises InvalidInput where a disk cannot have what a store can: `a` beside `a/b`, `a` beside `./a`."""
    targets = {file.path: folder / safe_path(file.path) for file in files}
    taken = set(targets.values())
    if len(taken) < len(files):
        raise InvalidInput("two of its files have the same path")
    for path, target in targets.items():
        if not taken.isdisjoint(target.parents):
            raise InvalidInput(f"{path!r} is below another file")
    return targets


def _check_room(folder: Path, needed_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed_bytes + SPARE_BYTES > free:
        raise Exhausted(
            f"{folder}: found {free >> 20} MiB of free space, expected {(needed_bytes + SPARE_BYTES) >> 20} MiB for this model",
            code="disk_full",
            hint="make room, or move PENSTOCK_HOME to another disk",
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
