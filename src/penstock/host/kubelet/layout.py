"""Where the kubelet keeps what, below the data folder.

nodes/NODE/cache/                        model cache of the node, PENSTOCK_CACHE_DIR
nodes/NODE/pods/UID/pod.json             name, namespace, address, start time
nodes/NODE/pods/UID/notice.json          until when the pod may save its work, once it is to end
nodes/NODE/pods/UID/finished             present once no container will run again
nodes/NODE/pods/UID/volumes/VOLUME/      what the pod's volumes hold
nodes/NODE/pods/UID/containers/NAME/cwd/ working folder where the container names none
nodes/NODE/pods/UID/containers/NAME/N/   attempt N (0, 1, …): pid, exit, log (see `shim.py`), stopped (see `attempts.py`)
volumes/NAMESPACE/CLAIM/                 what a PersistentVolumeClaim holds
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.kit.errors import InvalidInput


class PodRecord(msgspec.Struct, frozen=True):
    """What must survive the control plane. `started_at` is in Unix seconds."""

    namespace: str
    name: str
    uid: str
    address: str
    started_at: float


class Verdict(msgspec.Struct, frozen=True):
    """What ended a pod as a whole, as its status says it."""

    phase: str
    reason: str
    message: str


def segment(name: str) -> str:
    """`name` as one folder name; InvalidInput if it could lead elsewhere."""
    if not name or name in {".", ".."} or "/" in name or "\0" in name:
        raise InvalidInput(f"{name!r} cannot be a folder name", hint="use letters, digits, '-' and '.'")
    return name


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file in one step; a reader sees the old or the new content, never a part."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
    new.replace(path)


@dataclass(frozen=True, slots=True)
class PodFolder:
    """One pod's folder."""

    path: Path

    @property
    def volumes(self) -> Path:
        """Holds one folder per volume."""
        return self.path / "volumes"

    @property
    def containers(self) -> Path:
        """Holds one folder per container."""
        return self.path / "containers"

    @property
    def finished(self) -> Path:
        """A marker: no container of this pod will run again. It may hold a verdict on the pod as a whole."""
        return self.path / "finished"

    @property
    def notice(self) -> Path:
        """Says that the pod is to end, and when; for pods that save their work."""
        return self.path / "notice.json"

    def finish(self, verdict: Verdict | None) -> None:
        """Set the marker."""
        write_atomically(self.finished, msgspec.json.encode(verdict))

    def verdict(self) -> Verdict | None:
        """The verdict of a finished pod, if it is not simply what its containers say."""
        try:
            return msgspec.json.decode(self.finished.read_bytes(), type=Verdict | None)
        except (OSError, msgspec.DecodeError):
            return None

    def container(self, name: str) -> Path:
        """One container's folder."""
        return self.containers / segment(name)

    def read(self) -> PodRecord | None:
        """What was recorded about the pod, or None where nothing readable was."""
        try:
            return msgspec.json.decode((self.path / "pod.json").read_bytes(), type=PodRecord)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, record: PodRecord) -> None:
        """Record the pod; makes its folder, closed to other users."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path / "pod.json", msgspec.json.encode(record))


@dataclass(frozen=True, slots=True)
class Layout:
    """The data folder as the kubelet sees it."""

    home: Path

    def cache(self, node: str) -> Path:
        """The node's model cache."""
        return self.home / "nodes" / segment(node) / "cache"

    def mps(self, node: str) -> Path:
        """The pipes and the log of the node's MPS daemon."""
        return self.home / "nodes" / segment(node) / "mps"

    def pod(self, node: str, uid: str) -> PodFolder:
        """A pod's folder, whether it exists or not."""
        return PodFolder(self.home / "nodes" / segment(node) / "pods" / segment(uid))

    def claim(self, namespace: str, name: str) -> Path:
        """What a PersistentVolumeClaim holds."""
        return self.home / "volumes" / segment(namespace) / segment(name)

    def pods(self, node: str) -> Iterator[PodFolder]:
        """Every pod folder of the node."""
        root = self.home / "nodes" / segment(node) / "pods"
        if root.is_dir():
            yield from (PodFolder(path) for path in sorted(root.iterdir()) if path.is_dir())

    def nodes(self) -> tuple[str, ...]:
        """The nodes that have a folder."""
        root = self.home / "nodes"
        return tuple(sorted(path.name for path in root.iterdir() if path.is_dir())) if root.is_dir() else ()
