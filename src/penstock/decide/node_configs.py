"""Which configurations make a cluster's nodes offer their GPUs as these nodes do?

Two of NVIDIA's GPU operator, both as ConfigMaps of named configurations of which a node's label chooses one: the device plugin's (sharing) and
the MIG manager's (`mig-parted`: which instances each GPU is divided into).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from penstock.contracts.devices import GPU_RESOURCE, UNSHARED, Gpu, Sharing
from penstock.decide.mig_parted import CONFIG_KEY as MIG_KEY
from penstock.decide.mig_parted import CONFIG_LABEL as MIG_LABEL
from penstock.decide.mig_parted import mig_parted
from penstock.kit.hashing import short_hash
from penstock.resources.core import ConfigMap
from penstock.resources.meta import ObjectMeta

NAMESPACE = "gpu-operator"
PLUGIN_CONFIGS, MIG_CONFIGS = "penstock-device-plugin-configs", "penstock-mig-configs"
CONFIG_LABEL = "nvidia.com/device-plugin.config"
SHARED = f"{GPU_RESOURCE}.shared"


class NodeConfigs(Struct, frozen=True):
    """The ConfigMap, None if no node needs one, and by node the labels that choose from it."""

    map: ConfigMap | None = None
    labels: Mapping[str, Mapping[str, str]] = {}


def plugin_configs(nodes: Mapping[str, Sequence[Gpu]], sharings: Iterable[Sharing] = ()) -> NodeConfigs:
    """For the device plugin. `nodes` are GPUs by node; `sharings` further ways to share that pods need, on nodes that somebody chooses."""
    documents = {config_name(one): plugin_document(one) for one in sharings}
    labels: dict[str, dict[str, str]] = {}
    for name, gpus in nodes.items():
        sharing = next((gpu.sharing for gpu in gpus if not gpu.is_mig), UNSHARED)
        strategy = next((gpu.mig_strategy for gpu in gpus if gpu.is_mig), "")
        if sharing != UNSHARED or strategy:
            config = config_name(sharing, strategy or "mixed")
            documents[config] = plugin_document(sharing, strategy or "mixed")
            labels[name] = {CONFIG_LABEL: config}
    return _configs(PLUGIN_CONFIGS, {name: _yaml(documents[name]) for name in sorted(documents)}, labels)


def mig_configs(nodes: Mapping[str, Sequence[Gpu]]) -> NodeConfigs:
    """For the MIG manager: the instances that there are. A node without any is left to the manager's default."""
    divided = {name: tuple(gpus) for name, gpus in nodes.items() if any(gpu.is_mig for gpu in gpus)}
    found = mig_parted(divided, {})
    labels = {name: {MIG_LABEL: layout} for name, layout in found.labels.items()}
    return _configs(MIG_CONFIGS, {MIG_KEY: _yaml(found.document)} if divided else {}, labels)


def config_name(sharing: Sharing, mig_strategy: str = "mixed") -> str:
    """Names a configuration by what it says, so that pods can ask for nodes that have it: `mps-4`, `time-slicing-4`, `mig-mixed`."""
    plain = f"{sharing.strategy}-{sharing.replicas}" if sharing.strategy else f"mig-{mig_strategy}"
    is_usual = not sharing.strategy or (
        sharing.resource == SHARED and sharing.refuses_many and mig_strategy == "mixed"
    )
    return plain if is_usual else f"{plain}-{short_hash(plugin_document(sharing, mig_strategy), 4)}"


def plugin_document(sharing: Sharing, mig_strategy: str = "mixed") -> dict[str, Any]:
    """The device plugin's configuration; `decide/device_plugin.py` reads it back."""
    document: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": mig_strategy}}
    if not sharing.strategy:
        return document
    resource: dict[str, Any] = {"name": GPU_RESOURCE, "replicas": sharing.replicas}
    if sharing.resource not in (GPU_RESOURCE, SHARED):
        resource["rename"] = sharing.resource
    replicas: dict[str, Any] = {"renameByDefault": sharing.resource == SHARED}
    if sharing.strategy == "time-slicing":
        replicas["failRequestsGreaterThanOne"] = sharing.refuses_many
    replicas["resources"] = [resource]
    way = "mps" if sharing.strategy == "mps" else "timeSlicing"
    return {**document, "sharing": {way: replicas}}


def _configs(name: str, data: dict[str, str], labels: dict[str, dict[str, str]]) -> NodeConfigs:
    metadata = ObjectMeta(name=name, namespace=NAMESPACE)
    return NodeConfigs(ConfigMap(metadata=metadata, data=data) if data else None, labels)


def _yaml(document: dict[str, Any]) -> str:
    return msgspec.yaml.encode(document, order=None).decode()
