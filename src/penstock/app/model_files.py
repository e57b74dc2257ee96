"""The files of a model, wherever they are, to read beginnings of: a folder or file here, or any source by its URI."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from penstock.app.registry import open_source
from penstock.contracts.source import MAX_FILES, Changed, ModelSource, RemoteFile, Unranged, public
from penstock.kit.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    PlatformError,
    TooLarge,
    Unauthorized,
    Unavailable,
)

BESIDE = ("config.json", "model.safetensors.index.json", "model.safetensors")
"""What a web server is asked for beside the file that was named, as it lists no folder."""
MAX_DEPTH = 4
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class ModelFiles(Protocol):
    """`sizes` by path, None where a source does not say; `single` if one file was named."""

    @property
    def sizes(self) -> Mapping[str, int | None]:
        """See above."""
        ...

    @property
    def single(self) -> bool:
        """See above."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file; where nothing lists them it is looked for, and then among `sizes`."""
        ...

    def read(self, name: str, start: int, length: int) -> bytes:
        """As much of it as there is. Raises what its source raises."""
        ...


def open_files(model: str, environ: Mapping[str, str]) -> ModelFiles:
    """A path if there is no scheme. Raises what the source raises, naming the model without its secrets."""
    if "://" not in model:
        return _local(Path(model).expanduser(), model)
    try:
        source = open_source(model, environ)
        if model.partition("://")[0] in ("http", "https"):
            return _WebFiles(model, environ)
        snapshot = source.snapshot()
        if snapshot.local_folder:
            return _local(Path(snapshot.local_folder), model)
        return _RemoteFiles(source, snapshot.files)
    except PlatformError as error:
        raise type(error)(f"{public(model)}: {error.message}", code=error.code, hint=error.hint) from None


def _local(path: Path, said: str) -> ModelFiles:
    if path.is_file():
        return _LocalFiles(path.parent, (path.name,), single=True)
    if path.is_dir():
        return _LocalFiles(path, _listed(path), single=False)
    looks_like_hub = said.count("/") == 1 and not said.startswith((".", "/", "~"))
    raise NotFound(
        f"{public(said)}: there is no such file or folder",
        hint=f"for a model of the Hub: hf://{said}" if looks_like_hub else "",
    )


def _listed(folder: Path) -> tuple[str, ...]:
    found = []
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        if len(below.parts) <= MAX_DEPTH and not below.parts[0].startswith(".") and path.is_file():
            found.append(below.as_posix())
        if len(found) > MAX_FILES:
            raise TooLarge(f"{folder}: found more than {MAX_FILES} files, expected those of one model")
    return tuple(found)


class _LocalFiles:
    """Of one folder. A file that was named is read beside its config.json, as from a web server."""

    def __init__(self, folder: Path, names: tuple[str, ...], *, single: bool) -> None:
        beside = tuple(
            name for name in BESIDE[:1] if single and name not in names and (folder / name).is_file()
        )
        self._folder = folder
        self.single = single
        self.sizes: Mapping[str, int | None] = {
            name: (folder / name).stat().st_size for name in (*names, *beside)
        }

    def has(self, name: str) -> bool:
        return name in self.sizes

    def read(self, name: str, start: int, length: int) -> bytes:
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(start)
                return file.read(length)
        except PermissionError:
            raise Forbidden(f"{name}: may not be read by this user") from None
        except OSError as error:
            raise InvalidInput(f"{name}: cannot be read: {error.strerror}") from None


class _RemoteFiles:
    """Of a source that lists what it has."""

    def __init__(self, source: ModelSource, files: tuple[RemoteFile, ...]) -> None:
        self._found = {file.path: (source, file) for file in files}
        self.single = len(files) == 1
        self.sizes: Mapping[str, int | None] = {file.path: file.size_bytes for file in files}

    def has(self, name: str) -> bool:
        return name in self.sizes

    def read(self, name: str, start: int, length: int) -> bytes:
        return _ranged(*self._found[name], start, length)


class _WebFiles:
    """The file that an address names, and those beside it that are asked for. A refused one is as good as none."""

    def __init__(self, uri: str, environ: Mapping[str, str]) -> None:
        self._uri, self._environ = urlsplit(uri), environ
        self._found: dict[str, tuple[ModelSource, RemoteFile]] = {}
        self.sizes: dict[str, int | None] = {}
        self._add(open_source(uri, environ))
        self.single = not any(name in BESIDE for name in self.sizes)
        for name in BESIDE[:1] if self.single else BESIDE:
            self.has(name)

    def has(self, name: str) -> bool:
        if name not in self.sizes and _PLAIN.fullmatch(name):
            folder = self._uri.path.rpartition("/")[0]
            with contextlib.suppress(NotFound, Forbidden, Unauthorized, InvalidInput):
                self._add(open_source(self._uri._replace(path=f"{folder}/{name}").geturl(), self._environ))
        return name in self.sizes

    def read(self, name: str, start: int, length: int) -> bytes:
        return _ranged(*self._found[name], start, length)

    def _add(self, source: ModelSource) -> None:
        for file in source.snapshot().files:
            self._found[file.path] = source, file
            self.sizes[file.path] = file.size_bytes


def _ranged(source: ModelSource, file: RemoteFile, start: int, length: int) -> bytes:
    """At most `length` bytes; a source that gives whole files only is broken off."""
    stop = start + length if file.size_bytes is None else min(start + length, file.size_bytes)
    if stop <= start:
        return b""
    try:
        try:
            return _read(source, file, start, stop, stop)
        except Unranged:
            return _read(source, file, start, stop, None)
    except Changed:
        raise Unavailable(f"{file.path} changed while it was read", hint="ask again") from None


def _read(source: ModelSource, file: RemoteFile, start: int, stop: int, said: int | None) -> bytes:
    """Breaks off where a source goes on beyond what is wanted."""
    content = bytearray()
    for piece in source.read(file, start, said):
        content += piece
        if len(content) >= stop - start:
            break
    return bytes(content[: stop - start])
