"""`python -m penstock.app.fetch URI FOLDER [URI FOLDER …]`: the storage initializer; brings models into a pod.

Exit codes: 0 done, 1 a fault of this program or machine, 2 wrong usage or a URI that is none, 3 nothing there, 4 not reachable, 5 not allowed,
6 no room on the disk, 7 what arrived is corrupt. Progress goes to standard output, the reason of a failure to standard error in
one line. It may be killed at any moment and goes on where it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from penstock.app.download import listed
from penstock.app.local_files import free, link_local
from penstock.app.model_cache import cached, held
from penstock.app.part_streams import LATER
from penstock.app.registry import open_source
from penstock.contracts.model_bindings import SOURCES, source_of
from penstock.contracts.node_caches import ROOM
from penstock.contracts.source import Changed, Corrupt, public
from penstock.decide.storage_config import source_environ
from penstock.kit.errors import (
    Exhausted,
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from penstock.kit.redact import redact_text

CACHE = "PENSTOCK_CACHE_DIR"
MAX_LISTINGS = 3
EXIT_CODES: dict[type[PlatformError], int] = {
    InvalidInput: 2,
    TooLarge: 2,
    NotFound: 3,
    Unavailable: 4,
    Unauthorized: 5,
    Forbidden: 5,
    Exhausted: 6,
    Corrupt: 7,
}


def fetch(uri: str, folder: Path, environ: Mapping[str, str]) -> None:
    """Fill `folder` with the model: links to the node's cache or, for local files, to where they lie. Raises PlatformError, OSError."""
    cache = Path(environ[CACHE]) if environ.get(CACHE) else folder.parent / ".model-cache"
    if _was_cached(cache, uri, folder, environ):
        return
    source = open_source(uri, source_environ(environ))
    what = ""
    for _ in range(MAX_LISTINGS):
        snapshot = listed(source)
        folder.mkdir(parents=True, exist_ok=True)
        if snapshot.local_folder:
            link_local(Path(snapshot.local_folder), folder)
            return
        try:
            cached(
                cache,
                uri,
                source,
                snapshot.files,
                use=lambda there: _link_all(there, folder),
                limit_bytes=int(room) if (room := environ.get(ROOM, "")).isdecimal() else None,
            )
        except Changed as error:
            what = str(error)
            print(f"{public(uri)}: changed while it was fetched; looking anew", flush=True)
            continue
        return
    differs = f": {what}" if what else ""
    raise Corrupt(f"changed {MAX_LISTINGS} times while it was fetched{differs}", hint=LATER)


def _was_cached(cache: Path, uri: str, folder: Path, environ: Mapping[str, str]) -> bool:
    """Whether the node's cache keeps the model, or that of which this is a part: then the pod has it now, and no source was asked."""
    sources = msgspec.json.decode(environ.get(SOURCES) or "[]", type=list[str])
    whole = source_of(uri, sources)
    if whole not in sources:
        return False
    part = uri.rstrip("/")[len(whole.rstrip("/")) :].strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    return held(cache, whole, part, lambda there: _link_all(there, folder))


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not argv or len(argv) % 2:
        print("usage: python -m penstock.app.fetch URI FOLDER [URI FOLDER …]", file=sys.stderr)
        return 2
    for uri, folder in zip(argv[::2], argv[1::2], strict=True):
        print(f"{public(uri)}: fetching", flush=True)
        try:
            fetch(uri, Path(folder), environ)
        except Exception as error:  # noqa: BLE001  the end of the program: nobody else can say what went wrong
            code, reason = _explained(error)
            print(
                " ".join(redact_text(f"{public(uri)}: {reason.replace(uri, public(uri))}").split()),
                file=sys.stderr,
            )
            return code
    return 0


def _explained(error: Exception) -> tuple[int, str]:
    """The exit code, and the reason in words."""
    if isinstance(error, PlatformError):
        code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
        return code, f"{error.message} ({error.hint})" if error.hint else error.message
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EXIT_CODES[Exhausted], "the disk is full (make room; what has arrived is kept)"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return EXIT_CODES[InvalidInput], f"a file's name is too long for this disk: {error.filename!r:.80}"
    if isinstance(error, OSError) and error.strerror:
        return 1, f"{error.filename or 'this machine'}: {error.strerror}"
    return 1, f"{type(error).__name__}: {error}"


def _link_all(there: Path, folder: Path) -> None:
    if there.is_file():
        _link(there, free(folder, Path(there.name)))
    for path in sorted(path for path in there.rglob("*") if path.is_file()):
        _link(path, free(folder, path.relative_to(there)))


def _link(path: Path, target: Path) -> None:
    """The same bytes under a second name; a copy where the disk is another."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
