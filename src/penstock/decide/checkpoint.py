"""Is this checkpoint whole, and how old is it?

A checkpoint counts when its manifest can be read and the file that it names has the bytes and the digest that it says. Until then it is none:
a job that was cut off in the middle of writing leaves its last whole one. Its age runs from when the manifest was last written.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from penstock.resources.checkpoint import MANIFEST, MAX_MANIFEST_BYTES, SAVED, Manifest
from penstock.resources.pod import Pod

HEX_DIGITS = frozenset("0123456789abcdef")
DIGEST_LENGTH = 64


class Found(Struct, frozen=True, kw_only=True):
    """The file that a manifest names, as it was read. `digest` is in the algorithm that the manifest asks for; `written_at` in Unix s."""

    bytes: int
    digest: str
    written_at: float


class Checkpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A whole one. `saved_at` in Unix s; `save_s` and `restore_s` as the job measured them. `instead_of` says why a newer one does not count."""

    path: str
    step: int
    bytes: int
    digest: str
    saved_at: float
    save_s: float = 0.0
    restore_s: float = 0.0
    instead_of: str = ""

    def age_s(self, now: float) -> float:
        """How much work would be done again; never negative, whatever the file's date says."""
        return max(0.0, now - self.saved_at)


def read_manifest(text: bytes) -> Manifest | str:
    """The manifest, or why it is none."""
    if len(text) > MAX_MANIFEST_BYTES:
        return f"{MANIFEST} has {len(text)} bytes, at most {MAX_MANIFEST_BYTES} are read"
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    parts = manifest.path.split("/")
    if manifest.path.startswith("/") or not all(parts) or {".", ".."} & set(parts) or "\0" in manifest.path:
        return f"{MANIFEST}: path {manifest.path!r} must be relative and stay within the folder"
    if manifest.step < 0 or manifest.bytes < 0:
        return f"{MANIFEST}: step and bytes must not be negative"
    digest = digest_of(manifest)[1]
    if (
        bool(manifest.sha256) == bool(manifest.blake3)
        or len(digest) != DIGEST_LENGTH
        or set(digest) - HEX_DIGITS
    ):
        return f"{MANIFEST}: expected one of sha256 and blake3, as {DIGEST_LENGTH} hexadecimal digits"
    return manifest


def digest_of(manifest: Manifest) -> tuple[str, str]:
    """The algorithm, `sha256` or `blake3`, and the digest that the file must have."""
    return ("sha256", manifest.sha256.lower()) if manifest.sha256 else ("blake3", manifest.blake3.lower())


def judge(manifest: Manifest, found: Found | None) -> Checkpoint | str:
    """The checkpoint that a manifest promises, or why it is none. `found` is None where no such file is."""
    if found is None:
        return f"{manifest.path} is absent"
    if found.bytes != manifest.bytes:
        return f"{manifest.path} has {found.bytes} bytes, its manifest says {manifest.bytes}"
    algorithm, digest = digest_of(manifest)
    if found.digest != digest:
        return f"{manifest.path} has another {algorithm} than its manifest says"
    return Checkpoint(
        path=manifest.path,
        step=manifest.step,
        bytes=manifest.bytes,
        digest=f"{algorithm}:{digest}",
        saved_at=found.written_at,
        save_s=_span_s(manifest.save_s),
        restore_s=_span_s(manifest.restore_s),
    )


def last_verified(pod: Pod) -> Checkpoint | None:
    """What the platform wrote on the pod when it last verified one."""
    text = pod.metadata.annotations.get(SAVED)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Checkpoint)
    except msgspec.DecodeError:
        return None


def _span_s(given: float) -> float:
    """A job that says a negative span, or none that is a number, says nothing."""
    return given if 0.0 <= given < float("inf") else 0.0
