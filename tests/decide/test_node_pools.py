from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.app.gpu_types import find_gpu_type
from penstock.contracts.devices import DeviceRequest, Gpu
from penstock.decide.gang import Member
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.node_pools import MOST_ADDED, Growth, NodePool, Unit, grow
from penstock.decide.placement import NO_MIX, Placement, place
from penstock.decide.prices import Quote
from penstock.resources.core import Node, NodeSpec, NodeStatus, Taint
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements

H100 = find_gpu_type("h100-80gb")
NOTHING = Inventory({})


def node(name: str, taints: tuple[Taint, ...] = ()) -> Node:
    status = NodeStatus(
        allocatable={"cpu": "64", "memory": "512Gi", "pods": "110"},
        conditions=(Condition(type="Ready", status="True"),),
    )
    return Node(metadata=ObjectMeta(name=name), spec=NodeSpec(taints=taints), status=status)


def pool(name: str, gpus: int, usd: float | None, most: int = 8, **more: tuple[Taint, ...]) -> NodePool:
    quote = Quote(None if usd is None else round(usd * 1e6), "a test")
    devices = tuple(Gpu(index=i, uuid=f"{name}-{i}", type=H100) for i in range(gpus))
    return NodePool(name=name, node=node(name, **more), gpus=devices, quote=quote, most=most)


def unit(name: str, gpus: int, pods: int = 1) -> Unit:
    """A pod, or a gang of pods, each with whole GPUs."""
    members = []
    for i in range(pods):
        limits = ResourceRequirements(limits={"cpu": "1"})
        spec = PodSpec(containers=(Container(name="main", resources=limits),))
        pod = Pod(metadata=ObjectMeta(name=f"{name}-{i}", namespace="default", uid=f"{name}-{i}"), spec=spec)
        members.append(Member(pod, (DeviceRequest(resource="nvidia.com/gpu", count=gpus),) if gpus else ()))
    return Unit(name, tuple(members))


def placed(pod: Pod, stock: Inventory, requests: tuple[DeviceRequest, ...]) -> Placement:
    return place(pod, stock, requests)


def grown(queue: list[Unit], *pools: NodePool, have: Inventory = NOTHING) -> Growth:
    return grow(queue, have, pools, placed, NO_MIX)


ONE, EIGHT = pool("one", 1, 2.95), pool("eight", 8, 23.60)


def test_no_node_is_needed_where_what_waits_has_room() -> None:
    have = take_stock([node("n")], [], {"n": (Gpu(index=0, uuid="g", type=H100),)})
    assert grown([unit("a", 1)], ONE, have=have).add == {}
    assert grown([], ONE).add == {}


def test_only_those_behind_the_ones_that_have_room_count() -> None:
    have = take_stock([node("n")], [], {"n": (Gpu(index=0, uuid="g", type=H100),)})
    found = grown([unit("a", 1), unit("b", 1)], ONE, have=have)
    assert (found.add, found.served) == ({"one": 1}, (("b", ("one-1",)),))


def test_the_node_that_costs_least_for_what_is_asked_is_taken_and_the_second_is_named() -> None:
    found = grown([unit("a", 1)], EIGHT, ONE)
    assert (found.add, found.usd_micros) == ({"one": 1}, 2_950_000)
    assert found.reasons == ("a node of one at 2.95 USD/h would have room for a, who ask for 100 % of it",)
    assert found.runner_up.startswith(
        "a node of eight at 23.60 USD/h would have room for a, who ask for 12 %"
    )


def test_many_pods_take_the_large_node_once_it_is_the_cheaper_one() -> None:
    queue = [unit(f"p{i}", 1) for i in range(8)]
    assert grown(queue, ONE, pool("eight", 8, 20.0)).add == {"eight": 1}
    assert grown(queue[:6], ONE, pool("eight", 8, 20.0)).usd_micros == 6 * 2_950_000


def test_a_node_that_turns_out_to_be_spare_is_left_out() -> None:
    found = grown([unit("small", 1), unit("large", 4)], pool("one", 1, 1.0), pool("eight", 8, 16.0))
    assert found.add == {"eight": 1}
    assert dict(found.served) == {"small": ("eight-1",), "large": ("eight-1",)}
    assert "one-1 is not needed after all" in found.reasons[-1]


def test_a_gang_gets_all_of_its_nodes_or_none() -> None:
    gang = unit("gang", 8, pods=2)
    found = grown([gang], ONE, EIGHT)
    assert (found.add, sorted(dict(found.served)["gang"])) == ({"eight": 2}, ["eight-1", "eight-2"])
    alone = grown([gang], pool("eight", 8, 23.6, most=1))
    assert (alone.add, [name for name, _ in alone.left]) == ({}, ["gang"])


def test_a_pool_without_a_price_is_the_last_choice_and_its_cost_is_not_known() -> None:
    assert grown([unit("a", 1)], pool("free", 1, None), EIGHT).add == {"eight": 1}
    found = grown([unit("a", 1)], pool("free", 1, None))
    assert (found.add, found.usd_micros) == ({"free": 1}, None)


def test_a_pool_gives_no_more_nodes_than_it_may() -> None:
    found = grown([unit("a", 1), unit("b", 1)], pool("one", 1, 2.0, most=1))
    assert (found.add, found.left) == (
        {"one": 1},
        (("b", "all nodes that the pools may add are taken by others"),),
    )


def test_one_answer_adds_so_many_nodes_and_says_to_ask_again() -> None:
    found = grown([unit(f"p{i}", 1) for i in range(MOST_ADDED + 1)], pool("one", 1, 1.0, most=MOST_ADDED + 1))
    assert found.add == {"one": MOST_ADDED}
    assert [why for _, why in found.left] == [
        "no more than 64 nodes are added at once: ask again when they are there"
    ]


def test_whom_no_pool_helps_is_told_why_and_brings_no_node_up() -> None:
    taint = Taint(key="team", value="x", effect="NoSchedule")
    found = grown([unit("a", 2)], ONE, pool("tainted", 2, 1.0, taints=(taint,)))
    assert found.add == {}
    ((name, why),) = found.left
    assert name == "a"
    assert why.startswith(
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) had untolerated taint"
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 8), max_size=12), st.integers(1, 6))
def test_everyone_is_served_or_left_once_and_the_sum_is_right(sizes: list[int], most: int) -> None:
    pools = (pool("one", 1, 3.0, most), pool("four", 4, 11.0, most), pool("eight", 8, 25.0, most))
    queue = [unit(f"p{i}", gpus) for i, gpus in enumerate(sizes)]
    found = grow(queue, NOTHING, pools, placed, NO_MIX)
    names = [name for name, _ in found.served] + [name for name, _ in found.left]
    assert sorted(names) == sorted(one.name for one in queue)
    assert all(count <= most for count in found.add.values())
    price = {"one": 3_000_000, "four": 11_000_000, "eight": 25_000_000}
    assert found.usd_micros == sum(price[name] * count for name, count in found.add.items())
    used = {name for _, nodes in found.served for name in nodes}
    assert len(used) == sum(found.add.values())
