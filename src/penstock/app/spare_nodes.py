"""Since when nodes have been hardly used, remembered in the data folder from one question to the next."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from penstock.kit.errors import Unavailable

Seen = dict[str, dict[str, float]]
"""By the server's URL and the node's name, in seconds since 1970."""


def read_since(path: Path, server: str) -> Mapping[str, float]:
    """Of one cluster; nothing if it was never asked about. Raises Unavailable."""
    return _read(path).get(server, {})


def write_since(path: Path, server: str, since: Mapping[str, float]) -> None:
    """Replaces what was known of this cluster, all at once. Raises Unavailable."""
    seen = {**_read(path), server: dict(since)}
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_bytes(msgspec.json.encode(seen))
        part.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: cannot be written to: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _read(path: Path) -> Seen:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Seen)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Unavailable(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError:
        return {}  # half of it is none: the time is counted from now on
