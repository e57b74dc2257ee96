"""Which folder of the node's store holds this model now, whole? Brought by one process, used by every pod of the node."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.app.download import adopt, download
from penstock.app.peer_source import from_peers
from penstock.app.progress import Moment
from penstock.app.unpack import is_archive, unpack
from penstock.contracts.source import Changed, Corrupt, ModelSource, RemoteFile, public
from penstock.host.model_store import (
    FILES,
    LOCK,
    PARTIAL,
    RECORD,
    Entry,
    ModelStore,
    Progress,
    Record,
    digest_of,
    key_of,
    locked,
    names,
    write,
    wrong_file,
)
from penstock.kit.errors import Exhausted, InvalidInput, PlatformError, TooLarge
from penstock.kit.hashing import stable_hash

ARCHIVE = ".archive"


def cached(
    cache: Path,
    uri: str,
    source: ModelSource,
    files: tuple[RemoteFile, ...],
    *,
    use: Callable[[Path], None] = lambda folder: None,
    limit_bytes: int | None = None,
) -> Path:
    """The folder with these files, fetched unless it is there and whole.

    `use` is called with it while nobody can remove it. Raises what `download` and `unpack` raise; Exhausted if the files
    are more than `limit_bytes`, before the first is asked for.
    """
    store = ModelStore(cache)
    folder = store.model(uri) / snapshot_key(uri, files)
    with locked(store.model(uri) / LOCK, _say_waiting):
        if not (folder.exists() and _is_whole(uri, folder)):
            _check_limit(files, limit_bytes)
            _bring(store, uri, folder, source, files)
        store.note_use(uri, time.time())
        use(folder / FILES)
    return folder / FILES


def held(cache: Path, uri: str, part: str, use: Callable[[Path], None]) -> bool:
    """Whether the cache has the model, whole, and of it what is at the relative path `part`: then `use` was called with that.

    Of several states of the source the newest is taken; nobody is asked whether there is a newer one.
    """
    store = ModelStore(cache)
    if not store.is_ready(uri):
        return False
    with locked(store.model(uri) / LOCK, _say_waiting):
        for folder in sorted(store.snapshots(key_of(uri)), key=_written_ns, reverse=True):
            if not _is_whole(uri, folder):
                continue
            there = folder / FILES / part
            if ".." in Path(part).parts or not there.exists():
                print(f"{public(uri)}: this node's cache has no {part!r} of it", flush=True)
                return False
            store.note_use(uri, time.time())
            use(there)
            return True
    return False


def snapshot_key(uri: str, files: tuple[RemoteFile, ...]) -> str:
    """Equal for equal contents at one address, as far as the source tells."""
    return stable_hash([key_of(uri), *(msgspec.to_builtins(file) for file in files)])


def _written_ns(folder: Path) -> int:
    return (folder / RECORD).stat().st_mtime_ns


def _is_whole(uri: str, folder: Path) -> bool:
    wrong = wrong_file(folder)
    if not wrong:
        print(f"{public(uri)}: is in this node's cache", flush=True)
        return True
    print(f"{public(uri)}: {wrong} in this node's cache is damaged; fetching the model anew", flush=True)
    shutil.rmtree(folder)
    return False


def _bring(
    store: ModelStore, uri: str, folder: Path, source: ModelSource, files: tuple[RemoteFile, ...]
) -> None:
    """The tree grows beside its place. What comes to nothing is told in the model's progress, too."""
    began, partial = time.monotonic(), folder.with_suffix(PARTIAL)
    attempt = store.progress(uri).attempt + 1 if store.progress(uri).state == "failed" else 1
    teller = _Teller(store, uri, files, attempt)
    shutil.rmtree(partial, ignore_errors=True)
    (partial / FILES).mkdir(parents=True)
    teller.tell("downloading")
    try:
        entries = _fill(store, folder.name, partial, source, files, teller)
    except (Changed, PlatformError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        teller.tell("failed", _reason(error))
        raise
    record = Record(public(uri), entries, time.monotonic() - began, teller.is_from_peer)
    write(partial / RECORD, record)
    partial.rename(folder)
    teller.tell("ready")


def _fill(
    store: ModelStore,
    about: str,
    partial: Path,
    source: ModelSource,
    files: tuple[RemoteFile, ...],
    teller: _Teller,
) -> dict[str, Entry]:
    """As in KServe, an archive that is the only file is unpacked in its place."""
    if len(files) != 1 or not is_archive(files[0].path):
        entries = _from_peers(store, about, partial, source, files, teller)
        if entries is None:
            entries = download(source, files, partial / FILES, store, about=about, hear=teller.hear)
        teller.tell("verifying")
        return entries
    archive = partial.with_suffix(ARCHIVE)
    try:
        if not (archive / files[0].path).exists():
            download(source, files, archive, store, about=about, hear=teller.hear)
        teller.tell("verifying")
        unpack(archive / files[0].path, partial / FILES)
    except OSError:
        raise  # room may be made: what has arrived is kept
    except (Corrupt, InvalidInput, TooLarge):
        _drop(store, archive)
        raise
    _drop(store, archive)
    return {name: _adopted(store, partial / FILES / name) for name in sorted(names(partial / FILES))}


def _from_peers(
    store: ModelStore,
    about: str,
    partial: Path,
    source: ModelSource,
    files: tuple[RemoteFile, ...],
    teller: _Teller,
) -> dict[str, Entry] | None:
    """From another node; None where none has it, or what came is not what it should be."""
    found = from_peers(store.path, partial.parent.name, about, source, files)
    if found is None:
        return None
    print("another node has this model: fetching it from there", flush=True)
    try:
        entries = download(*found, partial / FILES, store, about=about, hear=teller.hear)
    except (Changed, Corrupt) as error:
        print(f"{error}; fetching it from its source", flush=True)
        return None
    teller.is_from_peer = True
    return entries


def _drop(store: ModelStore, archive: Path) -> None:
    shutil.rmtree(archive, ignore_errors=True)
    store.sweep()


def _adopted(store: ModelStore, path: Path) -> Entry:
    entry = Entry(path.stat().st_size, "blake3", digest_of(path, "blake3"))
    adopt(store, path, path, entry)
    return entry


class _Teller:
    """Writes a model's progress beside it."""

    def __init__(self, store: ModelStore, uri: str, files: tuple[RemoteFile, ...], attempt: int) -> None:
        self.is_from_peer = False
        self._store = store
        self._uri = uri
        sizes = [file.size_bytes for file in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        self._last = Progress(uri=public(uri), bytes_total=total, attempt=attempt)

    def hear(self, moment: Moment) -> None:
        """While it is on its way."""
        self._last = msgspec.structs.replace(
            self._last,
            bytes_done=moment.done_bytes,
            bytes_total=moment.total_bytes,
            rate_bytes_per_s=moment.rate_bytes_per_s,
            eta_s=moment.eta_s,
        )
        self.tell("downloading")

    def tell(self, state: str, reason: str = "") -> None:
        """A new state. A disk that is full keeps nobody from learning that it is by other ways."""
        progress = msgspec.structs.replace(self._last, state=state, reason=reason, updated_at=time.time())
        with contextlib.suppress(OSError):
            self._store.tell(self._uri, progress)


def _reason(error: Exception) -> str:
    if isinstance(error, PlatformError):
        return error.message
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error) or "changed while it was fetched"


def _check_limit(files: tuple[RemoteFile, ...], limit_bytes: int | None) -> None:
    """As far as the source says sizes."""
    known = sum(file.size_bytes or 0 for file in files)
    if limit_bytes is not None and known > limit_bytes:
        raise Exhausted(
            f"found {known} bytes, expected at most {limit_bytes}: more room the node group has not",
            code="node_group_full",
            hint="raise the group's spec.storageLimit, or remove another model's cache",
        )


def _say_waiting() -> None:
    print("another pod of this node is fetching this model; waiting for it", flush=True)
