"""What accelerators are: counters that allocations consume. A whole GPU, a MIG instance, a time slice, an MPS share and a fraction are one kind.

Each GPU has bytes of memory, a thousand thousandths of its compute, and (where it can be partitioned) slices of memory with positions. A pod
holds `Share`s of GPUs; what is left of a GPU is what nobody holds. The same types describe what NVML finds and what a file declares.
"""

from __future__ import annotations

from msgspec import Struct

from penstock.resources.core import Taint
from penstock.resources.pod import Toleration

WHOLE_MILLI = 1000
"""All of one GPU's compute, in thousandths."""
DEVICES_ANNOTATION = "penstock.dev/devices"
"""On a pod that is bound: the JSON list of its `Share`s, written in the same patch as its node's name. The kubelet hands out these and no others."""
MEMORY_ANNOTATION = "penstock.dev/gpu-memory"
"""On a pod: how much of a GPU's memory it needs, a quantity. It then gets a part of a GPU (of each, if it asks for several)."""
GPU_RESOURCE = "nvidia.com/gpu"
MIG_PREFIX = "nvidia.com/mig-"


class MigProfile(Struct, frozen=True, kw_only=True):
    """One size of MIG instance (NVIDIA MIG User Guide), `1g.10gb` or `1g.10gb+me`. `starts` are positions on the axis of memory slices."""

    name: str
    profile_id: int
    compute_slices: int
    memory_slices: int
    starts: tuple[int, ...]
    memory_bytes: int
    most: int


class GpuType(Struct, frozen=True, kw_only=True):
    """A model of GPU. `name` is ours (`h100-80gb`), `product` as GPU Feature Discovery labels it (`NVIDIA-H100-80GB-HBM3`), `model` as NVML
    names it (with spaces); `memory_slices` is 0 without MIG.

    `classes` are the names that providers give it (values of `gpu.nvidia.com/class`, `accelerator`, …).
    """

    name: str
    product: str
    model: str = ""
    memory_bytes: int
    compute_slices: int = 0
    memory_slices: int = 0
    multiprocessors: int = 0
    profiles: tuple[MigProfile, ...] = ()
    architecture: str = ""
    compute_capability: str = ""
    pci_ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


class MigInstance(Struct, frozen=True, kw_only=True):
    """A part that exists on a GPU now."""

    uuid: str
    profile: str
    start: int


class Sharing(Struct, frozen=True, kw_only=True):
    """How a node's GPUs are divided by the device plugin's configuration: `strategy` is "", `time-slicing` or `mps`.

    `resource` is the name under which the `replicas` of each GPU are offered. Time slices divide neither memory nor faults; MPS divides both
    memory and compute into equal parts.
    """

    strategy: str = ""
    replicas: int = 1
    resource: str = "nvidia.com/gpu"
    refuses_many: bool = False


UNSHARED = Sharing()


class Gpu(Struct, frozen=True, kw_only=True):
    """One physical device of a node. `taints` hold only for it (XID, ECC): NoSchedule keeps pods off, NoExecute also moves those that are there.

    A GPU in MIG mode without `instances` is partitioned as pods need it. With `mig_strategy` `single` its instances are offered as
    nvidia.com/gpu, with `mixed` by profile. `bus` is its PCI address.
    """

    index: int
    uuid: str
    type: GpuType
    driver: str = ""
    bus: str = ""
    is_mig: bool = False
    mig_strategy: str = "mixed"
    instances: tuple[MigInstance, ...] = ()
    sharing: Sharing = UNSHARED
    taints: tuple[Taint, ...] = ()


class Share(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one container of a pod holds of one GPU. For a MIG instance `start` is its position and `instance` its UUID, "" until it is made.

    What a claim was given names the claim as the pod does, its request, and the device as slices do; the containers that see it are those which
    use the claim. Who `is_admin` sees a device and holds nothing of it.
    """

    gpu: str
    container: str = ""
    milli: int = 0
    memory_bytes: int = 0
    profile: str = ""
    start: int = -1
    instance: str = ""
    replica: int = -1
    claim: str = ""
    request: str = ""
    device: str = ""
    is_admin: bool = False


class Way(Struct, frozen=True, kw_only=True):
    """One way to meet a claim's request: `count` devices that meet all conditions (CEL), all that a node has if it is 0.

    `name` is that of the alternative, "" where there is one way only; of whole GPUs so many bytes are a part.
    """

    name: str = ""
    conditions: tuple[str, ...] = ()
    count: int = 1
    memory_bytes: int = 0
    is_admin: bool = False
    tolerations: tuple[Toleration, ...] = ()


class Bond(Struct, frozen=True, kw_only=True):
    """All devices under a bond of this `name` have the same value of an attribute, or each another; `ways` are the alternatives that it holds for, all if none is named."""

    name: str
    attribute: str
    is_distinct: bool = False
    ways: tuple[str, ...] = ()


class DeviceRequest(Struct, frozen=True, kw_only=True):
    """What one container asks of GPUs: `count` devices, each with `milli` of its compute and `memory_bytes`, or an instance of `profile`.

    A whole GPU is `milli=1000` and `memory_bytes=0` (all of it); memory with `milli=0` is a part by memory, whose compute is not limited. `resource` is the extended resource that said so, "" for claims and annotations.
    `types` are the only GPU types that will do, empty for any; `is_shared` says that a replica of a shared GPU is meant.

    A claim's request has `ways`, in the order of preference, and is met by them alone; what else stands there is what it comes to at least. `pinned` are the devices that the claim
    was given already, with another pod.
    """

    container: str = ""
    resource: str = ""
    count: int = 1
    milli: int = WHOLE_MILLI
    memory_bytes: int = 0
    profile: str = ""
    is_shared: bool = False
    types: frozenset[str] = frozenset()
    claim: str = ""
    request: str = ""
    ways: tuple[Way, ...] = ()
    bonds: tuple[Bond, ...] = ()
    pinned: tuple[Share, ...] = ()
