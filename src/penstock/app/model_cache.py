"""The node's cache of models: one folder per URI and content, filled by one process, used by every pod of the node.

CACHE/models/HASH.lock                    held while the folder is filled or checked
CACHE/models/HASH.partial/{parts,archive} while it is being filled
CACHE/models/HASH/files/                  complete: the files
CACHE/models/HASH/record.json             each one's size, time of writing and BLAKE3
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
from penstock.contracts.source import Changed, Corrupt, ModelSource, RemoteFile, public
from penstock.kit.errors import InvalidInput, TooLarge
from penstock.kit.hashing import stable_hash

FILES, PARTS, ARCHIVE, RECORD = "files", "parts", "archive", "record.json"


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
    """The folder with these files, fetched unless it is there and whole. Raises what `download` and `unpack` raise."""
    folder = cache / "models" / _key(uri, files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.exists():
            wrong = wrong_file(folder)
            if not wrong:
                print(f"{public(uri)}: is in this node's cache", flush=True)
                return folder / FILES
            print(
                f"{public(uri)}: {wrong} in this node's cache is damaged; fetching the model anew", flush=True
            )
            shutil.rmtree(folder)
        partial = folder.with_suffix(".partial")
        try:
            _fill(partial, source, files)
        except (Changed, Corrupt, InvalidInput, TooLarge):
            shutil.rmtree(partial, ignore_errors=True)  # nothing to go on from
            raise
        (partial / RECORD).write_bytes(msgspec.json.encode(Record(public(uri), _entries(partial / FILES))))
        for done in (PARTS, ARCHIVE):
            shutil.rmtree(partial / done, ignore_errors=True)
        os.sync()
        partial.rename(folder)
    return folder / FILES


def wrong_file(folder: Path) -> str:
    """The first file that is not as it was recorded, "" if all are. Content is read only where size or time differ."""
    try:
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return RECORD
    if added := _names(folder / FILES) - record.files.keys():
        return min(added)
    for name, entry in record.files.items():
        path = folder / FILES / name
        try:
            found = path.stat()
        except OSError:
            return name
        if found.st_size != entry.size_bytes:
            return name
        if found.st_mtime_ns != entry.written_ns and _digest(path) != entry.blake3:
            return name
    return ""


def _key(uri: str, files: tuple[RemoteFile, ...]) -> str:
    """Equal for equal models. The query can tell two files apart and can be a secret, so only a one-way hash of it takes part."""
    query = blake3(uri.partition("?")[2].encode()).hexdigest()
    return stable_hash([public(uri), query, *(msgspec.to_builtins(file) for file in files)])


def _fill(partial: Path, source: ModelSource, files: tuple[RemoteFile, ...]) -> None:
    """As in KServe, an archive that is the only file is unpacked in its place."""
    if len(files) != 1 or not is_archive(files[0].path):
        (partial / FILES).mkdir(parents=True, exist_ok=True)
        download(source, files, partial / FILES, partial / PARTS)
        return
    download(source, files, partial / ARCHIVE, partial / PARTS)
    shutil.rmtree(partial / FILES, ignore_errors=True)
    (partial / FILES).mkdir()
    unpack(partial / ARCHIVE / files[0].path, partial / FILES)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _entries(folder: Path) -> dict[str, Entry]:
    entries = {}
    for name in sorted(_names(folder)):
        found = (folder / name).stat()
        entries[name] = Entry(found.st_size, found.st_mtime_ns, _digest(folder / name))
    return entries


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
