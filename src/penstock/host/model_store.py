"""A node's cache of models on the disk: where everything is, who may touch it, and what is whole.

CACHE/blobs/ALGORITHM/DIGEST      the content of one file, whole, read-only; every model that has it links to it
CACHE/parts/ID{,.journal}         a file on its way here; its journal says which of its parts have arrived
CACHE/unsynced/DIGEST             a blob that a crash of the machine may yet spoil; holds the boot that wrote it
CACHE/locks/ID                    held by the one process that brings this file
CACHE/models/KEY/lock             held by the one process that brings, checks or removes the model
CACHE/models/KEY/progress.json    where that stands, for everybody to read
CACHE/models/KEY/use.json         how often and when it was asked for
CACHE/models/KEY/SNAPSHOT/files/  the model: hard links to blobs
CACHE/models/KEY/SNAPSHOT/record.json

Pods link to the same bytes once more. So a blob with one link is nobody's, and to remove a model never takes a file from a pod.
Locks are flock(2): they go with the process, and hold between machines that share the disk where it does (local disks, NFS 4).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from blake3 import blake3
from msgspec import Struct

from penstock.contracts.source import public
from penstock.decide.eviction import decayed
from penstock.kit.hashing import stable_hash

State = Literal["absent", "queued", "downloading", "verifying", "ready", "failed", "evicting"]
Algorithm = Literal["sha256", "blake3"]

BLOBS, PARTS, LOCKS, MODELS, UNSYNCED = "blobs", "parts", "locks", "models", "unsynced"
FILES, RECORD, PROGRESS, USE, LOCK, PARTIAL = (
    "files", "record.json", "progress.json", "use.json", "lock", ".partial",
)  # fmt: skip
JOURNAL = ".journal"
STALE_PART_S = 7 * 86_400.0
_SEAL_NS, _SEAL_SPAN_NS = 946_684_800 * 10**9, 20 * 365 * 86_400 * 10**9

S = TypeVar("S", bound=Struct)


class Entry(Struct, frozen=True):
    """One file of a model: how long it is, and which blob."""

    size_bytes: int
    algorithm: Algorithm
    digest: str


class Record(Struct, frozen=True):
    """A model's files. `took_s` is what it cost to bring them (s), from another node or from the source."""

    uri: str
    files: dict[str, Entry]
    took_s: float = 0.0
    is_from_peer: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(entry.size_bytes for entry in self.files.values())


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where bringing a model stands. `bytes_total` is None while the source does not say; times are Unix seconds."""

    uri: str
    state: State = "absent"
    bytes_done: int = 0
    bytes_total: int | None = None
    rate_bytes_per_s: float = 0.0
    eta_s: float | None = None
    attempt: int = 1
    reason: str = ""
    updated_at: float = 0.0


class Use(Struct, frozen=True):
    """When the model was last asked for (Unix s), and how often: `weight` halves every half-life of `decide/eviction.py`."""

    last_at: float = 0.0
    weight: float = 0.0

    def once_more(self, now: float) -> Use:
        """After one more."""
        return Use(now, 1.0 + decayed(self.weight, now - self.last_at))


class ModelStore:
    """The cache in one folder."""

    def __init__(self, cache: Path) -> None:
        self.path = cache

    @property
    def models(self) -> Path:
        """Holds a folder per model."""
        return self.path / MODELS

    def model(self, uri: str) -> Path:
        """The folder of a model by its address."""
        return self.models / key_of(uri)

    def blob(self, algorithm: Algorithm, digest: str) -> Path:
        """Where a content is, if it is here."""
        return self.path / BLOBS / algorithm / digest

    def part(self, identity: object) -> Path:
        """Where a file grows that `identity` tells from every other."""
        return self.path / PARTS / stable_hash(identity)

    def part_lock(self, part: Path) -> Path:
        """What who brings it holds."""
        return self.path / LOCKS / part.name

    def progress(self, uri: str) -> Progress:
        """As it was last told; a teller that is gone is no teller, so what it began waits for the next."""
        told = read(self.model(uri) / PROGRESS, Progress) or Progress(uri=public(uri))
        if told.state in ("downloading", "verifying", "evicting") and not is_held(self.model(uri) / LOCK):
            return msgspec.structs.replace(told, state="queued", rate_bytes_per_s=0.0, eta_s=None)
        return told

    def tell(self, uri: str, progress: Progress) -> None:
        """For everybody to read."""
        write(self.model(uri) / PROGRESS, progress)

    def snapshots(self, key: str) -> tuple[Path, ...]:
        """The complete trees of one model, as it was at different times."""
        folder = self.models / key
        return tuple(
            sorted(path.parent for path in folder.glob(f"*/{RECORD}") if path.parent.suffix != PARTIAL)
        )

    def is_ready(self, uri: str) -> bool:
        """Whether any tree of it is complete."""
        return bool(self.snapshots(key_of(uri)))

    def model_keys(self) -> tuple[str, ...]:
        """Every model that has a folder."""
        return tuple(sorted(path.name for path in self.models.iterdir())) if self.models.is_dir() else ()

    def note_use(self, uri: str, now: float) -> None:
        """Remember that somebody asked for it."""
        path = self.model(uri) / USE
        write(path, (read(path, Use) or Use()).once_more(now))

    def remove(self, key: str) -> int:
        """Take one model out, unless it is held; the bytes that this made free. What pods or other models link to stays."""
        folder = self.models / key
        if not folder.is_dir():
            return 0
        with try_lock(folder / LOCK) as held:
            if not held:
                return 0
            told = read(folder / PROGRESS, Progress)
            if told is not None:
                write(folder / PROGRESS, msgspec.structs.replace(told, state="evicting"))
            shutil.rmtree(folder)
        return self.sweep()

    def sweep(self) -> int:
        """Remove blobs that nothing links to; the bytes that this made free."""
        freed = 0
        for path in (self.path / BLOBS).glob("*/*"):
            found = path.stat()
            if found.st_nlink == 1:
                path.unlink()
                freed += found.st_size
        return freed

    def sweep_parts(self, now: float) -> None:
        """Remove what nobody has gone on with for a week."""
        for part in (self.path / PARTS).glob("*"):
            lock = self.part_lock(part.with_suffix(""))
            with try_lock(lock) as held:
                if held and part.is_file() and now - part.stat().st_mtime > STALE_PART_S:
                    part.unlink()

    def suspect(self, digest: str) -> None:
        """Remember that its bytes may be in memory alone: to wait for the disk would make every download wait."""
        mark = self.path / UNSYNCED / digest
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(_boot())

    def sync(self) -> None:
        """See to it that whole files survive a crash of the machine."""
        for mark in (self.path / UNSYNCED).glob("*"):
            for blob in (self.path / BLOBS).glob(f"*/{mark.name}"):
                if mark.read_text() == _boot():
                    _sync(blob)
                    mark.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        """What whole files take; each counts once, however many models have it."""
        return sum(path.stat().st_size for path in (self.path / BLOBS).glob("*/*"))


def key_of(uri: str) -> str:
    """Equal for equal addresses. A query can tell two models apart and can be a secret: only a one-way hash of it takes part."""
    query = blake3(uri.partition("?")[2].encode()).hexdigest()
    return stable_hash([public(uri), query])


def seal_ns(digest: str) -> int:
    """The time of writing (ns) that a whole file is given: any later write to it, through whichever link, shows."""
    return _SEAL_NS + int(digest[:16], 16) % _SEAL_SPAN_NS


def seal(path: Path, digest: str) -> None:
    """Mark as whole, and make read-only."""
    path.chmod(0o444)
    os.utime(path, ns=(seal_ns(digest), seal_ns(digest)))


def is_whole(path: Path, entry: Entry, cache: Path) -> bool:
    """Whether the file is as it was recorded. Its content is read only where it was written to since, or the machine may have crashed."""
    mark = cache / UNSYNCED / entry.digest
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_size != entry.size_bytes:
        return False
    if found.st_mtime_ns == seal_ns(entry.digest) and not _is_of_another_boot(mark):
        return True
    if digest_of(path, entry.algorithm) != entry.digest:
        return False
    seal(path, entry.digest)
    mark.unlink(missing_ok=True)
    return True


def wrong_file(folder: Path) -> str:
    """The first file of a tree that is not as it was recorded, "" if all are."""
    record = read(folder / RECORD, Record)
    if record is None:
        return RECORD
    if added := names(folder / FILES) - record.files.keys():
        return min(added)
    cache = folder.parents[2]
    return next(
        (n for n, entry in record.files.items() if not is_whole(folder / FILES / n, entry, cache)), ""
    )


def names(folder: Path) -> set[str]:
    """The relative paths of all files below."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def digest_of(path: Path, algorithm: Algorithm) -> str:
    """Of the whole content, in lower-case hex."""
    if algorithm == "blake3":
        return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path, kind: type[S]) -> S | None:
    """What a small file of ours says; None where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def write(path: Path, value: Struct) -> None:
    """In one step: a reader sees the old or the new."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_bytes(msgspec.json.encode(value))
    new.replace(path)


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One process at a time; `waiting` is called if another is at it. The lock's folder may be removed by who holds it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_same(descriptor, path):
                continue
            yield
            return
        finally:
            os.close(descriptor)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Whether the lock could be had at once."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        yield held
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process has the lock now."""
    with try_lock(path) as free:
        return not free


@functools.cache
def _boot() -> str:
    """Tells this start of the machine from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil  # noqa: PLC0415  a fetcher on Linux should start without it

        return f"{psutil.boot_time():.0f}"


def _is_of_another_boot(mark: Path) -> bool:
    try:
        return mark.read_text() != _boot()
    except FileNotFoundError:
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
