from __future__ import annotations

from typing import Any

import pytest

from penstock.app.gpu_types import load_gpu_types
from penstock.decide.gpu_affinity import REQUIRED, with_provider_labels, without_provider_labels
from penstock.decide.gpu_class import CLASS_KEYS, types_named
from penstock.decide.node_rules import wanted
from penstock.resources.core import Node
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec

TYPES = load_gpu_types()


def terms(spec: PodSpec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec.affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    return found


def values(spec: PodSpec) -> dict[str, list[str]]:
    """By label, of terms that have one expression each."""
    return {term["matchExpressions"][0]["key"]: term["matchExpressions"][0]["values"] for term in terms(spec)}


def anywhere(**selector: str) -> PodSpec:
    return with_provider_labels(
        PodSpec(node_selector={k.replace("__", "/"): v for k, v in selector.items()}), TYPES
    )


def test_one_name_becomes_the_names_of_all_providers_as_alternatives():
    spec = anywhere(accelerator="h100-80gb")
    assert spec.node_selector == {}
    found = values(spec)
    assert set(found) == set(CLASS_KEYS)
    assert found["nvidia.com/gpu.product"][:2] == ["NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe"]
    assert found["cloud.google.com/gke-accelerator"] == ["nvidia-h100-80gb", "nvidia-h100-mega-80gb"]
    assert found["karpenter.k8s.aws/instance-gpu-name"] == ["h100"]
    assert {"H100_PCIE", "H100_NVLINK_80GB"} <= set(found["gpu.nvidia.com/class"])


def test_a_name_that_may_mean_another_type_too_is_left_out():
    small = values(anywhere(accelerator="a100-40gb"))
    assert "karpenter.k8s.aws/instance-gpu-name" not in small
    assert small["cloud.google.com/gke-accelerator"] == ["nvidia-tesla-a100"]
    both = values(anywhere(accelerator="a100"))
    assert both["karpenter.k8s.aws/instance-gpu-name"] == ["a100"]
    assert both["cloud.google.com/gke-accelerator"] == ["nvidia-tesla-a100", "nvidia-a100-80gb"]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.name)
def test_every_value_means_what_was_asked_for_and_nothing_else(kind):
    found = values(with_provider_labels(PodSpec(node_selector={"accelerator": kind.name}), TYPES))
    assert kind.product in found["nvidia.com/gpu.product"]
    for some in found.values():
        assert some
        assert all(types_named(value, TYPES) == (kind,) for value in some)


def test_terms_that_are_there_hold_beside_each_alternative():
    zones = [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in ("a", "b")
    ]
    preferred = [{"weight": 1, "preference": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}]
    given = {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": zones}, "preferred": preferred},
        "podAffinity": {"a": 1},
    }
    spec = with_provider_labels(
        PodSpec(node_selector={"accelerator": "l4", "pool": "x"}, affinity=given), TYPES
    )
    alone = anywhere(accelerator="l4")
    assert spec.node_selector == {"pool": "x"}
    assert len(terms(spec)) == 2 * len(terms(alone))
    for term in terms(spec):
        assert term["matchExpressions"][0]["key"] == "zone"
        assert len(term["matchExpressions"]) == 2
    assert spec.affinity["podAffinity"] == {"a": 1}
    assert spec.affinity["nodeAffinity"]["preferred"] == preferred


def test_terms_that_match_no_node_go_on_matching_none():
    given = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}]}}}
    spec = PodSpec(node_selector={"accelerator": "l4"}, affinity=given)
    assert with_provider_labels(spec, TYPES) == spec


def test_names_that_mean_nothing_and_configured_products_are_left_to_the_cluster():
    for selector in (
        {"accelerator": "our-own-name"},
        {"nvidia.com/gpu.product": "NVIDIA-L4-SHARED"},
        {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"},
        {"pool": "a100"},
    ):
        spec = PodSpec(node_selector=selector)
        assert with_provider_labels(spec, TYPES) == spec
        assert without_provider_labels(spec, TYPES) == spec


def test_several_names_mean_what_all_of_them_allow():
    spec = PodSpec(node_selector={"accelerator": "a100", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"})
    found = values(with_provider_labels(spec, TYPES))
    assert "a100" not in found["accelerator"]
    assert all(types_named(value, TYPES)[0].name == "a100-80gb" for some in found.values() for value in some)


def test_only_types_that_will_do_are_named():
    spec = with_provider_labels(
        PodSpec(node_selector={"accelerator": "a100"}), TYPES, frozenset({"a100-80gb"})
    )
    assert values(spec)["cloud.google.com/gke-accelerator"] == ["nvidia-a100-80gb"]


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("nvidia.com/gpu.product", "NVIDIA-H100-PCIe"),
        ("cloud.google.com/gke-accelerator", "nvidia-h100-80gb"),
        ("karpenter.k8s.aws/instance-gpu-name", "h100"),
        ("gpu.nvidia.com/class", "H100_NVLINK_80GB"),
    ],
)
def test_the_scheduler_takes_a_node_of_any_provider_and_none_with_another_gpu(label: str, value: str):
    spec = with_provider_labels(PodSpec(node_selector={"accelerator": "h100-80gb"}), TYPES)

    def takes(labels: dict[str, str]) -> bool:
        return wanted(Pod(spec=spec), Node(metadata=ObjectMeta(name="n", labels=labels)))

    assert takes({label: value, "other": "x"})
    assert not takes({label: "NVIDIA-L4"})
    assert not takes({"other": value})


def test_a_claim_asks_in_the_place_of_the_selectors():
    spec = PodSpec(node_selector={"accelerator": "a100", "pool": "x"})
    assert without_provider_labels(spec, TYPES).node_selector == {"pool": "x"}
