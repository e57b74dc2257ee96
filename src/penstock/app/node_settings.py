"""What the settings may say of nodes that are declared to try out a cluster's shape."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class DeclaredGpus(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Some GPUs of one type. `mig`: how many instances of each profile each of them has; {} partitions them as pods need it."""

    type: str
    count: int = 1
    mig: dict[str, int] | None = None


class DeclaredNode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A further node to try out a cluster's shape with; its pods run on this machine. `sharing` is the device plugin's."""

    name: str
    cpu: str = "4"
    memory: str = "16Gi"
    gpus: tuple[DeclaredGpus, ...] = ()
    sharing: dict[str, Any] = {}
    mig_strategy: str = "mixed"
    labels: dict[str, str] = {}
    taints: tuple[dict[str, str], ...] = ()
