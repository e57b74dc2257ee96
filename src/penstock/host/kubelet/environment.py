"""The environment of a container: what the pod declares, a few facts of the host, and nothing else of the platform's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.host.kubelet.expansion import expand
from penstock.host.kubelet.fields import field_value, resource_value
from penstock.host.kubelet.references import References, key_of
from penstock.kit.errors import Invalid
from penstock.resources.pod import Container, EnvVar, EnvVarSource, Pod

ALLOWED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def host_environment(platform: Mapping[str, str], pod: Pod, cache: Path) -> dict[str, str]:
    """What every container gets before its own variables.

    The folder of the platform's interpreter ends PATH, so that engines installed beside the platform are found.
    """
    kept = {name: platform[name] for name in ALLOWED if name in platform}
    kept["PATH"] = f"{kept.get('PATH') or DEFAULT_PATH}{os.pathsep}{Path(sys.executable).parent}"
    return {
        **kept,
        "HOSTNAME": pod.spec.hostname or pod.metadata.name,
        "POD_IP": pod.status.pod_ip,
        "PENSTOCK_CACHE_DIR": str(cache),
    }


@dataclass(frozen=True, slots=True)
class Sources:
    """What a container's variables may draw on. `node`: allocatable `cpu` in cores and `memory` in bytes."""

    pod: Pod
    container: Container
    references: References
    node: Mapping[str, float]


async def declared_environment(sources: Sources, base: Mapping[str, str]) -> dict[str, str]:
    """The container's `envFrom` and `env`, in order; each may refer to `base` and to those before it.

    Raises Missing for an absent ConfigMap, Secret or key, Invalid for a source that this host does not have.
    """
    found: dict[str, str] = {}
    references = sources.references
    for source in sources.container.env_from:
        if source.config_map_ref:
            target, read = source.config_map_ref, references.config_map
        elif source.secret_ref:
            target, read = source.secret_ref, references.secret
        else:
            continue
        data = await read(target.name, optional=bool(target.optional))
        found.update({source.prefix + key: _text(value) for key, value in data.items()})
    for variable in sources.container.env:
        value = await _value(sources, variable, {**base, **found})
        if value is not None:
            found[variable.name] = value
    return {name: value for name, value in found.items() if name and "=" not in name}


async def _value(sources: Sources, variable: EnvVar, known: Mapping[str, str]) -> str | None:
    if variable.value_from is None:
        return expand(variable.value or "", known)
    source = variable.value_from
    if source.field_ref:
        return field_value(sources.pod, source.field_ref.field_path)
    if source.resource_field_ref:
        return resource_value(sources.pod, sources.container, source.resource_field_ref, sources.node)
    return await _key(
        source, f"containers[{sources.container.name}].env[{variable.name}]", sources.references
    )


async def _key(source: EnvVarSource, field: str, references: References) -> str | None:
    if wish := source.config_map_key_ref:
        data = await references.config_map(wish.name, optional=bool(wish.optional))
        kind = "ConfigMap"
    elif wish := source.secret_key_ref:
        data = await references.secret(wish.name, optional=bool(wish.optional))
        kind = "Secret"
    else:
        raise Invalid(
            f"{field}.valueFrom: this source is not supported on the embedded host",
            hint="use fieldRef, resourceFieldRef, configMapKeyRef or secretKeyRef",
        )
    value = key_of(data, f"{kind} {wish.name}", wish.key, optional=bool(wish.optional))
    return None if value is None else _text(value)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape").replace("\0", "")
