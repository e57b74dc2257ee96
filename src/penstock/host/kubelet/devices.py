"""What a pod's containers see of their node's GPUs: what the pod was given when it was bound, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from penstock.contracts.controller import Cache
from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, GpuType, Share
from penstock.decide.device_environment import device_environment
from penstock.decide.device_slices import gpus_of
from penstock.kit.errors import Invalid, Unavailable
from penstock.resources.devices import ResourceSlice
from penstock.resources.pod import Container, Pod

NodeGpus = Callable[[str], tuple[Gpu, ...]]


def known_gpus(cache: Cache, types: Sequence[GpuType]) -> NodeGpus:
    """Reads a node's GPUs out of the slices."""

    def read(node: str) -> tuple[Gpu, ...]:
        slices = (one for one in cache.list(ResourceSlice) if one.spec.node_name == node)
        return gpus_of(slices, types).get(node, ())

    return read


def container_devices(pod: Pod, container: Container, gpus: NodeGpus, mps_pipe: str = "") -> dict[str, str]:
    """The variables that say which devices are the container's; `mps_pipe` is the folder of its node's MPS daemon's pipes.

    Init containers use all that their pod holds, but of claims, as every container, what they name. Raises Invalid for an annotation that cannot be read, Unavailable for an instance
    that is still to be made.
    """
    is_before = container in pod.spec.init_containers and container.restart_policy != "Always"
    shares = tuple(
        share
        for share in _shares(pod)
        if (_uses(container, share) if share.claim else is_before or share.container in ("", container.name))
    )
    here = {gpu.uuid: gpu for gpu in gpus(pod.spec.node_name)} if shares else {}
    found = device_environment(shares, here, mps_pipe)
    if isinstance(found, str):
        raise Unavailable(f"containers[{container.name}]: {found}")
    return found


def _uses(container: Container, share: Share) -> bool:
    """Whether the container names the share's claim, all of it or this request."""
    request = share.request.partition("/")[0]
    return any(
        one.get("name") == share.claim and (one.get("request") or request) == request
        for one in (container.resources.claims if container.resources else ())
    )


def _shares(pod: Pod) -> tuple[Share, ...]:
    text = pod.metadata.annotations.get(DEVICES_ANNOTATION)
    if not text:
        return ()
    try:
        return msgspec.json.decode(text, type=tuple[Share, ...])
    except msgspec.DecodeError as error:
        raise Invalid(
            f"metadata.annotations[{DEVICES_ANNOTATION}]: {error}",
            hint="placement writes it; delete the pod, so that another is placed",
        ) from None
