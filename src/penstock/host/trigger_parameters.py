"""What a ScaledObject's triggers are given besides their metadata: secrets by their authentication, variables of the container.

On one machine these come from Secrets, ConfigMaps and the workload's own pod template; clouds' stores are refused by name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import structs

from penstock.contracts.controller import Cache
from penstock.kit.errors import InvalidInput, NotFound
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.keda import (
    ClusterTriggerAuthentication,
    EnvironmentTarget,
    ScaleTrigger,
    TriggerAuthentication,
    TriggerAuthenticationSpec,
)
from penstock.resources.pod import Container, EnvVar, PodSpec

CLUSTER_NAMESPACE = "keda"
READ_HERE = frozenset({"secret_target_ref", "config_map_target_ref", "env"})


@dataclass(frozen=True, slots=True)
class Parameters:
    """For one trigger: `secrets` by parameter, `environment` by variable."""

    secrets: Mapping[str, str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


class ParameterReader:
    """Reads from the cache; what it gives is compared to see whether a trigger is to be opened anew."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self, trigger: ScaleTrigger, namespace: str, pod: PodSpec, container: str) -> Parameters:
        """Raises NotFound for what is referred to and absent, InvalidInput for what one machine cannot read."""
        wanted = [name for key, name in trigger.metadata.items() if key.endswith("FromEnv")]
        environment = self._variables(pod, container, namespace, wanted) if wanted else {}
        return Parameters(self._secrets(trigger, namespace, pod), environment)

    def _secrets(self, trigger: ScaleTrigger, namespace: str, pod: PodSpec) -> dict[str, str]:
        reference = trigger.authentication_ref
        if reference is None:
            return {}
        found: TriggerAuthentication | ClusterTriggerAuthentication | None
        if reference.kind == "ClusterTriggerAuthentication":
            found, source = self._cache.get(ClusterTriggerAuthentication, reference.name), CLUSTER_NAMESPACE
        else:
            found, source = self._cache.get(TriggerAuthentication, reference.name, namespace), namespace
        if found is None:
            raise NotFound(f"{reference.kind or 'TriggerAuthentication'} {reference.name} does not exist")
        return self._resolved(found.metadata.name, found.spec, source, pod, namespace)

    def _resolved(
        self, name: str, spec: TriggerAuthenticationSpec, source: str, pod: PodSpec, namespace: str
    ) -> dict[str, str]:
        for info in structs.fields(spec):
            if info.name not in READ_HERE and getattr(spec, info.name):
                raise InvalidInput(
                    f"TriggerAuthentication {name}: spec.{info.encode_name} cannot be read on one machine",
                    hint="use secretTargetRef, configMapTargetRef or env",
                )
        secrets = {
            item.parameter: self._secret(item.name, item.key, source) for item in spec.secret_target_ref
        }
        secrets |= {
            item.parameter: self._config(item.name, item.key, source) for item in spec.config_map_target_ref
        }
        secrets |= {item.parameter: self._of_container(item, pod, namespace) for item in spec.env}
        return secrets

    def _of_container(self, item: EnvironmentTarget, pod: PodSpec, namespace: str) -> str:
        values = self._variables(pod, item.container_name, namespace, [item.name])
        if item.name not in values:
            raise NotFound(f"the scaled workload's container has no variable {item.name}")
        return values[item.name]

    def _variables(self, pod: PodSpec, container: str, namespace: str, wanted: list[str]) -> dict[str, str]:
        chosen = _container(pod, container)
        known = {variable.name: variable for variable in chosen.env}
        return {name: self._value(known[name], namespace) for name in wanted if name in known}

    def _value(self, variable: EnvVar, namespace: str) -> str:
        source = variable.value_from
        if source is None:
            return variable.value or ""
        if source.secret_key_ref is not None:
            return self._secret(source.secret_key_ref.name, source.secret_key_ref.key, namespace)
        if source.config_map_key_ref is not None:
            return self._config(source.config_map_key_ref.name, source.config_map_key_ref.key, namespace)
        raise InvalidInput(f"the variable {variable.name} has a value that only a pod knows")

    def _secret(self, name: str, key: str, namespace: str) -> str:
        secret = self._cache.get(Secret, name, namespace)
        if secret is None:
            raise NotFound(f"Secret {namespace}/{name} does not exist")
        if key not in secret.data:
            raise NotFound(f"Secret {namespace}/{name} has no key {key}")
        try:
            return base64.b64decode(secret.data[key]).decode().strip("\r\n")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidInput(f"Secret {namespace}/{name}: the key {key} is no text") from None

    def _config(self, name: str, key: str, namespace: str) -> str:
        config = self._cache.get(ConfigMap, name, namespace)
        if config is None:
            raise NotFound(f"ConfigMap {namespace}/{name} does not exist")
        if key not in config.data:
            raise NotFound(f"ConfigMap {namespace}/{name} has no key {key}")
        return config.data[key]


def _container(pod: PodSpec, name: str) -> Container:
    """By name; the first one if there is none."""
    for container in pod.containers:
        if name in ("", container.name):
            return container
    raise NotFound(f"the scaled workload has no container {name or 'at all'}")
