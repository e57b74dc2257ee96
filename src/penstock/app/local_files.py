"""Models that are on this machine already: linked into a pod, also without a process where there is nothing else to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from penstock.contracts.source import public
from penstock.kit.errors import InvalidInput, PlatformError
from penstock.plugins.sources import file

PROGRAM = ("-m", "penstock.app.fetch")


def at_once(argv: Sequence[str]) -> tuple[str, ...] | None:
    """Do what this command would, if it is the storage initializer with local files only; the lines that it would say.

    None for every other command, and where something is in the way: then the program itself is to run, and to say what it is.
    """
    wished = tuple(argv[3:])
    if tuple(argv[1:3]) != PROGRAM or not wished or len(wished) % 2:
        return None
    pairs = tuple(zip(wished[::2], wished[1::2], strict=True))
    if any(uri.partition("://")[0] not in file.SCHEMES for uri, _ in pairs):
        return None
    try:
        for uri, folder in pairs:
            local = file.open_source(uri, {}).snapshot().local_folder
            Path(folder).mkdir(parents=True, exist_ok=True)
            link_local(Path(local), Path(folder))
    except (PlatformError, OSError):
        return None
    return tuple(f"{public(uri)}: is on this machine; linked" for uri, _ in pairs)


def link_local(local: Path, folder: Path) -> None:
    """Links to what lies in `local`, or to it if it is a file."""
    if folder.resolve() == local.resolve() or local.resolve() in folder.resolve().parents:
        raise InvalidInput(f"{folder} is in the model's own folder, expected one beside it")
    for path in sorted(local.iterdir()) if local.is_dir() else [local]:
        free(folder, Path(path.name)).symlink_to(path)


def free(folder: Path, name: Path) -> Path:
    """`name` below `folder`, free of what an earlier try left there; never through a link, which may lead to a user's files."""
    target = folder
    for part in name.parent.parts:
        target /= part
        if target.is_symlink() or target.is_file():
            target.unlink()
        target.mkdir(exist_ok=True)
    target /= name.name
    if target.is_dir() and not target.is_symlink():
        raise InvalidInput(f"{target} is a folder, expected nothing there", hint="remove it, then try again")
    target.unlink(missing_ok=True)
    return target
