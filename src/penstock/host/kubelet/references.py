"""The ConfigMaps, Secrets and claims that a pod refers to, read from the cluster.

What is missing is not an error of the platform but a state of the pod: `Missing` says it as Kubernetes does.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from penstock.contracts.cluster import Cluster
from penstock.kit.errors import Invalid, NotFound, PlatformError
from penstock.resources.core import ConfigMap, PersistentVolumeClaim, Secret


class Missing(PlatformError):
    """An object or a key that the pod needs is not there (yet)."""

    status, reason = 404, "NotFound"


class References:
    """Reads each object once; make a new one for every attempt to prepare a pod."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._read: dict[tuple[str, str], Mapping[str, bytes] | None] = {}

    async def config_map(self, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """All keys of a ConfigMap; {} if it may be missing and is."""
        return await self._data("configmap", name, optional)

    async def secret(self, name: str, *, optional: bool = False) -> Mapping[str, bytes]:
        """All keys of a Secret, decoded; {} if it may be missing and is."""
        return await self._data("secret", name, optional)

    async def claim(self, name: str) -> None:
        """Missing unless the PersistentVolumeClaim exists."""
        try:
            await self._cluster.get(PersistentVolumeClaim, name, self._namespace)
        except NotFound:
            raise self._missing("persistentvolumeclaim", name) from None

    async def _data(self, kind: str, name: str, optional: bool) -> Mapping[str, bytes]:
        if (kind, name) not in self._read:
            self._read[kind, name] = await self._load(kind, name)
        found = self._read[kind, name]
        if found is None and not optional:
            raise self._missing(kind, name)
        return found or {}

    async def _load(self, kind: str, name: str) -> Mapping[str, bytes] | None:
        try:
            if kind == "secret":
                secret = await self._cluster.get(Secret, name, self._namespace)
                plain = {key: text.encode() for key, text in secret.string_data.items()}
                return {**_decoded(secret.data, f"secret {name!r}"), **plain}
            config_map = await self._cluster.get(ConfigMap, name, self._namespace)
            texts = {key: text.encode() for key, text in config_map.data.items()}
            return {**texts, **_decoded(config_map.binary_data, f"configmap {name!r}")}
        except NotFound:
            return None

    def _missing(self, kind: str, name: str) -> Missing:
        return Missing(f'{kind} "{name}" not found', hint=f"create it in namespace {self._namespace!r}")


def key_of(data: Mapping[str, bytes], what: str, key: str, *, optional: bool) -> bytes | None:
    """One key of `what`, a ConfigMap or Secret; None if it may be missing and is."""
    if key in data:
        return data[key]
    if optional:
        return None
    raise Missing(
        f"couldn't find key {key} in {what}", hint=f"keys there: {', '.join(sorted(data)) or 'none'}"
    )


def _decoded(data: Mapping[str, str], what: str) -> dict[str, bytes]:
    try:
        return {key: base64.b64decode(text, validate=True) for key, text in data.items()}
    except (binascii.Error, ValueError):
        raise Invalid(
            f"{what}: a value is not base64", hint="encode each value of `data` as base64"
        ) from None
