"""Pods on GPUs: least fragmenting node, replicas apart, and what is said where nothing fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.decide.board import Board
from penstock.decide.fragmentation import Mix, Shape, Worth
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.node_standing import Leaning
from penstock.decide.placement import ZONE, place
from penstock.resources.pod import Pod
from penstock.testing.factories import node

GIB = 1 << 30
T4 = GpuType(name="t4", product="Tesla-T4", memory_bytes=16 * GIB)
V100 = GpuType(name="v100", product="V100", memory_bytes=16 * GIB)
ONE = (DeviceRequest(resource="nvidia.com/gpu"),)
PART = (DeviceRequest(milli=0, memory_bytes=8 * GIB),)


def pod(name: str, owner: str = "", **spec: Any) -> Pod:
    owners = [{"apiVersion": "v1", "kind": "x", "name": owner, "uid": owner}] if owner else []
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}], **spec},
    }
    return msgspec.convert(document, Pod)


def stock(gpus: Mapping[str, int], kind: GpuType = T4, zones: Mapping[str, str] | None = None) -> Inventory:
    nodes = [node(name, cpu="64", labels={ZONE: zones[name]} if zones else None) for name in gpus]
    have = {
        name: tuple(Gpu(index=i, uuid=f"{name}{i}", type=kind) for i in range(count))
        for name, count in gpus.items()
    }
    return take_stock(nodes, [], have)


def fill(inventory: Inventory, count: int, requests: tuple[DeviceRequest, ...], owner: str = "") -> Inventory:
    for number in range(count):
        one = pod(f"{owner or 'p'}{number}", owner)
        found = place(one, inventory, requests)
        assert found.node, found.message
        inventory = inventory.with_(one, found.node, found.shares)
    return inventory


def test_parts_fill_a_gpu_before_they_open_another() -> None:
    have = fill(stock({"a": 2, "b": 2}), 3, PART)
    assert sorted(len(gpu.holders) for room in have.rooms.values() for gpu in room.gpus) == [0, 0, 1, 2]


def test_nodes_of_eight_stay_whole_for_those_who_need_eight() -> None:
    worth = Worth(Mix(((Shape(1000, 8, 1000), 0.5), (Shape(1000, 1, 1000), 0.5))))
    have = stock({"big": 8, "small": 2})
    for number in range(2):
        one = pod(f"p{number}")
        found = place(one, have, ONE, worth=worth)
        assert found.node == "small"
        have = have.with_(one, found.node, found.shares)


def test_pods_without_gpus_stay_off_gpu_nodes_where_another_fits() -> None:
    nodes = [node("gpu", cpu="64"), node("plain", cpu="2")]
    have = take_stock(nodes, [], {"gpu": (Gpu(index=0, uuid="g", type=T4),)})
    first = place(pod("a"), have)
    assert first.node == "plain"
    have = have.with_(pod("a"), "plain").with_(pod("b"), "plain")
    assert place(pod("c"), have).node == "gpu"


def test_replicas_that_ask_for_gpus_are_on_two_nodes_and_then_packed() -> None:
    have = fill(stock({"a": 4, "b": 4, "c": 4}), 4, ONE, owner="service")
    counts = sorted(sum(not gpu.is_whole for gpu in room.gpus) for room in have.rooms.values())
    assert counts[0] == 0
    assert counts[1] >= 1


def test_replicas_are_in_two_zones_where_there_are_zones() -> None:
    have = fill(
        stock({"a": 4, "b": 4, "c": 4}, zones={"a": "x", "b": "x", "c": "y"}), 2, ONE, owner="service"
    )
    used = [name for name, room in have.rooms.items() if room.held]
    assert "c" in used
    assert len(used) == 2


def test_two_replicas_share_a_gpu_only_when_no_other_has_room() -> None:
    have = fill(stock({"a": 2, "b": 1}), 3, PART, owner="service")
    assert all(len(gpu.holders) == 1 for room in have.rooms.values() for gpu in room.gpus)
    have = fill(have, 0, PART)
    fourth = place(pod("fourth", "service"), have, PART)
    assert fourth.node
    assert dict(fourth.parts)["shares a GPU with a sibling"] == 1.0


@pytest.mark.parametrize(
    ("leaning", "taken"),
    [
        (Leaning(load_s={"a": 120.0, "b": 2.0}), "b"),
        (Leaning(load_s={"a": 2.0, "b": 120.0}), "a"),
        (Leaning(price={"a": 4.0, "b": 1.0}), "b"),
        (Leaning(price={"a": 1.0, "b": 4.0}), "a"),
    ],
)
def test_a_node_that_has_the_weights_or_costs_less_is_taken_of_equal_ones(
    leaning: Leaning, taken: str
) -> None:
    assert place(pod("p"), stock({"a": 1, "b": 1}), ONE, leaning=leaning).node == taken


def test_what_is_scarce_is_left_to_those_who_insist_on_it() -> None:
    nodes = [node("old"), node("rare")]
    have = take_stock(
        nodes, [], {"old": (Gpu(index=0, uuid="o", type=T4),), "rare": (Gpu(index=0, uuid="r", type=V100),)}
    )
    insisting = Shape(1000, 1, 1000, frozenset({"v100"}))
    worth = Worth(Mix(((insisting, 0.5), (Shape(1000, 1, 1000), 0.5))), {"t4": 1, "v100": 1})
    assert place(pod("p"), have, ONE, worth=worth).node == "old"


@pytest.mark.parametrize(
    ("request_", "hint"),
    [
        (
            DeviceRequest(resource="nvidia.com/gpu", count=3),
            "node b has 2 of 3 GPUs that nobody holds: free it, or request less",
        ),
        (
            DeviceRequest(milli=0, memory_bytes=20 * GIB),
            "node a has at most 16.0Gi of 20.0Gi free on a GPU: free it, or request less",
        ),
        (
            DeviceRequest(resource="nvidia.com/mig-1g.10gb", profile="1g.10gb", milli=0),
            "node a has at most 0 free memory slices on a GPU, and none where 1g.10gb may start: free it, or request less",
        ),
    ],
)
def test_the_hint_names_the_node_that_comes_nearest(request_: DeviceRequest, hint: str) -> None:
    found = place(pod("p"), stock({"a": 1, "b": 2}), (request_,))
    assert (found.node, found.hint) == ("", hint)
    assert found.message.startswith("0/2 nodes are available: 2 Insufficient ")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([ONE, PART, ()]), st.sampled_from(["", "s"])), max_size=12))
def test_a_board_changes_no_answer_and_no_gpu_is_given_twice(
    wishes: list[tuple[tuple[DeviceRequest, ...], str]],
) -> None:
    have, board = stock({"a": 2, "b": 1, "c": 3}), Board()
    worth = Worth(Mix(((Shape(1000, 1, 1000), 0.5), (Shape(1000, 1, 500), 0.5))))
    for number, (requests, owner) in enumerate(wishes):
        asked = pod(f"p{number}", owner)
        found = place(asked, have, requests, worth=worth, board=board)
        assert found == place(asked, have, requests, worth=worth)
        if found.node:
            have = have.with_(asked, found.node, found.shares)
    for room in have.rooms.values():
        for gpu in room.gpus:
            shares = [s for held in room.held for s in held.shares if s.gpu == gpu.gpu.uuid]
            assert sum(share.memory_bytes for share in shares) <= T4.memory_bytes
            assert sum(share.milli for share in shares) <= 1000
