"""Checkpoints as they lie on this machine: where a pod's folder is, and what of it is whole.

`decide/checkpoint.py` judges; here files are read. A file of many gigabytes is read once: what was verified is remembered by the sizes and dates
of the manifest and of the file that it names.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import OrderedDict
from pathlib import Path

from blake3 import blake3

from penstock.decide.checkpoint import Checkpoint, Found, digest_of, judge, read_manifest
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.mounts import below
from penstock.kit.errors import Invalid, InvalidInput
from penstock.resources.checkpoint import MANIFEST, MAX_MANIFEST_BYTES, Manifest, contract_of, mount_of
from penstock.resources.pod import Pod

READ_BYTES = 1 << 20
MAX_REMEMBERED = 1024
_Seen = tuple[int, int, int, int, int]


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
    """Reads folders. Its one method may take as long as the disk does: call it in a thread."""

    def __init__(self) -> None:
        self._verified: OrderedDict[Path, tuple[_Seen, Checkpoint]] = OrderedDict()

    def read(self, folder: Path) -> Checkpoint | str:
        """The folder's whole checkpoint, or why there is none."""
        try:
            return self._read(folder)
        except OSError as error:
            return f"{error.strerror}: {error.filename or folder}"

    def _read(self, folder: Path) -> Checkpoint | str:
        path = folder / MANIFEST
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
            return self._verify(folder, read, dated, file.fileno())

    def _verify(self, folder: Path, manifest: Manifest, dated: os.stat_result, fd: int) -> Checkpoint | str:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return judge(manifest, None)
        seen = (dated.st_ino, dated.st_mtime_ns, facts.st_ino, facts.st_mtime_ns, facts.st_size)
        known = self._verified.get(folder)
        if known and known[0] == seen:
            return known[1]
        digest = "" if facts.st_size != manifest.bytes else _digest(fd, digest_of(manifest)[0])
        found = Found(bytes=facts.st_size, digest=digest, written_at=dated.st_mtime)
        verdict = judge(manifest, found)
        if isinstance(verdict, Checkpoint) and os.fstat(fd).st_mtime_ns == facts.st_mtime_ns:
            self._verified[folder] = (seen, verdict)
            self._verified.move_to_end(folder)
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)
        return verdict


def _digest(fd: int, algorithm: str) -> str:
    hasher = hashlib.sha256() if algorithm == "sha256" else blake3()
    offset = 0
    while block := os.pread(fd, READ_BYTES, offset):
        hasher.update(block)
        offset += len(block)
    return hasher.hexdigest()
