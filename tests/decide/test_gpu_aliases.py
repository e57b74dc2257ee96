"""What pods say of types of GPU holds at every provider: selectors, affinities with all operators, conditions of claims."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import Gpu
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.gpu_aliases import plain, with_product_names
from penstock.decide.gpu_class import CLASS_KEYS
from penstock.decide.node_rules import GPU_TYPES, preference, wanted
from penstock.decide.selector_conflict import contradiction
from penstock.resources.core import Node
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

TYPES = load_gpu_types()
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODES = {
    name: Node(metadata=ObjectMeta(name=name, annotations={GPU_TYPES: types} if types else {}))
    for name, types in (("l4", "l4"), ("h100", "h100-80gb"), ("mixed", "a100-80gb,l4"), ("cpu", ""))
}


def pod(
    *expressions: dict[str, Any], selector: dict[str, str] | None = None, gpus: int = 1, **affinity: Any
) -> Pod:
    terms = {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]} if expressions else None
    node = {**({REQUIRED: terms} if terms else {}), **affinity}
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container = Container(name="c", resources=ResourceRequirements(limits=limits))
    spec = PodSpec(containers=(container,), node_selector=selector or {}, affinity={"nodeAffinity": node})
    return Pod(metadata=ObjectMeta(name="p"), spec=spec)


def condition(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def nodes(given: Pod, *, asks: bool = True) -> set[str]:
    meant = plain(given, TYPES, asks=asks)
    return {name for name, node in NODES.items() if wanted(meant, node)}


@pytest.mark.parametrize("key", CLASS_KEYS)
def test_any_providers_key_means_the_type_wherever_it_is(key: str) -> None:
    assert nodes(pod(condition(key, "In", "l4"))) == {"l4", "mixed"}


@pytest.mark.parametrize(
    ("operator", "values", "there"),
    [
        ("In", ("nvidia-l4", "h100-80gb"), {"l4", "h100", "mixed"}),
        ("NotIn", ("nvidia-l4",), {"h100", "mixed", "cpu"}),
        ("NotIn", ("nvidia-l4", "a100-80gb"), {"h100", "cpu"}),
        ("Exists", (), {"l4", "h100", "mixed"}),
        ("DoesNotExist", (), {"cpu"}),
        ("Gt", ("4",), set()),
        ("Lt", ("4",), set()),
    ],
)
def test_all_operators_of_a_required_affinity_hold_for_types(
    operator: str, values: tuple[str, ...], there: set[str]
) -> None:
    assert nodes(pod(condition("cloud.google.com/gke-accelerator", operator, *values))) == there


def test_a_preferred_affinity_counts_for_nodes_with_such_gpus() -> None:
    weighed = [
        {"weight": 7, "preference": {"matchExpressions": [condition("accelerator", "In", "nvidia-l4")]}},
        {"weight": 2, "preference": {"matchExpressions": [condition("gpu.nvidia.com/class", "NotIn", "L4")]}},
    ]
    meant = plain(pod(**{PREFERRED: weighed}), TYPES, asks=True)
    assert {name: preference(meant, node) for name, node in NODES.items()} == {
        "l4": 7,
        "h100": 2,
        "mixed": 9,
        "cpu": 2,
    }


def test_a_label_that_a_node_does_have_counts_as_ever() -> None:
    labelled = Node(metadata=ObjectMeta(name="x", labels={"accelerator": "own-name"}))
    own = plain(pod(condition("accelerator", "In", "own-name", "nvidia-l4")), TYPES, asks=True)
    assert wanted(own, labelled)
    assert not wanted(plain(pod(condition("accelerator", "NotIn", "own-name")), TYPES, asks=True), labelled)


def test_the_selector_of_a_pod_without_gpus_keeps_its_meaning() -> None:
    given = pod(selector={"karpenter.k8s.aws/instance-gpu-name": "l4", "a": "b"}, gpus=0)
    assert nodes(given, asks=False) == set()
    only = pod(selector={"karpenter.k8s.aws/instance-gpu-name": "l4"}, gpus=0)
    assert nodes(only, asks=False) == {"l4", "mixed"}


def test_the_devices_that_a_pod_gets_are_of_the_types_that_its_affinity_leaves() -> None:
    gpus = tuple(
        Gpu(index=i, uuid=name, type=find_gpu_type(name)) for i, name in enumerate(("l4", "a100-80gb", "t4"))
    )
    fleet = Fleet(gpus=gpus, types=TYPES)

    def types(*expressions: dict[str, Any], **more: Any) -> Any:
        found = asked(pod(*expressions, **more), fleet)
        return found if isinstance(found, str) else set(found[0].types)

    assert types(condition("accelerator", "In", "nvidia-l4", "nvidia-tesla-t4")) == {"l4", "t4"}
    assert types(condition("nvidia.com/gpu.product", "NotIn", "NVIDIA-L4")) == {"a100-80gb", "t4"}
    assert types(condition("zone", "In", "a")) == set()
    assert types(
        condition("accelerator", "In", "nvidia-l4"), selector={"gpu.nvidia.com/class": "A100_NVLINK_80GB"}
    ) == (
        "nodeSelector and node affinity contradict each other: no GPU is gpu.nvidia.com/class: A100_NVLINK_80GB "
        "(that is a100-80gb) and accelerator In [nvidia-l4] (that is l4); leave all but one of them out"
    )
    every = ("nvidia-l4", "nvidia-tesla-t4", "a100-80gb")
    assert "no GPU that is here is allowed by the node affinity" in types(
        condition("accelerator", "NotIn", *every)
    )


def test_two_spellings_of_one_type_do_not_contradict_each_other() -> None:
    given = pod(condition("accelerator", "In", "nvidia-l4"), selector={"accelerator": "L4"})
    assert contradiction(given)
    assert not contradiction(plain(given, TYPES, asks=True))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{} == 'nvidia-l4'", "({} in ['NVIDIA L4', 'nvidia-l4'])"),
        ('{} != "l4" && true', "!({} in ['NVIDIA L4', 'l4']) && true"),
        ("{} in ['l4', 'Tesla T4']", "({} in ['NVIDIA L4', 'l4', 'Tesla T4'])"),
        ("{} == 'NVIDIA L4'", "{} == 'NVIDIA L4'"),
        ("{} == 'unheard of'", "{} == 'unheard of'"),
        ("{}.contains('l4')", "{}.contains('l4')"),
    ],
)
def test_conditions_of_claims_understand_other_names_of_a_product(written: str, meant: str) -> None:
    product = "device.attributes['gpu.nvidia.com'].productName"
    assert with_product_names(written.format(product), TYPES) == meant.format(product)
