"""ScaledObjects against KEDA's published schemas and its refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from test_crds import disagreements

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.keda import (
    ClusterTriggerAuthentication,
    ScaledObject,
    TriggerAuthentication,
)
from penstock.resources.keda_fields import FIELDS
from penstock.resources.structure import _shape

CRDS = Path(__file__).parents[3] / "shared" / "crds" / "keda"
REDIS = {"type": "redis", "metadata": {"listName": "jobs", "address": "h:1"}}
CPU = {"type": "cpu", "metadata": {"value": "60"}}


def schema(plural: str) -> dict[str, object]:
    file = CRDS / f"keda.sh_{plural}.yaml"
    if not file.exists():
        pytest.skip("../shared is absent")
    crd = yaml.safe_load(file.read_text())
    found: dict[str, object] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("kind", [ScaledObject, TriggerAuthentication, ClusterTriggerAuthentication])
def test_every_field_of_keda_s_schema_is_known_with_its_type(kind: type) -> None:
    assert list(disagreements(schema(f"{kind.__name__.lower()}s"), _shape(kind), "")) == []


def leaves(node: dict[str, object], path: str) -> list[str]:
    if path.endswith((".behavior", ".metadata")) and "properties" not in node.get("items", {}):
        return [path]
    if node.get("type") == "array":
        return leaves(node["items"], f"{path}[]")  # type: ignore[arg-type]
    if "properties" in node:
        found = [leaves(inner, f"{path}.{name}") for name, inner in node["properties"].items()]  # type: ignore[attr-defined]
        return [leaf for one in found for leaf in one]
    return [path]


def test_the_reference_says_of_each_field_of_the_spec_what_is_done_with_it() -> None:
    properties = schema("scaledobjects")["properties"]
    wanted = set(leaves(properties["spec"], "spec"))  # type: ignore[index]
    said = {field for field, *_ in FIELDS if field.startswith("spec.")}
    assert said == wanted
    assert len({field for field, *_ in FIELDS}) == len(FIELDS)


def document(*triggers: dict[str, object], **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {
            "name": spec.pop("name", "web"),
            "namespace": "default",
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {"scaleTargetRef": {"name": "web"}, "triggers": list(triggers) or [REDIS], **spec},
    }


def modified(**modifiers: object) -> dict[str, object]:
    return {"advanced": {"scalingModifiers": modifiers}}


def named(name: str) -> dict[str, object]:
    return {**REDIS, "name": name}


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        (document(CPU), "spec.minReplicaCount", "cannot scale to 0"),
        (document(CPU, {**CPU, "type": "memory"}), "spec.minReplicaCount", "cannot scale to 0"),
        (document(CPU, minReplicaCount=1, idleReplicaCount=0), "spec.minReplicaCount", "cannot scale to 0"),
        (document(minReplicaCount=5, maxReplicaCount=4), "spec.minReplicaCount", "must be less than MaxReplicaCount=4"),
        (document(minReplicaCount=101), "spec.minReplicaCount", "must be less than MaxReplicaCount=100"),
        (document(idleReplicaCount=1, minReplicaCount=1), "spec.idleReplicaCount", "must be less than MinReplicaCount=1"),
        (document(idleReplicaCount=0), "spec.idleReplicaCount", "must be less than MinReplicaCount=0"),
        (document(pollingInterval=0), "spec.pollingInterval", "greater than or equal to 1"),
        (document(cooldownPeriod=-1), "spec.cooldownPeriod", "greater than or equal to 0"),
        (document(initialCooldownPeriod=-1), "spec.initialCooldownPeriod", "greater than or equal to 0"),
        (document(maxReplicaCount=0), "spec.maxReplicaCount", "greater than or equal to 1"),
        (document(name="x" * 55), "metadata.name", "no more than 63 characters"),
        (
            document(advanced={"horizontalPodAutoscalerConfig": {"name": "y" * 64}}),
            "spec.advanced.horizontalPodAutoscalerConfig.name",
            "no more than 63 characters",
        ),
        (
            document(advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": {"selectPolicy": "Best"}}}}),
            "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.selectPolicy",
            "Best",
        ),
        (document({"type": "rabitmq", "metadata": {}}), "spec.triggers[0].type", 'did you mean "rabbitmq"?'),
        (
            document({"type": "redis", "metadata": {"listname": "jobs"}}),
            "spec.triggers[0].metadata[listname]",
            'did you mean "listName"?',
        ),
        (document({"type": "redis", "metadata": {}}), "spec.triggers[0].metadata[listName]", "Required"),
        (
            document({**REDIS, "metadata": {"listName": "j", "listLength": "nan"}}),
            "spec.triggers[0].metadata[listLength]",
            "number > 0",
        ),
        (
            document({**REDIS, "metadata": {"listName": "j", "databaseIndex": "-1"}}),
            "spec.triggers[0].metadata[databaseIndex]",
            "integer ≥ 0",
        ),
        (
            document({"type": "rabbitmq", "metadata": {"queueName": "q", "host": "amqp://h", "mode": "Length"}}),
            "spec.triggers[0].metadata[mode]",
            "QueueLength",
        ),
        (document({**REDIS, "metricType": "Utilization"}), "spec.triggers[0].metricType", "AverageValue"),
        (document({**CPU, "metricType": "Value"}, REDIS), "spec.triggers[0].metricType", "Utilization"),
        (document({"type": "cpu", "metadata": {"value": "0.5"}}, REDIS), "spec.triggers[0].metadata[value]", "whole"),
        (document({"type": "cpu", "metadata": {"value": "lots"}}, REDIS), "spec.triggers[0].metadata[value]", "lots"),
        (document({**CPU, "useCachedMetrics": True}, REDIS), "spec.triggers[0].useCachedMetrics", "not supported"),
        (document(named("a"), named("a")), "spec.triggers[1].name", "Duplicate"),
        (
            document({**REDIS, "authenticationRef": {"name": "a", "kind": "Secret"}}),
            "spec.triggers[0].authenticationRef.kind",
            "TriggerAuthentication",
        ),
        (document(fallback={"failureThreshold": -1, "replicas": 1}), "spec.fallback.failureThreshold", "≥ 0|or equal to 0"),
        (document(fallback={"failureThreshold": 1, "replicas": -1}), "spec.fallback.replicas", "or equal to 0"),
        (
            document(fallback={"failureThreshold": 1, "replicas": 1, "behavior": "dynamic"}),
            "spec.fallback.behavior",
            "currentReplicas",
        ),
        (
            document(fallback={"failureThreshold": 1, "replicas": 1, "behavior": "scalingModifiers"}),
            "spec.fallback.behavior",
            "formula",
        ),
        (
            document(CPU, minReplicaCount=1, fallback={"failureThreshold": 1, "replicas": 1}),
            "spec.fallback",
            "no fallback",
        ),
        (document(**modified(target="1")), "spec.advanced.scalingModifiers.formula", "Required"),
        (document(named("a"), **modified(formula="a")), "spec.advanced.scalingModifiers.target", "Required"),
        (document(named("a"), **modified(formula="a", target="0")), "spec.advanced.scalingModifiers.target", "> 0"),
        (
            document(named("a"), **modified(formula="a", target="1", activationTarget="x")),
            "spec.advanced.scalingModifiers.activationTarget",
            "≥ 0",
        ),
        (
            document(named("jobs"), **modified(formula="job + 1", target="1")),
            "spec.advanced.scalingModifiers.formula",
            "did you mean jobs",
        ),
        (document(named("a"), **modified(formula="a +", target="1")), "spec.advanced.scalingModifiers.formula", "the end"),
        (document(named("a-b"), **modified(formula="1", target="1")), "spec.triggers[0].name", "letters"),
        (document(named("max"), **modified(formula="1", target="1")), "spec.triggers[0].name", "no function"),
        (
            document(annotations={"autoscaling.keda.sh/paused": "yes"}),
            "metadata.annotations[autoscaling.keda.sh/paused]",
            "true or false",
        ),
        (
            document(annotations={"autoscaling.keda.sh/paused-replicas": "-1"}),
            "metadata.annotations[autoscaling.keda.sh/paused-replicas]",
            "integer ≥ 0",
        ),
        ({**document(), "spec": {"scaleTargetRef": {"name": "web"}, "triggers": []}}, "spec.triggers", "at least one"),
        (document(scaleTargetRef={"name": "web", "kind": "StatefulSet"}), "spec.scaleTargetRef.kind", "Deployment"),
        (document(scaleTargetRef={"name": ""}), "spec.scaleTargetRef.name", "Required"),
    ],
)  # fmt: skip
def test_what_keda_refuses_is_refused_by_its_path(given: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        admit(given)
    causes = {cause.field: cause.message for cause in caught.value.causes}
    assert field in causes
    assert re.search(said, causes[field])


@pytest.mark.parametrize(
    "given",
    [
        document(),
        document(CPU, minReplicaCount=1),
        document(CPU, REDIS),
        document(minReplicaCount=2, idleReplicaCount=0),
        document(minReplicaCount=5, maxReplicaCount=5),
        document({"type": "rabbitmq", "metadata": {"queueName": "q", "hostFromEnv": "HOST"}}),
        document({"type": "rabbitmq", "metadata": {"queueName": "q"}, "authenticationRef": {"name": "auth"}}),
        document(named("a"), **modified(formula="a ?? 1", target="1", activationTarget="0")),
        document(
            annotations={"autoscaling.keda.sh/paused-replicas": "0", "autoscaling.keda.sh/paused": "True"}
        ),
    ],
)
def test_what_keda_takes_is_taken_without_a_word(given: dict[str, object]) -> None:
    assert admit(given, strict=True).warnings == ()


def test_a_parameter_is_given_once() -> None:
    given = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "auth", "namespace": "default"},
        "spec": {
            "secretTargetRef": [{"parameter": "host", "name": "s", "key": "k"}],
            "env": [{"parameter": "host", "name": "HOST"}],
        },
    }
    with pytest.raises(Invalid) as caught:
        admit(given)
    assert [cause.field for cause in caught.value.causes] == ["spec.env[0].parameter"]


def test_the_manifests_of_the_guide_are_taken_without_a_word() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "howto" / "scale-by-events.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    found = [one for block in blocks for one in yaml.safe_load_all(block)]
    assert [one["kind"] for one in found].count("ScaledObject") == 2
    for one in found:
        one["metadata"]["namespace"] = "default"
        assert admit(one, strict=True).warnings == ()
