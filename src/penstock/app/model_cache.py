"""The node's cache of models: one folder per URI and content, filled by one process, used by every pod of the node.

CACHE/models/HASH.lock      held while the folder is filled or checked
CACHE/models/HASH.partial   while it is being filled
CACHE/models/HASH/          complete: the files, and `.penstock.json` with each one's size, time of writing and BLAKE3
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from blake3 import blake3
from msgspec import Struct

from penstock.app.download import download
from penstock.app.unpack import is_archive, unpack
from penstock.contracts.source import ModelSource, RemoteFile
from penstock.kit.hashing import stable_hash

RECORD = ".penstock.json"


class Entry(Struct, frozen=True):
    """One file as it was when it was complete."""

    size_bytes: int
    written_ns: int
    blake3: str


class Record(Struct, frozen=True):
    """The folder's contents."""

    uri: str
    files: dict[str, Entry]


def cached(cache: Path, uri: str, source: ModelSource, files: tuple[RemoteFile, ...]) -> Path:
    """The folder with these files, fetched unless it is there and whole. `uri` must carry no secret."""
    folder = cache / "models" / stable_hash([uri, *(msgspec.to_builtins(f) for f in files)])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.exists():
            wrong = wrong_file(folder)
            if not wrong:
                print(f"{uri}: is in this node's cache", flush=True)
                return folder
            print(f"{uri}: {wrong} in this node's cache is damaged; fetching the model anew", flush=True)
            shutil.rmtree(folder)
        partial = folder.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        download(source, files, partial)
        _unpack_single(partial, files)
        (partial / RECORD).write_bytes(msgspec.json.encode(Record(uri, _entries(partial))))
        os.sync()
        partial.rename(folder)
    return folder


def wrong_file(folder: Path) -> str:
    """The first file that is not as it was recorded, "" if all are. Content is read only where size or time differ."""
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return RECORD
    for name, entry in record.files.items():
        try:
            found = (folder / name).stat()
        except OSError:
            return name
        if found.st_size != entry.size_bytes:
            return name
        if found.st_mtime_ns != entry.written_ns and _digest(folder / name) != entry.blake3:
            return name
    return ""


def _unpack_single(folder: Path, files: tuple[RemoteFile, ...]) -> None:
    """As in KServe: an archive that is the only file is unpacked in its place."""
    if len(files) == 1 and is_archive(files[0].path):
        archive = folder / files[0].path
        unpack(archive, folder)
        archive.unlink()


def _entries(folder: Path) -> dict[str, Entry]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {
        str(path.relative_to(folder)): Entry(path.stat().st_size, path.stat().st_mtime_ns, _digest(path))
        for path in found
    }


def _digest(path: Path) -> str:
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another pod of this node is fetching this model; waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
