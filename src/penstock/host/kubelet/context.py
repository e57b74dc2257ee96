"""What all containers of one pod share, and how a container's process follows from its specification."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from msgspec import structs

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import Recorder
from penstock.decide.checkpoint import Checkpoint
from penstock.host.kubelet.actions import Target
from penstock.host.kubelet.attempts import ProcessSpec
from penstock.host.kubelet.checkpoints import CheckpointReader, folder_of
from penstock.host.kubelet.command import command_of, program_of
from penstock.host.kubelet.devices import NodeGpus, container_devices
from penstock.host.kubelet.environment import Sources, declared_environment, host_environment
from penstock.host.kubelet.expansion import expand
from penstock.host.kubelet.layout import Layout, PodFolder
from penstock.host.kubelet.limits import Limits
from penstock.host.kubelet.mounts import mounts_of
from penstock.host.kubelet.references import References
from penstock.host.kubelet.status import HOST_IP
from penstock.host.kubelet.volumes import VolumeContext, prepare_volume
from penstock.host.mps import mps_environment
from penstock.kit.clock import Clock
from penstock.kit.errors import Invalid
from penstock.resources.pod import Container, Pod, PodIP

RESUME_FROM = "PENSTOCK_RESUME_FROM"


@dataclass(frozen=True, slots=True)
class Tools:
    """What every pod of this kubelet works with. `node_facts(name)`: allocatable cpu in cores and memory in bytes.

    `gpus(name)` are a node's devices. `at_once(argv)` does what a command would where that needs no process, and returns what it would say; None where it needs one.
    """

    cluster: Cluster
    recorder: Recorder
    clock: Clock
    layout: Layout
    limits: Limits
    node_facts: Callable[[str], Mapping[str, float]]
    at_once: Callable[[Sequence[str]], Sequence[str] | None]
    gpus: NodeGpus
    checkpoints: CheckpointReader = field(default_factory=CheckpointReader)


@dataclass(slots=True)
class PodContext:
    """One pod at work. `pod` is its newest version; `changed` is called whenever a container's status changed."""

    tools: Tools
    pod: Pod
    folder: PodFolder
    changed: Callable[[], None]
    address: str = ""
    volumes: dict[str, Path] = field(default_factory=dict)

    def event(self, type_: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Record an Event about the pod."""
        self.tools.recorder.event(self.pod, type_, reason, message)

    def addressed(self) -> Pod:
        """The pod with its addresses filled in, for whoever reads them before the status is written."""
        addresses = (PodIP(ip=self.address),)
        status = structs.replace(self.pod.status, pod_ip=self.address, pod_ips=addresses, host_ip=HOST_IP)
        return structs.replace(self.pod, status=status)

    async def prepare_volumes(self) -> None:
        """Make all of the pod's volumes; raises for the first that cannot be made."""
        references = self._references()
        for volume in self.pod.spec.volumes:
            try:
                self.volumes[volume.name] = await prepare_volume(self._volume_context(references), volume)
            except OSError as error:
                raise Invalid(f"volume {volume.name!r}: {error.strerror}: {error.filename}") from None

    async def process(self, container: Container) -> tuple[ProcessSpec, Target]:
        """What to run, and where its probes and commands go. Raises Missing, Invalid or CannotRun."""
        pod = self.addressed()
        references = self._references()
        for volume in pod.spec.volumes:  # so that a restarted container sees today's ConfigMaps
            if any(mount.name == volume.name for mount in container.volume_mounts):
                self.volumes[volume.name] = await prepare_volume(self._volume_context(references), volume)
        base = host_environment(os.environ, pod, self.tools.layout.cache(pod.spec.node_name))
        base |= await self._checkpoint_environment()
        node = self.tools.node_facts(pod.spec.node_name)
        declared = await declared_environment(Sources(pod, container, references, node), base)
        known = {**base, **declared}
        mounts = mounts_of(container, self.volumes, known)
        env = {**base, **{name: mounts.rewrite(value) for name, value in declared.items()}}
        mps = mps_environment(self.tools.layout.mps(pod.spec.node_name))
        env |= container_devices(pod, container, self.tools.gpus, mps["CUDA_MPS_PIPE_DIRECTORY"])
        cwd = self._working_folder(container, mounts.rewrite(container.working_dir))
        words = [mounts.rewrite(expand(word, known)) for word in command_of(pod, container)]
        program = program_of(pod, container, words[0], env["PATH"], cwd)
        spec = ProcessSpec((program, *words[1:]), env, cwd, _stop_signal(container))
        return spec, Target(self.address, container, env, cwd, mounts.rewrite)

    async def _checkpoint_environment(self) -> dict[str, str]:
        """For a pod that saves its work: where to, where a notice will lie, and what it can go on from."""
        folder = folder_of(self.pod, self.tools.layout)
        if folder is None:
            return {}
        env = {"PENSTOCK_CHECKPOINT_DIR": str(folder), "PENSTOCK_NOTICE_FILE": str(self.folder.notice)}
        found = await asyncio.to_thread(self.tools.checkpoints.read, folder)
        if isinstance(found, Checkpoint):
            env[RESUME_FROM] = str(folder / found.path)
        return env

    def starts(self, env: Mapping[str, str]) -> None:
        """A process is about to start with this environment: an older notice is not meant for it."""
        self.folder.notice.unlink(missing_ok=True)
        if RESUME_FROM in env:
            self.event("Normal", "Resuming", f"Can go on from {Path(env[RESUME_FROM]).name}")

    def _working_folder(self, container: Container, wish: str) -> Path:
        if wish and not Path(wish).is_dir():
            raise Invalid(
                f"containers[{container.name}].workingDir: {container.working_dir!r} is not a folder on this machine",
                hint="leave it out, or name a folder below one of the container's mounts",
            )
        cwd = Path(wish) if wish else self.folder.container(container.name) / "cwd"
        cwd.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cwd

    def _references(self) -> References:
        return References(self.tools.cluster, self.pod.metadata.namespace)

    def _volume_context(self, references: References) -> VolumeContext:
        node = self.tools.node_facts(self.pod.spec.node_name)
        return VolumeContext(self.tools.layout, self.folder, self.addressed(), references, node)


def _stop_signal(container: Container) -> int:
    wish = container.lifecycle.stop_signal if container.lifecycle else None
    if not wish:
        return signal.SIGTERM
    try:
        return signal.Signals[wish]
    except KeyError:
        raise Invalid(
            f"containers[{container.name}].lifecycle.stopSignal: found {wish!r}, expected a name such as SIGTERM or SIGINT"
        ) from None
