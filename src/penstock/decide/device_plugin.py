"""How does the device plugin's configuration divide a node's GPUs?

The configuration is NVIDIA's own (`version: v1`), as a ConfigMap's key holds it. It is read strictly: what the plugin would pass over or
fail upon when it starts is answered here with its field.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from penstock.contracts.devices import GPU_RESOURCE, UNSHARED, Sharing
from penstock.kit.errors import PlatformError
from penstock.resources.documents import documents
from penstock.resources.meta import Json, Model
from penstock.resources.structure import fit

STRATEGIES = ("none", "single", "mixed")
MAX_REPLICAS = 1000


class PluginConfig(Struct, frozen=True, kw_only=True):
    """What holds on a node. `mistakes` say why a text is no configuration; the rest is then as without one."""

    sharing: Sharing = UNSHARED
    mig_strategy: str = "mixed"
    mistakes: tuple[str, ...] = ()


class _Replicated(Model, frozen=True):
    name: str
    replicas: int
    rename: str = ""
    devices: Json = None


class _Replicas(Model, frozen=True):
    resources: tuple[_Replicated, ...]
    rename_by_default: bool = False
    fail_requests_greater_than_one: bool | None = None


class _Sharing(Model, frozen=True):
    time_slicing: _Replicas | None = None
    mps: _Replicas | None = None


class _Flags(Model, frozen=True):
    mig_strategy: str = ""
    fail_on_init_error: bool | None = None
    mps_root: str = ""
    nvidia_driver_root: str = ""
    nvidia_dev_root: str = ""
    gds_enabled: bool | None = None
    mofed_enabled: bool | None = None
    use_node_feature_api: bool | None = msgspec.field(default=None, name="useNodeFeatureAPI")
    device_discovery_strategy: str = ""
    plugin: Json = None
    gfd: Json = None


class _File(Model, frozen=True):
    version: str
    flags: _Flags = msgspec.field(default_factory=_Flags)
    sharing: _Sharing | None = None
    resources: Json = None
    imex: Json = None


def read_plugin_config(text: str) -> PluginConfig:
    """The configuration in a text of YAML or JSON."""
    try:
        found = documents(text)
    except PlatformError as error:
        return PluginConfig(mistakes=(error.message,))
    if len(found) != 1:
        return PluginConfig(mistakes=(f"found {len(found)} documents, expected one",))
    return plugin_config(found[0])


def plugin_config(document: dict[str, Any]) -> PluginConfig:
    """The configuration that a document is."""
    fitted = fit(document, _File)
    mistakes = [unknown.advice for unknown in fitted.unknown]
    mistakes += [f"{cause.field}: {cause.message}" for cause in fitted.causes]
    if mistakes:
        return PluginConfig(mistakes=tuple(mistakes))
    file = msgspec.convert(fitted.document, _File, strict=False)
    strategy = file.flags.mig_strategy or "mixed"
    if file.version != "v1":
        mistakes.append(f"version: found {file.version!r}, expected v1")
    if strategy not in STRATEGIES:
        mistakes.append(f"flags.migStrategy: found {strategy!r}, expected {', '.join(STRATEGIES)}")
    sharing, wrong = _sharing(file.sharing or _Sharing())
    mistakes += wrong
    return (
        PluginConfig(mistakes=tuple(mistakes))
        if mistakes
        else PluginConfig(sharing=sharing, mig_strategy=strategy)
    )


def _sharing(given: _Sharing) -> tuple[Sharing, list[str]]:
    if given.time_slicing is not None and given.mps is not None:
        return UNSHARED, ["sharing: found timeSlicing and mps, expected one of them: they exclude each other"]
    name, replicas = ("mps", given.mps) if given.mps is not None else ("timeSlicing", given.time_slicing)
    if replicas is None:
        return UNSHARED, []
    where = f"sharing.{name}"
    wrong = _mistakes(where, replicas)
    if name == "mps" and replicas.fail_requests_greater_than_one is False:
        wrong.append(
            f"{where}.failRequestsGreaterThanOne: found false, but MPS always refuses more than one replica"
        )
    if wrong:
        return UNSHARED, wrong
    one = replicas.resources[0]
    resource = one.rename or (f"{GPU_RESOURCE}.shared" if replicas.rename_by_default else GPU_RESOURCE)
    return (
        Sharing(
            strategy="mps" if name == "mps" else "time-slicing",
            replicas=one.replicas,
            resource=resource,
            refuses_many=name == "mps" or bool(replicas.fail_requests_greater_than_one),
        ),
        [],
    )


def _mistakes(where: str, replicas: _Replicas) -> list[str]:
    if len(replicas.resources) != 1:
        return [
            f"{where}.resources: found {len(replicas.resources)} entries, expected one, for {GPU_RESOURCE}"
        ]
    one = replicas.resources[0]
    wrong = []
    if one.name != GPU_RESOURCE:
        wrong.append(
            f"{where}.resources[0].name: found {one.name!r}, expected {GPU_RESOURCE}: only whole GPUs are shared here"
        )
    if not 2 <= one.replicas <= MAX_REPLICAS:
        wrong.append(f"{where}.resources[0].replicas: found {one.replicas}, expected 2 to {MAX_REPLICAS}")
    if one.rename and not one.rename.startswith(f"{GPU_RESOURCE}."):
        wrong.append(
            f"{where}.resources[0].rename: found {one.rename!r}, expected a name that begins with {GPU_RESOURCE}."
        )
    if one.devices not in (None, "all"):
        wrong.append(
            f"{where}.resources[0].devices: found {one.devices!r}, expected all: a node's GPUs are shared alike"
        )
    return wrong
