"""The checkpoint contract: what a training pod's annotations promise, and the manifest by which it says what it has saved.

The annotations stand on a Job's pod template. The job writes its checkpoint first, then `checkpoint.json` beside it, each by writing another
file and renaming it. A manifest that names a file which is not there, or not of these bytes, is no checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Struct

from penstock.kit.durations import parse_duration_s
from penstock.kit.errors import Cause, InvalidInput
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, PodSpec, VolumeMount
from penstock.resources.validation import Causes, required, unsupported, wrong

CHECKPOINT = "penstock.dev/checkpoint"
"""The folder of checkpoints, as the container sees it; it must lie in a volume that outlives the pod."""
ON_DEMAND = "penstock.dev/checkpoint-on-demand"
"""`false`: the job saves when it likes and not when it is told. Default `true`."""
MINIMUM_RUNTIME = "penstock.dev/minimum-runtime"
"""How long the job may run before it can be told to give way, as `5m`. Default none."""
NOTICE = "penstock.dev/preemption-notice"
"""Written by the platform on a pod that gives way: `Notice` as JSON."""
SAVED = "penstock.dev/checkpointed"
"""Written by the platform on a pod: the last checkpoint whose bytes were verified, as JSON."""

MANIFEST = "checkpoint.json"
MAX_MANIFEST_BYTES = 64 * 1024


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` is relative to the folder; one of `sha256` and `blake3` is the file's digest in hexadecimal.

    `save_s` and `restore_s` are how long the job took to write this checkpoint, and takes to go on from one.
    """

    path: str
    step: int
    bytes: int
    sha256: str = ""
    blake3: str = ""
    save_s: float = 0.0
    restore_s: float = 0.0


class Notice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a job finds in its notice file, and its pod in the annotation: until when it may save (Unix s), why, and for whom."""

    deadline: float
    reason: str
    by: str = ""
    at: float = 0.0


class Contract(Struct, frozen=True, kw_only=True):
    """What the annotations of a pod promise. `folder` is the path within the container."""

    folder: str
    on_demand: bool = True
    minimum_runtime_s: float = 0.0


def contract_of(metadata: ObjectMeta) -> Contract | None:
    """The promise of a pod that was admitted, or None where it makes none."""
    annotations = metadata.annotations
    if not annotations.get(CHECKPOINT):
        return None
    return Contract(
        folder=annotations[CHECKPOINT].rstrip("/"),
        on_demand=annotations.get(ON_DEMAND, "true") == "true",
        minimum_runtime_s=minimum_runtime_s(annotations),
    )


def notice_of(metadata: ObjectMeta) -> Notice | None:
    """The notice that the platform wrote on a pod which gives way to another."""
    text = metadata.annotations.get(NOTICE)
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Notice)
    except msgspec.DecodeError:
        return None


def minimum_runtime_s(annotations: Mapping[str, str]) -> float:
    """How long a pod may run before it can be told to give way; also of pods that promise no checkpoints."""
    try:
        return float(parse_duration_s(annotations.get(MINIMUM_RUNTIME, "0")))
    except InvalidInput:
        return 0.0  # stored before this was checked


def mount_of(spec: PodSpec, folder: str) -> tuple[Container, VolumeMount] | None:
    """The container and mount that hold the folder; the innermost mount of the first container that has one."""
    for container in spec.containers:
        holding = [m for m in container.volume_mounts if _is_below(folder, m.mount_path)]
        if holding:
            return container, max(holding, key=lambda m: len(m.mount_path))
    return None


def validate_contract(field: str, metadata: ObjectMeta, spec: PodSpec) -> Causes:
    """Causes in the annotations of a pod or a pod template; `field` is where its metadata stand."""
    annotations, where = metadata.annotations, f"{field}.annotations"
    yield from _duration(f"{where}[{MINIMUM_RUNTIME}]", annotations.get(MINIMUM_RUNTIME))
    folder = annotations.get(CHECKPOINT)
    if folder is None:
        if ON_DEMAND in annotations:
            yield required(f"{where}[{CHECKPOINT}]", f"{ON_DEMAND} says nothing without it")
        return
    if annotations.get(ON_DEMAND, "true") not in ("true", "false"):
        yield unsupported(f"{where}[{ON_DEMAND}]", annotations[ON_DEMAND], ("true", "false"))
    held = mount_of(spec, folder) if folder.startswith("/") and ".." not in folder.split("/") else None
    if held is None:
        yield wrong(
            f"{where}[{CHECKPOINT}]", folder, "must be an absolute path within one of the pod's mounts"
        )
    elif problem := _passing(spec, held[1]):
        yield wrong(f"{where}[{CHECKPOINT}]", folder, problem)


def _passing(spec: PodSpec, mount: VolumeMount) -> str:
    """Why what is written there would be lost with the pod, or cannot be found, or ""."""
    if mount.sub_path_expr:
        return (
            f"mount {mount.name!r} has a subPathExpr; use subPath, so that a later pod finds the same folder"
        )
    if mount.read_only:
        return f"mount {mount.name!r} is read-only"
    volume = next((v for v in spec.volumes if v.name == mount.name), None)
    if volume is None or volume.persistent_volume_claim or volume.host_path:
        return ""  # an absent volume is a cause of its own
    return f"volume {mount.name!r} ends with the pod; use a persistentVolumeClaim or a hostPath"


def _is_below(path: str, root: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{root.rstrip('/')}/")


def _duration(field: str, text: str | None) -> Iterator[Cause]:
    if text is None:
        return
    try:
        parse_duration_s(text)
    except InvalidInput as error:
        yield wrong(field, text, str(error))
