"""The look of an API key, and what is kept of it: `psk-ID-SECRET`, ID public, SECRET 256 random bits.

What is kept is an HMAC-SHA256 of the whole key under the pepper, 32 random bytes in a file of the data folder: who reads the
objects or a route table, but not that file, can neither use a hash nor try out keys against it.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from penstock.kit.errors import Unavailable

KEY_PREFIX = b"psk-"
ID_BYTES = 6
SECRET_BYTES = 32
PEPPER_BYTES = 32


def new_id() -> str:
    """12 hexadecimal digits."""
    return secrets.token_hex(ID_BYTES)


def new_key(id: str) -> str:
    """A fresh key with this public part; it is never seen again."""
    return f"{KEY_PREFIX.decode()}{id}-{secrets.token_urlsafe(SECRET_BYTES)}"


def id_of(key: bytes) -> str:
    """The public part of what looks like a key, "" or nonsense for anything else."""
    return key[len(KEY_PREFIX) :].partition(b"-")[0].decode("latin-1")


def keyed_hash(pepper: bytes, key: bytes) -> bytes:
    """The 32 bytes that are kept of a key."""
    return hmac.digest(pepper, key, "sha256")


def ensure_pepper(path: Path) -> bytes:
    """The pepper in this file (mode 0600), made at first use; several processes that come at once agree on one.

    Raises Unavailable where it cannot be read or made, or is damaged: another one would end all keys.
    """
    try:
        if not path.exists():
            _make(path)
        path.chmod(0o600)
        pepper = path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", code="pepper_unusable") from None
    if len(pepper) != PEPPER_BYTES:
        raise Unavailable(
            f"{path}: found {len(pepper)} bytes, expected {PEPPER_BYTES}",
            code="pepper_unusable",
            hint="restore it from a backup; if it is removed, a new one is made and every API key has to be rotated",
        )
    return pepper


def _make(path: Path) -> None:
    """Whole, or not at all: a file of another process that was first is left as it is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(PEPPER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
