"""Checkpoints as they lie on this machine: where a pod's folder is, and what of it is whole.

`decide/checkpoint.py` judges; here files are read. A file of many gigabytes is read once: what was verified is remembered by the sizes and dates
of the manifest and of the file that it names. The manifest of the last whole one is kept beside the job's own: where a newer one turns out to be
torn, the one before counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import OrderedDict
from pathlib import Path

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from penstock.decide.checkpoint import Checkpoint, Found, digest_of, judge, read_manifest
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.mounts import below
from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.checkpoint import MANIFEST, MAX_MANIFEST_BYTES, Manifest, contract_of, mount_of
from penstock.resources.pod import Pod

READ_BYTES = 1 << 20
MAX_REMEMBERED = 1024
_Seen = tuple[int, int, int, int, int]
VERIFIED = "checkpoint.verified.json"
"""The platform's own: what the manifest said when it was last found whole."""


def folder_of(pod: Pod, layout: Layout) -> Path | None:
    """The folder of the pod's checkpoints, whether it is there or not; None for a pod that promises none, or none that can be found."""
    contract = contract_of(pod.metadata)
    held = mount_of(pod.spec, contract.folder) if contract else None
    if contract is None or held is None:
        return None
    container, mount = held
    volume = next((v for v in pod.spec.volumes if v.name == mount.name), None)
    if volume is None or mount.sub_path_expr:
        return None
    try:
        if claim := volume.persistent_volume_claim:
            root = layout.claim(pod.metadata.namespace, claim.claim_name)
        elif volume.host_path:
            root = Path(volume.host_path.path)
        else:
            return None
        if mount.sub_path:
            root = below(root, mount.sub_path, f"containers[{container.name}].volumeMounts")
    except (Invalid, InvalidInput, OSError):
        return None
    return root / contract.folder[len(mount.mount_path.rstrip("/")) :].strip("/")


class CheckpointReader:
    """Reads folders. `read` may take as long as the disk does: call it in a thread."""

    def __init__(self) -> None:
        self._verified: OrderedDict[Path, tuple[_Seen, Checkpoint | str]] = OrderedDict()

    def read(self, folder: Path) -> Checkpoint | str:
        """The folder's last whole checkpoint, or why there is none. Where a newer one does not count, it says so in `instead_of`."""
        found = self._read(folder / MANIFEST)
        if isinstance(found, Checkpoint):
            return found
        before = self._read(folder / VERIFIED) if (folder / MANIFEST).exists() else found
        return replace(before, instead_of=found) if isinstance(before, Checkpoint) else found

    def _read(self, path: Path) -> Checkpoint | str:
        try:
            return self._read_manifest(path)
        except OSError as error:
            return f"{error.strerror}: {error.filename or path}"

    def _read_manifest(self, path: Path) -> Checkpoint | str:
        folder = path.parent
        with path.open("rb") as file:
            dated = os.fstat(file.fileno())
            read = read_manifest(file.read(MAX_MANIFEST_BYTES + 1))
        if isinstance(read, str):
            return read
        target = folder / read.path
        if not target.resolve().is_relative_to(folder.resolve()):
            return f"{read.path} leads out of the folder"
        if not target.is_file():
            return judge(read, None)
        with target.open("rb") as file:
            return self._verify(path, read, dated, file.fileno())

    def _verify(self, path: Path, manifest: Manifest, dated: os.stat_result, fd: int) -> Checkpoint | str:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return judge(manifest, None)
        seen = (dated.st_ino, dated.st_mtime_ns, facts.st_ino, facts.st_mtime_ns, facts.st_size)
        known = self._verified.get(path)
        if known and known[0] == seen:
            return known[1]
        digest = "" if facts.st_size != manifest.bytes else _digest(fd, digest_of(manifest)[0])
        found = Found(bytes=facts.st_size, digest=digest, written_at=dated.st_mtime)
        verdict = judge(manifest, found)
        if os.fstat(fd).st_mtime_ns == facts.st_mtime_ns:
            self._verified[path] = (seen, verdict)
            self._verified.move_to_end(path)
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)
            if isinstance(verdict, Checkpoint) and path.name == MANIFEST:
                _keep(path.with_name(VERIFIED), manifest, dated.st_mtime)
        return verdict


def _keep(path: Path, manifest: Manifest, written_at: float) -> None:
    """Where the folder cannot be written to, only the newest counts."""
    new = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        new.write_bytes(msgspec.json.encode(manifest))
        os.utime(new, (written_at, written_at))
        new.replace(path)


def _digest(fd: int, algorithm: str) -> str:
    hasher = hashlib.sha256() if algorithm == "sha256" else blake3()
    offset = 0
    while block := os.pread(fd, READ_BYTES, offset):
        hasher.update(block)
        offset += len(block)
    return hasher.hexdigest()
