"""Volumes made of small files (ConfigMap, Secret, downward API, projected), replaced as a whole.

As in Kubernetes, the files lie in a folder of their own that a link `..data` points to; each visible name is a link into
`..data`. Replacing that one link changes all files in one step, so a reader never sees a mixture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from penstock.kit.errors import Invalid

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits of one file."""

    content: bytes
    mode: int = 0o600


def write_files(root: Path, files: Mapping[str, File]) -> None:
    """Make `root` hold exactly `files`, keyed by relative path."""
    for path in files:
        _check(path)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _read(root) == dict(files):
        return
    data = Path(tempfile.mkdtemp(prefix="..", dir=root))
    for path, file in files.items():
        target = data / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as out:
            out.write(file.content)
            os.fchmod(fd, file.mode)
    _swap(root, data.name)
    visible = {PurePosixPath(path).parts[0] for path in files}
    for name in visible:
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"{DATA}/{name}")
    for stale in root.iterdir():
        if stale.name not in visible | {DATA, data.name}:
            _remove(stale)


def _swap(root: Path, target: str) -> None:
    new = root / "..data_new"
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(root / DATA)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _read(root: Path) -> dict[str, File] | None:
    data = root / DATA
    if not data.is_dir():
        return None
    real = data.resolve()
    return {
        str(path.relative_to(real)): File(path.read_bytes(), path.stat().st_mode & 0o777)
        for path in real.rglob("*")
        if path.is_file()
    }


def _check(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise Invalid(
            f"volume item path: {path!r} leads out of the volume",
            hint="use a relative path without '..'",
        )
