"""What triggers are given: from Secrets, ConfigMaps and the scaled container, and nothing that is not there."""

from __future__ import annotations

import base64
from typing import TypeVar

import pytest
from msgspec import structs

from penstock.host.trigger_parameters import ParameterReader, Parameters
from penstock.kit.errors import InvalidInput, NotFound, PlatformError
from penstock.resources.core import ConfigMap, Secret
from penstock.resources.keda import (
    AuthenticationReference,
    ClusterTriggerAuthentication,
    EnvironmentTarget,
    ScaleTrigger,
    SecretTarget,
    TriggerAuthentication,
    TriggerAuthenticationSpec,
)
from penstock.resources.meta import ObjectMeta, Resource
from penstock.resources.pod import (
    Container,
    EnvVar,
    EnvVarSource,
    KeySelector,
    ObjectFieldSelector,
    PodSpec,
)
from penstock.testing.factories import meta

R = TypeVar("R", bound=Resource)
POD = PodSpec(
    containers=(
        Container(
            name="main",
            env=(
                EnvVar(name="HOST", value="h:1"),
                EnvVar(
                    name="WORD", value_from=EnvVarSource(secret_key_ref=KeySelector(name="words", key="word"))
                ),
                EnvVar(
                    name="ZONE",
                    value_from=EnvVarSource(config_map_key_ref=KeySelector(name="map", key="zone")),
                ),
                EnvVar(
                    name="MYSELF",
                    value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path="status.podIP")),
                ),
            ),
        ),
        Container(name="side", env=(EnvVar(name="HOST", value="side:2"),)),
    )
)


class Shelf:
    """A cache that holds what it is given."""

    def __init__(self, *objects: Resource) -> None:
        self._objects = {(type(o), o.metadata.name, o.metadata.namespace): o for o in objects}

    def get(self, kind: type[R], name: str, namespace: str = "") -> R | None:
        return self._objects.get((kind, name, namespace))  # type: ignore[return-value]

    def list(self, kind: type[R], namespace: str | None = None, **_: str) -> tuple[R, ...]:
        return ()


def words(namespace: str = "default", **values: str) -> Secret:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return Secret(metadata=meta("words", namespace), data=data)


def authentication(**spec: object) -> TriggerAuthentication:
    return TriggerAuthentication(metadata=meta("auth"), spec=TriggerAuthenticationSpec(**spec))


def read(*objects: Resource, kind: str = "", container: str = "", **metadata: str) -> Parameters:
    reference = AuthenticationReference(name="auth", kind=kind) if objects else None
    trigger = ScaleTrigger(type="redis", metadata=metadata, authentication_ref=reference)
    return ParameterReader(Shelf(*objects)).read(trigger, "default", POD, container)


TARGET = SecretTarget(parameter="password", name="words", key="word")


def test_secrets_are_decoded_without_the_line_end_that_editors_leave() -> None:
    found = read(authentication(secret_target_ref=(TARGET,)), words(word="hunter2\n"))
    assert found.secrets == {"password": "hunter2"}
    assert "hunter2" not in repr(found)


def test_configuration_and_variables_of_the_container_are_parameters_too() -> None:
    spec = {
        "config_map_target_ref": (SecretTarget(parameter="zone", name="map", key="zone"),),
        "env": (
            EnvironmentTarget(parameter="host", name="HOST"),
            EnvironmentTarget(parameter="other", name="HOST", container_name="side"),
            EnvironmentTarget(parameter="password", name="WORD"),
        ),
    }
    configuration = ConfigMap(metadata=meta("map"), data={"zone": "a"})
    found = read(authentication(**spec), configuration, words(word="w"))
    assert found.secrets == {"zone": "a", "host": "h:1", "other": "side:2", "password": "w"}


def test_a_cluster_s_authentication_reads_from_keda_s_namespace_alone() -> None:
    auth = ClusterTriggerAuthentication(
        metadata=ObjectMeta(name="auth"), spec=TriggerAuthenticationSpec(secret_target_ref=(TARGET,))
    )
    mine, kedas = words(word="mine"), words("keda", word="kedas")
    assert read(auth, mine, kedas, kind="ClusterTriggerAuthentication").secrets == {"password": "kedas"}
    with pytest.raises(NotFound, match="keda/words"):
        read(auth, mine, kind="ClusterTriggerAuthentication")


def test_variables_that_metadata_names_are_read_from_the_container_that_the_target_names() -> None:
    assert read(hostFromEnv="HOST").environment == {"HOST": "h:1"}
    assert read(hostFromEnv="HOST", container="side").environment == {"HOST": "side:2"}
    assert read(hostFromEnv="ABSENT").environment == {}


@pytest.mark.parametrize(
    ("objects", "error", "said"),
    [
        ((words(word="w"),), NotFound, "TriggerAuthentication auth does not exist"),
        ((authentication(secret_target_ref=(TARGET,)),), NotFound, "Secret default/words does not exist"),
        ((authentication(secret_target_ref=(TARGET,)), words(x="w")), NotFound, "has no key word"),
        ((authentication(secret_target_ref=(TARGET,)), words("keda", word="w")), NotFound, "does not exist"),
        (
            (
                authentication(secret_target_ref=(TARGET,)),
                structs.replace(words(), data={"word": base64.b64encode(b"\xff\xfe").decode()}),
            ),
            InvalidInput,
            "is no text",
        ),
        ((authentication(env=(EnvironmentTarget(parameter="a", name="NONE"),)),), NotFound, "no variable NONE"),
        ((authentication(env=(EnvironmentTarget(parameter="a", name="MYSELF"),)),), InvalidInput, "only a pod knows"),
        (
            (authentication(env=(EnvironmentTarget(parameter="a", name="HOST", container_name="no"),)),),
            NotFound,
            "no container no",
        ),
        ((authentication(pod_identity={"provider": "aws"}),), InvalidInput, "spec.podIdentity cannot be read"),
        ((authentication(hashi_corp_vault={"address": "x"}),), InvalidInput, "spec.hashiCorpVault cannot be read"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(
    objects: tuple[Resource, ...], error: type[PlatformError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read(*objects)
