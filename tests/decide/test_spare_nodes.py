from __future__ import annotations

import pytest
from msgspec.structs import replace

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DeviceRequest, Gpu, Share
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.placement import Placement, place
from penstock.decide.prices import Quote
from penstock.decide.spare_nodes import AFTER_S, Spare, spare, use
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta, OwnerReference
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

NOW = 1_000_000.0
LONG = dict.fromkeys("abc", NOW - AFTER_S)
L4 = find_gpu_type("l4")


def node(name: str) -> Node:
    status = NodeStatus(
        allocatable={"cpu": "4", "memory": "16Gi", "pods": "110"},
        conditions=(Condition(type="Ready", status="True"),),
    )
    return Node(metadata=ObjectMeta(name=name), status=status)


def pod(name: str, on: str, cpu: str = "1", owner: str = "ReplicaSet", **annotations: str) -> Pod:
    owners = (OwnerReference(api_version="apps/v1", kind=owner, name="o", uid="o", controller=True),)
    limits = ResourceRequirements(limits={"cpu": cpu})
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace="default",
            uid=name,
            annotations=annotations,
            owner_references=owners if owner else (),
        ),
        spec=PodSpec(node_name=on, containers=(Container(name="main", resources=limits),)),
    )


def placed(one: Pod, stock: Inventory, requests: tuple[DeviceRequest, ...]) -> Placement:
    return place(one, stock, requests)


def asked(*pods: Pod, since: dict[str, float] = LONG, **usd: float) -> Spare:
    stock = take_stock([node(name) for name in "abc"], pods)
    quotes = {name: Quote(round(price * 1e6), "a test") for name, price in usd.items()}
    return spare(stock, since, NOW, placed, {}, quotes)


def test_nodes_whose_pods_have_places_on_those_that_stay_can_go_the_dearest_first() -> None:
    found = asked(pod("p", "a"), pod("q", "b"), pod("r", "c"), b=3.0, c=2.0, a=1.0)
    assert found.go == ("b", "c")
    assert found.kept == (("a", "the only node that is left"),)


def test_a_node_of_which_more_than_half_is_used_stays_without_a_word() -> None:
    found = asked(pod("p", "a", cpu="3"), pod("q", "b", cpu="3"), pod("r", "c", cpu="3"))
    assert (found.go, found.kept, dict(found.since)) == ((), (), {})


def test_places_are_counted_one_after_another() -> None:
    found = asked(pod("p", "a", cpu="2"), pod("q", "b", cpu="2"), pod("r", "c", cpu="2"))
    assert found.go == ("a",)
    assert all("finds no room elsewhere: 0/1 nodes are available" in why for _, why in found.kept)


def test_a_node_stays_until_it_was_hardly_used_long_enough() -> None:
    first = asked(pod("p", "a", cpu="3"), pod("q", "b", cpu="3"), since={})
    assert (first.go, first.since) == ((), {"c": NOW})
    assert first.kept == (("c", "hardly used for 0 s, goes after 600 s"),)
    busy = asked(*(pod(f"p{n}", n, cpu="3") for n in "abc"), since={"c": NOW - 500})
    assert busy.since == {}


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (pod("p", "a", owner=""), "default/p has no controller that would make it anew"),
        (pod("p", "a", **{"karpenter.sh/do-not-disrupt": "true"}), "says karpenter.sh/do-not-disrupt: true"),
        (
            pod("p", "a", **{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}),
            "says cluster-autoscaler.kubernetes.io/safe-to-evict: false",
        ),
        (
            pod("p", "a", **{"penstock.dev/gang": "g", "penstock.dev/gang-size": "2"}),
            "default/p is of a gang",
        ),
    ],
)
def test_pods_that_must_not_be_moved_keep_their_node(one: Pod, why: str) -> None:
    assert why in dict(asked(one, a=9.0).kept)["a"]


def test_a_daemons_pods_go_with_their_node() -> None:
    assert "a" in asked(*(pod(f"d{n}", n, owner="DaemonSet") for n in "abc"), a=9.0).go


def test_of_a_node_with_gpus_their_use_counts() -> None:
    gpu = Gpu(index=0, uuid="g", type=L4)
    stock = take_stock([node("a")], [], {"a": (gpu,)})
    assert use(stock.rooms["a"]) == 0
    half = Share(gpu="g", milli=500)
    held = stock.with_(replace(pod("p", "", cpu="4")), "a", (half,))
    assert use(held.rooms["a"]) == 0.5
