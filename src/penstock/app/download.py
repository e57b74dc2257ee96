"""Brings the files of a snapshot into a folder: resumed where an earlier try ended, verified, several at once.

A file grows in a folder of its own; only when its size and digest are right does it move to its place and name. So whatever ends
the process, the next one goes on from the last byte that reached the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from penstock.app.progress import Progress
from penstock.app.unpack import safe_path
from penstock.contracts.source import MAX_FILES, Changed, Corrupt, ModelSource, RemoteFile, Snapshot
from penstock.kit.backoff import delay_s
from penstock.kit.errors import Exhausted, InvalidInput, TooLarge, Unavailable
from penstock.kit.hashing import stable_hash

PARALLEL_FILES = 4
MAX_FRUITLESS_TRIES = 5
FIRST_WAIT_S, LAST_WAIT_S = 0.5, 15.0
SPARE_BYTES = 64 << 20
LATER = "the source or the way to it is at fault; ask again later"


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
            time.sleep(_wait_s(error, fruitless))
    if len(snapshot.files) > MAX_FILES:
        raise TooLarge(f"found {len(snapshot.files)} files, expected at most {MAX_FILES}")
    return snapshot


def download(source: ModelSource, files: tuple[RemoteFile, ...], folder: Path, parts: Path) -> None:
    """All `files` below `folder`; what has not arrived whole is in `parts`, on the same disk.

    Raises what the source raises, Changed if a file is no longer the listed one, Corrupt, InvalidInput for paths that cannot be
    there together, Exhausted and OSError without room on the disk.
    """
    targets = _targets(files, folder)
    parts.mkdir(parents=True, exist_ok=True)
    grow = {file.path: parts / stable_hash(file.path) for file in files}
    missing = [file for file in files if not targets[file.path].exists()]
    for file in missing:
        if not (file.version or file.sha256):
            # Nothing tells whether an earlier try's bytes are of the same content.
            grow[file.path].unlink(missing_ok=True)
    there = sum(_size(grow[file.path]) for file in missing)
    sizes = [file.size_bytes for file in missing]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    _check_room(parts, (total or 0) - there)
    progress = Progress(total, there)
    given_up = threading.Event()
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        try:
            tasks = [
                pool.submit(_Download(source, f, targets[f.path], grow[f.path], progress, given_up).run)
                for f in missing
            ]
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
        finally:
            given_up.set()
        for task in done:
            task.result()
    progress.finish()


class _Download:
    """One file."""

    def __init__(
        self,
        source: ModelSource,
        file: RemoteFile,
        target: Path,
        part: Path,
        progress: Progress,
        given_up: threading.Event,
    ) -> None:
        self._source = source
        self._file = file
        self._target = target
        self._part = part
        self._progress = progress
        self._given_up = given_up

    def run(self) -> None:
        """Try until it is complete; a try that brought something forgets the failures before it."""
        fruitless, begun_anew = 0, False
        while not self._given_up.is_set():
            before = _size(self._part)
            try:
                self._once(before)
                if self._given_up.is_set():
                    return
                self._check_digest()
            except Unavailable as error:
                fruitless = 0 if _size(self._part) > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise
                self._given_up.wait(_wait_s(error, max(1, fruitless), self._file.path))
            except (Changed, Corrupt) as error:
                self._progress.take_back(_size(self._part))
                self._part.unlink(missing_ok=True)
                if begun_anew:
                    raise
                begun_anew = True
                reason = str(error) or f"{self._file.path}: cannot be continued"
                print(f"{reason}; fetching it anew", flush=True)
            else:
                self._target.parent.mkdir(parents=True, exist_ok=True)
                self._part.replace(self._target)
                return

    def _once(self, start: int) -> None:
        """Let the file grow from `start` to its end. Raises Unavailable if it ends early, Corrupt if it does not end."""
        size, expected = start, self._file.size_bytes
        if start and start == expected:
            return
        with self._part.open("ab") as out:
            for piece in self._source.read(self._file, start):
                size += len(piece)
                if expected is not None and size > expected:
                    raise Corrupt(f"{self._file.path}: found more than {expected} bytes", hint=LATER)
                out.write(piece)
                self._progress.add(len(piece), self._file.path)
                if self._given_up.is_set():
                    return
            out.flush()
            os.fsync(out.fileno())
        if expected is not None and size < expected:
            raise Unavailable(f"the connection ended after {size} of {expected} bytes")

    def _check_digest(self) -> None:
        if not self._file.sha256:
            return
        with self._part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self._file.sha256:
            raise Corrupt(
                f"{self._file.path}: found SHA-256 {found[:12]}…, expected {self._file.sha256[:12]}…",
                hint=LATER,
            )


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


def _wait_s(error: Unavailable, fruitless: int, name: str = "") -> float:
    """Says that there will be another try, and how long until then."""
    wait_s = delay_s(fruitless, base_s=FIRST_WAIT_S, cap_s=LAST_WAIT_S)
    print(f"{name}{': ' if name else ''}{error.message}; trying again in {wait_s:g} s", flush=True)
    return wait_s


def _check_room(folder: Path, needed_bytes: int) -> None:
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
