"""`file:///folder` and `file:///folder/model.bin`: files that are on this machine already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from penstock.contracts.source import RemoteFile, Snapshot
from penstock.kit.errors import Forbidden, InvalidInput, NotFound, nearest

SCHEMES = ("file",)
EXPECTED = "is no path on this machine, expected file:///ABSOLUTE/PATH"


def open_source(uri: str, environ: Mapping[str, str]) -> FileSource:
    """Raises InvalidInput unless it is an absolute path on this machine."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise InvalidInput(EXPECTED) from None
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
        raise InvalidInput(EXPECTED)
    return FileSource(Path(path))


class FileSource:
    """A folder, or one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def snapshot(self) -> Snapshot:
        """The folder itself; nothing is copied. Raises NotFound, which names what is there instead."""
        try:
            self._path.stat()
            if self._path.is_dir():
                next(self._path.iterdir(), None)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no such file or folder{self._advice()}") from None
        except PermissionError:
            raise Forbidden("may not be read by this user") from None
        except OSError as error:
            raise NotFound(f"cannot be read: {error.strerror}") from None
        return Snapshot(local_folder=str(self._path))

    def read(self, file: RemoteFile, start: int, stop: int | None = None) -> Iterator[bytes]:
        """Never asked for: local files are linked, not read."""
        raise NotImplementedError

    def _advice(self) -> str:
        parent = next(folder for folder in self._path.parents if folder.is_dir())
        missing = self._path.relative_to(parent).parts[0]
        try:
            close = nearest(missing, sorted(entry.name for entry in parent.iterdir()))
        except PermissionError:
            close = ()
        return f"; in {parent} there is {', '.join(close)}" if close else f"; {parent} is there"
