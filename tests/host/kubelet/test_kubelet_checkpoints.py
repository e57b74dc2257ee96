"""A pod that saves its work learns where to, is told before it ends, and finds what it saved."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from blake3 import blake3
from kubelet_world import World, sh

from penstock.contracts.controller import Key
from penstock.decide.checkpoint import Checkpoint
from penstock.host.checkpoints import CheckpointController
from penstock.host.kubelet.checkpoints import CheckpointReader, folder_of
from penstock.host.kubelet.layout import Layout
from penstock.resources.checkpoint import CHECKPOINT, MANIFEST, NOTICE
from penstock.resources.pod import (
    Container,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    Pod,
    PodSpec,
    Volume,
    VolumeMount,
)
from penstock.testing.factories import meta

SAVER = """
echo resume=${PENSTOCK_RESUME_FROM:-none}
trap 'cat "$PENSTOCK_NOTICE_FILE"; echo; exit 75' TERM
ls "$PENSTOCK_NOTICE_FILE" 2>/dev/null && echo stale
echo up in $PENSTOCK_CHECKPOINT_DIR
while :; do sleep 0.05; done
"""


def save(folder: Path, content: bytes, step: int = 1, **fields: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"step-{step}").write_bytes(content)
    manifest = {
        "path": f"step-{step}",
        "step": step,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **fields,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def read(folder: Path) -> Checkpoint | str:
    return CheckpointReader().read(folder)


def training(folder: Path, script: str = SAVER) -> tuple[Container, dict[str, object]]:
    mounts = (VolumeMount(name="data", mount_path="/data"),)
    container = sh(script, volume_mounts=mounts, termination_message_policy="FallbackToLogsOnError")
    volume = Volume(name="data", host_path=HostPathVolumeSource(path=str(folder), type="DirectoryOrCreate"))
    return container, {"volumes": (volume,), "annotations": {CHECKPOINT: "/data/saved"}}


def test_what_was_saved_is_found_and_what_was_tampered_with_is_not(tmp_path: Path) -> None:
    assert "No such file" in str(read(tmp_path))
    save(tmp_path, b"weights", 3)
    reader = CheckpointReader()
    found = reader.read(tmp_path)
    assert isinstance(found, Checkpoint)
    assert (found.step, found.bytes) == (3, 7)
    assert abs(found.saved_at - time.time()) < 60
    (tmp_path / "step-3").write_bytes(b"wEights")
    os.utime(tmp_path / "step-3", (1.0, 1.0))  # a disk's dates may be too coarse to tell the two apart
    assert "another sha256" in str(reader.read(tmp_path))
    (tmp_path / "step-3").write_bytes(b"wei")
    assert "3 bytes" in str(reader.read(tmp_path))
    (tmp_path / "step-3").unlink()
    assert "absent" in str(reader.read(tmp_path))


def test_a_link_out_of_the_folder_is_no_checkpoint(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    folder = tmp_path / "in"
    save(folder, b"secret")
    (folder / "step-1").unlink()
    (folder / "step-1").symlink_to(outside)
    assert "leads out" in str(read(folder))


def test_blake3_will_do_as_well(tmp_path: Path) -> None:
    save(tmp_path, b"weights", sha256="", blake3=blake3(b"weights").hexdigest())
    assert isinstance(read(tmp_path), Checkpoint)


def test_the_folder_is_found_through_mounts_and_volumes(tmp_path: Path) -> None:
    container, spec = training(tmp_path / "host")
    pod = Pod(
        metadata=meta("a", annotations=spec["annotations"]),
        spec=PodSpec(containers=(container,), volumes=spec["volumes"]),  # type: ignore[arg-type]
    )
    assert folder_of(pod, Layout(tmp_path)) == tmp_path / "host" / "saved"
    passing = Pod(
        metadata=pod.metadata,
        spec=PodSpec(
            containers=(container,), volumes=(Volume(name="data", empty_dir=EmptyDirVolumeSource()),)
        ),
    )
    assert folder_of(passing, Layout(tmp_path)) is None


async def test_a_pod_is_told_until_when_it_may_save_before_it_is_stopped(
    world: World, tmp_path: Path
) -> None:
    await world.up()
    container, spec = training(tmp_path / "host")
    pod = await world.create("train", container, restart_policy="Never", **spec)
    await world.until_logged(pod, f"up in {tmp_path / 'host' / 'saved'}")
    assert "resume=none" in world.log(pod)
    notice = json.dumps({"deadline": 1.0, "reason": "Preempted", "by": "default/chat"})
    patch = {"metadata": {"annotations": {NOTICE: notice}, "finalizers": ["tests/keep"]}}
    await world.cluster.patch(Pod, "train", "default", patch)
    now = time.time()
    await world.cluster.delete(Pod, "train", "default", grace_period_s=40)
    await world.until("train", lambda pod: pod.status.phase == "Failed")
    ended_at = time.time()
    ended = await world.pod("train")
    assert ended is not None
    terminated = ended.status.container_statuses[0].state.terminated
    assert terminated is not None
    assert terminated.exit_code == 75
    said = json.loads(terminated.message.split()[-1])
    assert (said["reason"], said["by"]) == ("Preempted", "default/chat")
    assert now + 39 < said["deadline"] <= ended_at + 40
    await world.cluster.patch(Pod, "train", "default", {"metadata": {"finalizers": []}})
    await world.gone("train")


async def test_a_later_pod_finds_what_an_earlier_one_saved_and_no_old_notice(
    world: World, tmp_path: Path
) -> None:
    await world.up()
    container, spec = training(tmp_path / "host")
    save(tmp_path / "host" / "saved", b"weights", 12)
    pod = await world.create("again", container, restart_policy="Never", **spec)
    said = await world.until_logged(pod, "up in")
    assert f"resume={tmp_path / 'host' / 'saved' / 'step-12'}" in said
    assert "stale" not in said
    assert "Resuming" in world.events.reasons()


class Seen:
    """A `Cache` of one pod."""

    def __init__(self) -> None:
        self.pod: Pod | None = None

    def get(self, kind: type[Any], name: str, namespace: str = "") -> Any:
        return self.pod

    def list(self, kind: type[Any], namespace: str | None = None, **_: str) -> tuple[Any, ...]:
        return (self.pod,) if self.pod else ()


async def test_a_pod_that_has_saved_does_not_use_up_its_grace(world: World, tmp_path: Path) -> None:
    await world.up()
    saved = tmp_path / "host" / "saved"
    script = f"trap 'cp {tmp_path}/ready/* {saved}/' TERM; echo up; while :; do sleep 0.05; done"
    container, spec = training(tmp_path / "host", script)
    saved.mkdir(parents=True)
    save(tmp_path / "ready", b"weights", 7)
    pod = await world.create("train", container, restart_policy="Never", **spec)
    await world.until_logged(pod, "up")
    began, seen = time.time(), Seen()
    notice = json.dumps({"deadline": began + 600, "reason": "Preempted", "by": "default/chat", "at": began})
    await world.cluster.patch(Pod, "train", "default", {"metadata": {"annotations": {NOTICE: notice}}})
    await world.cluster.delete(Pod, "train", "default", grace_period_s=600)
    looking = CheckpointController(world.cluster, seen, world.events, layout=Layout(world.home))
    while (found := await world.pod("train")) is not None:
        seen.pod = found
        assert time.time() < began + 40, "it was left its whole grace"
        await looking.reconcile(Key("default", "train"))
        await asyncio.sleep(0.05)
    assert "Saved" in world.events.reasons()
