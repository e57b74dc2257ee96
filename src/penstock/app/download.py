"""Brings the files of a snapshot into a folder: resumed where an earlier try ended, verified, several at once.

A file grows as `NAME.part`; only when its size and digest are right does it get its name. So whatever ends the process, the next
one goes on from the last byte that reached the disk.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from penstock.app.progress import Progress
from penstock.app.unpack import safe_path
from penstock.contracts.source import Changed, ModelSource, RemoteFile
from penstock.kit.backoff import delay_s
from penstock.kit.errors import Exhausted, PlatformError, Unavailable

PARALLEL_FILES = 4
MAX_FRUITLESS_TRIES = 5
FIRST_WAIT_S, LAST_WAIT_S = 0.5, 15.0
SPARE_BYTES = 64 << 20
PART = ".part"


class Corrupt(PlatformError):
    """What arrived is not what the source promised, also after trying again."""


def download(source: ModelSource, files: tuple[RemoteFile, ...], folder: Path) -> None:
    """All `files` below `folder`. Raises what the source raises, Exhausted without room on the disk, Corrupt."""
    targets = {file.path: folder / safe_path(file.path) for file in files}
    missing = [file for file in files if not targets[file.path].exists()]
    there = sum(_size(part_of(targets[file.path])) for file in missing)
    sizes = [file.size_bytes for file in missing]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    _check_room(folder, (total or 0) - there)
    progress = Progress(total, there)
    given_up = threading.Event()
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        tasks = [pool.submit(_Download(source, f, targets[f.path], progress, given_up).run) for f in missing]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            given_up.set()
            raise
    progress.finish()


def part_of(target: Path) -> Path:
    """Where the file grows."""
    return target.with_name(target.name + PART)


class _Download:
    """One file."""

    def __init__(
        self,
        source: ModelSource,
        file: RemoteFile,
        target: Path,
        progress: Progress,
        given_up: threading.Event,
    ) -> None:
        self._source = source
        self._file = file
        self._target = target
        self._part = part_of(target)
        self._progress = progress
        self._given_up = given_up

    def run(self) -> None:
        """Try until it is complete; a try that brought something forgets the failures before it."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        fruitless, corrupt = 0, 0
        while not self._given_up.is_set():
            before = _size(self._part)
            try:
                self._once(before)
                wrong = self._wrong()
            except Changed:
                wrong = "it changed while it was fetched"
            except Unavailable as error:
                fruitless = 0 if _size(self._part) > before else fruitless + 1
                if fruitless >= MAX_FRUITLESS_TRIES:
                    raise
                wait_s = delay_s(max(1, fruitless), base_s=FIRST_WAIT_S, cap_s=LAST_WAIT_S)
                print(f"{self._file.path}: {error.message}; trying again in {wait_s:g} s", flush=True)
                self._given_up.wait(wait_s)
                continue
            if not wrong:
                self._part.replace(self._target)
                return
            corrupt += 1
            self._progress.take_back(_size(self._part))
            self._part.unlink(missing_ok=True)
            if corrupt > 1:
                raise Corrupt(
                    f"{self._file.path}: {wrong}",
                    hint="the source or the way to it is at fault; ask again later",
                )
            print(f"{self._file.path}: {wrong}; fetching it anew", flush=True)

    def _once(self, start: int) -> None:
        if start and start == self._file.size_bytes:
            return
        try:
            with self._part.open("ab") as out:
                for piece in self._source.read(self._file, start):
                    out.write(piece)
                    self._progress.add(len(piece), self._file.path)
                    if self._given_up.is_set():
                        return
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(self._part.parent) from None
            raise
        size = _size(self._part)
        if self._file.size_bytes is not None and size < self._file.size_bytes:
            raise Unavailable(f"the connection ended after {size} of {self._file.size_bytes} bytes")

    def _wrong(self) -> str:
        """What is wrong with the file, "" if nothing is."""
        size = _size(self._part)
        if self._file.size_bytes is not None and size != self._file.size_bytes:
            return f"found {size} bytes, expected {self._file.size_bytes}"
        if self._file.sha256:
            with self._part.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self._file.sha256:
                return f"found SHA-256 {found[:12]}…, expected {self._file.sha256[:12]}…"
        return ""


def _check_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed_bytes + SPARE_BYTES > free:
        raise Exhausted(
            f"{folder}: found {free >> 20} MiB of free space, expected {(needed_bytes + SPARE_BYTES) >> 20} MiB for this model",
            code="disk_full",
            hint="make room, or move PENSTOCK_HOME to another disk",
        )


def _no_room(folder: Path) -> Exhausted:
    return Exhausted(
        f"{folder}: the disk is full", code="disk_full", hint="make room; what has arrived is kept"
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
