from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from penstock.app.node_pools import Pools, karpenter_objects, read_pools
from penstock.app.prices import load_prices
from penstock.kit.errors import InvalidInput

CRD = Path(__file__).parents[3] / "shared" / "crds" / "karpenter" / "karpenter.sh_nodepools.yaml"
CLASS = "{group: karpenter.k8s.aws, kind: EC2NodeClass, name: default}"
FILE = f"""
pools:
- name: h100
  provider: nebius
  instanceType: gpu-h100-sxm_1gpu-16vcpu-200gb
  cpu: "16"
  memory: 200Gi
  gpus: [{{type: h100}}]
  most: 4
  taints: [{{key: nvidia.com/gpu, value: present, effect: NoSchedule}}]
  nodeClass: {CLASS}
- name: l40s
  provider: nebius
  spot: true
  cpu: "8"
  memory: 32Gi
  gpus: [{{type: l40s}}]
  labels: {{team: research, kubernetes.io/arch: amd64}}
  consolidateAfter: 1h
  nodeClass: {CLASS}
- name: cheap
  provider: lambda
  cpu: "56"
  gpus: [{{type: a6000, count: 4}}]
  nodeClass: {CLASS}
"""


def pools(text: str, folder: Path) -> Pools:
    path = folder / "pools.yaml"
    path.write_text(text)
    return read_pools(path, load_prices(folder / "prices.yaml"))


def test_prices_are_found_by_instance_type_and_by_gpu_and_are_else_unknown(tmp_path: Path) -> None:
    quotes = {pool.name: pool.quote for pool in pools(FILE, tmp_path).known}
    assert quotes["h100"].usd_micros == 2_950_000
    assert quotes["cheap"].usd_micros == 4_360_000
    assert (quotes["l40s"].usd_micros, quotes["l40s"].because) == (None, "there is no spot price of l40s")


def test_a_node_that_does_not_exist_yet_has_the_labels_that_it_will_have(tmp_path: Path) -> None:
    labels = pools(FILE, tmp_path).known[0].node.metadata.labels
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert labels["node.kubernetes.io/instance-type"] == "gpu-h100-sxm_1gpu-16vcpu-200gb"


def test_what_is_printed_for_karpenter_fits_its_published_schema(tmp_path: Path) -> None:
    if not CRD.is_file():
        pytest.skip("../shared is absent")
    crd = yaml.safe_load(CRD.read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found = karpenter_objects(pools(FILE, tmp_path))
    for document in found:
        jsonschema.Draft7Validator(_strict(schema)).validate(document)
    assert [one["apiVersion"] for one in found] == ["karpenter.sh/v1"] * 3


def _strict(schema: Any) -> Any:
    """The API server prunes what a schema does not name; here it is a mistake."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        strict.setdefault("additionalProperties", False)
    return strict


def test_karpenter_is_told_what_to_ask_for_and_what_it_will_find(tmp_path: Path) -> None:
    h100, l40s, cheap = karpenter_objects(pools(FILE, tmp_path))
    template = l40s["spec"]["template"]
    assert {one["key"]: one["values"] for one in template["spec"]["requirements"]} == {
        "karpenter.sh/capacity-type": ["spot"],
        "kubernetes.io/arch": ["amd64"],
        "kubernetes.io/os": ["linux"],
    }
    assert template["metadata"]["labels"]["team"] == "research"
    assert template["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-L40S"
    assert h100["spec"]["template"]["spec"]["taints"] == [
        {"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}
    ]
    assert h100["spec"]["limits"] == {"cpu": "64", "memory": "800Gi", "nvidia.com/gpu": "4"}
    assert l40s["spec"]["disruption"] == {
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
        "consolidateAfter": "1h",
    }
    assert (cheap["spec"]["weight"], h100["spec"]["weight"], "weight" in l40s["spec"]) == (100, 99, False)


def test_a_pool_of_which_karpenter_could_make_no_node_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"pools\[0\].nodeClass: found nothing"):
        karpenter_objects(pools("pools: [{name: a, gpus: [{type: l4}]}]", tmp_path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pools: []", "pools: found no list of 1 to 64"),
        ("a: [", "is not YAML"),
        ("pools: [3]", r"pools\[0\]: found 3"),
        ("pools: [{name: a, instancetype: b}]", r"pools\[0\]: there is no field 'instancetype'"),
        ("pools: [{name: a}, {name: a}]", r"pools\[1\].name: found 'a', which another pool has"),
        ("pools: [{name: a, most: 0}]", r"pools\[0\].most: found 0"),
        ("pools: [{name: A_b}]", r"pools\[0\].name: found 'A_b'"),
        ("pools: [{name: a, cpu: 4 cores}]", r"pools\[0\].cpu: "),
        ("pools: [{name: a, spot: maybe}]", r"pools\[0\].spot: "),
        ("pools: [{name: a, consolidateAfter: soon}]", r"consolidateAfter: found 'soon'"),
        ("pools: [{name: a, gpus: [{type: h101}]}]", r"pools\[0\].gpus\[0\].type: .* 'h101'"),
        ("pools: [{name: a, taints: [{key: x}]}]", r"pools\[0\].taints: .*effect"),
        ("pools: [{name: a, nodeClass: {group: g, kind: k}}]", r"pools\[0\].nodeClass: .*name"),
    ],
)
def test_a_mistake_is_told_with_its_pool_and_field(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        pools(text, tmp_path)


def test_a_file_that_is_not_there_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pools(tmp_path / "absent.yaml", ())
