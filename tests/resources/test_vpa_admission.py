"""VerticalPodAutoscalers as they are admitted."""

import pytest
import yaml
from kserve_files import shared
from test_crds import disagreements

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.scheme import find, resolve
from penstock.resources.structure import _shape
from penstock.resources.vpa import FIELDS, VerticalPodAutoscaler

API = "autoscaling.k8s.io/v1"
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}


def document(**spec):
    return {
        "apiVersion": API,
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"targetRef": TARGET, **spec},
    }


def with_policy(**policy):
    return document(resourcePolicy={"containerPolicies": [{"containerName": "main", **policy}]})


def test_the_short_name_is_kubernetes_own():
    assert resolve("vpa").type is VerticalPodAutoscaler


@pytest.mark.parametrize("kind", ["VerticalPodAutoscaler", "VerticalPodAutoscalerCheckpoint"])
def test_every_field_of_the_published_schema_is_known_with_its_type(kind):
    text = (shared("crds/vpa") / "vpa-v1-crd-gen.yaml").read_text()
    crd = next(crd for crd in yaml.safe_load_all(text) if crd["spec"]["names"]["kind"] == kind)
    schema = next(v for v in crd["spec"]["versions"] if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    found = disagreements(schema, _shape(find(API, kind).type), "")
    # A checkpoint's weights are an open object in the schema, and a map of bucket numbers in fact.
    assert [line for line in found if not line.endswith("bucketWeights: a map here")] == []


def test_all_that_users_write_is_kept():
    admitted = admit(
        document(
            updatePolicy={
                "updateMode": "Recreate",
                "minReplicas": 1,
                "evictAfterOOMSeconds": 60,
                "evictionRequirements": [
                    {"resources": ["cpu"], "changeRequirement": "TargetHigherThanRequests"}
                ],
            },
            resourcePolicy={
                "containerPolicies": [
                    {
                        "containerName": "*",
                        "mode": "Auto",
                        "minAllowed": {"cpu": "100m"},
                        "maxAllowed": {"cpu": 2, "memory": "4Gi"},
                        "controlledResources": ["cpu", "memory"],
                        "controlledValues": "RequestsOnly",
                        "oomBumpUpRatio": "1.5",
                        "oomMinBumpUp": 104857600,
                    }
                ]
            },
        )
    )
    assert admitted.warnings == ()
    policy = admitted.object.spec.resource_policy.container_policies[0]
    assert (policy.max_allowed, policy.oom_bump_up_ratio) == ({"cpu": 2, "memory": "4Gi"}, "1.5")
    assert admitted.object.spec.update_policy.evict_after_oom_seconds == 60


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        (document(targetRef={"kind": "Deployment", "name": ""}), "spec.targetRef.name", "Required"),
        (document(updatePolicy={"updateMode": "Always"}), "spec.updatePolicy.updateMode", "Recreate"),
        (document(updatePolicy={"minReplicas": 0}), "spec.updatePolicy.minReplicas", "equal to 1"),
        (document(recommenders=[{"name": "a"}, {"name": "b"}]), "spec.recommenders", "no more than one"),
        (
            document(updatePolicy={"evictionRequirements": [{"resources": ["gpu"], "changeRequirement": "Up"}]}),
            "spec.updatePolicy.evictionRequirements[0].resources[0]",
            "gpu",
        ),
        (with_policy(containerName=""), "spec.resourcePolicy.containerPolicies[0].containerName", "Required"),
        (with_policy(mode="On"), "spec.resourcePolicy.containerPolicies[0].mode", "Unsupported"),
        (
            with_policy(mode="Off", controlledValues="RequestsOnly"),
            "spec.resourcePolicy.containerPolicies[0].controlledValues",
            "Forbidden",
        ),
        (
            with_policy(minAllowed={"cpu": "2"}, maxAllowed={"cpu": "1"}),
            "spec.resourcePolicy.containerPolicies[0].maxAllowed[cpu]",
            "minAllowed",
        ),
        (
            with_policy(minAllowed={"cpu": "0.5m"}),
            "spec.resourcePolicy.containerPolicies[0].minAllowed[cpu]",
            "milli CPUs",
        ),
        (
            with_policy(minAllowed={"memory": "100m"}),
            "spec.resourcePolicy.containerPolicies[0].minAllowed[memory]",
            "bytes",
        ),
        (with_policy(minAllowed={"memory": "-1"}), "spec.resourcePolicy.containerPolicies[0].minAllowed[memory]", "0"),
        (with_policy(oomBumpUpRatio="0.5"), "spec.resourcePolicy.containerPolicies[0].oomBumpUpRatio", "equal to 1"),
        (document(startupBoost={"cpu": {"type": "Factor"}}), "spec.startupBoost.cpu.factor", "required when"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_refused_with_its_field(wrong, field, says):
    with pytest.raises(Invalid) as caught:
        admit(wrong)
    assert field in [cause.field for cause in caught.value.causes]
    assert says in str(caught.value)


def test_two_policies_for_one_container_are_refused():
    policies = [{"containerName": "main"}, {"containerName": "main", "mode": "Off"}]
    with pytest.raises(Invalid, match="Duplicate"):
        admit(document(resourcePolicy={"containerPolicies": policies}))


@pytest.mark.parametrize(
    ("mode", "says"), [("Auto", "deprecated"), ("InPlaceOrRecreate", "acts as Recreate"), ("InPlace", "acts as Initial")]
)  # fmt: skip
def test_a_mode_that_acts_otherwise_than_written_is_accepted_with_a_warning(mode, says):
    assert any(says in text for text in admit(document(updatePolicy={"updateMode": mode})).warnings)


def test_every_field_of_the_table_has_four_columns():
    assert all(len(row) == 4 and all(row) for row in FIELDS)
