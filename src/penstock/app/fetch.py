"""`python -m penstock.app.fetch URI FOLDER [URI FOLDER …]`: the storage initializer; brings models into a pod.

Exit codes: 0 done, 1 a fault of the program, 2 wrong usage or a URI that is none, 3 nothing there, 4 not reachable, 5 not allowed,
6 no room on the disk, 7 what arrived is corrupt. Progress goes to standard output, the reason of a failure to standard error in
one line. It may be killed at any moment and goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.app.download import Corrupt
from penstock.app.model_cache import RECORD, cached
from penstock.app.registry import open_source
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

CACHE = "PENSTOCK_CACHE_DIR"
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
    """Fill `folder` with the model: links to the node's cache or, for local files, to where they lie. Raises PlatformError."""
    source = open_source(uri, environ)
    snapshot = source.snapshot()
    folder.mkdir(parents=True, exist_ok=True)
    if snapshot.local_folder:
        local = Path(snapshot.local_folder)
        for path in sorted(local.iterdir()) if local.is_dir() else [local]:
            _clear(folder / path.name).symlink_to(path)
        return
    cache = Path(environ[CACHE]) if environ.get(CACHE) else folder.parent / ".model-cache"
    there = cached(cache, public(uri), source, snapshot.files)
    for path in sorted(path for path in there.rglob("*") if path.is_file() and path.name != RECORD):
        target = folder / path.relative_to(there)
        target.parent.mkdir(parents=True, exist_ok=True)
        _link(path, _clear(target))


def public(uri: str) -> str:
    """The URI without user, password and query, any of which may be a secret."""
    scheme, separator, rest = uri.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


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
        except PlatformError as error:
            hint = f" ({error.hint})" if error.hint else ""
            print(f"{public(uri)}: {error.message}{hint}", file=sys.stderr)
            return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    return 0


def _clear(target: Path) -> Path:
    """The same path, free of what an earlier try left there."""
    target.unlink(missing_ok=True)
    return target


def _link(path: Path, target: Path) -> None:
    """The same bytes under a second name; a copy where the disk is another."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
