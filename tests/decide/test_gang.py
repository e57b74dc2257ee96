"""All pods of a gang get nodes or none does, in the smallest domain that has room for all."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType
from penstock.decide.gang import GANG, GANG_SIZE, Gang, Member, gang_of, missing, place_gang
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.placement import place
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.testing.factories import node

KIND = GpuType(name="t4-16gb", product="Tesla-T4", memory_bytes=16 << 30)
TWO = (DeviceRequest(container="c", resource="nvidia.com/gpu", count=2),)


def rank(number: int, size: str = "4") -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"rank-{number}",
            "namespace": "default",
            "uid": f"rank-{number}",
            "labels": {GANG: "train"},
            "annotations": {GANG_SIZE: size},
        },
        "spec": {"containers": [{"name": "c"}]},
    }
    return msgspec.convert(document, Pod)


def members(count: int) -> list[Member]:
    return [Member(rank(number), TWO) for number in range(count)]


def stock(gpus: dict[str, int], zones: dict[str, str] | None = None) -> Inventory:
    nodes: list[Node] = [
        node(name, labels={"topology.kubernetes.io/zone": zones[name]} if zones else None) for name in gpus
    ]
    have = {
        name: tuple(Gpu(index=i, uuid=f"{name}{i}", type=KIND) for i in range(count))
        for name, count in gpus.items()
    }
    return take_stock(nodes, [], have)


def test_a_gang_that_fits_on_one_node_gets_one_node() -> None:
    found = place_gang(members(4), stock({"a": 4, "b": 8, "c": 4}), place)
    assert {one.node for one in found.placements} == {"b"}
    assert found.domain == "kubernetes.io/hostname=b"
    assert len({share.gpu for one in found.placements for share in one.shares}) == 8


def test_a_gang_too_large_for_a_node_stays_in_one_zone() -> None:
    zones = {"a": "west", "b": "east", "c": "west", "d": "south"}
    found = place_gang(members(4), stock({"a": 4, "b": 4, "c": 4, "d": 4}, zones), place)
    assert {one.node for one in found.placements} == {"a", "c"}


def test_without_a_common_domain_it_goes_where_there_is_room() -> None:
    found = place_gang(members(3), stock({"a": 2, "b": 2, "c": 2}), place)
    assert len({one.node for one in found.placements}) == 3
    assert found.domain == ""


def test_where_not_all_fit_none_gets_a_node_and_it_is_said_how_far_it_would_go() -> None:
    found = place_gang(members(4), stock({"a": 4, "b": 2}), place)
    assert found.placements == ()
    assert "only 3 pods of the gang find a node together; rank-3" in found.message
    assert "Insufficient nvidia.com/gpu" in found.message


@pytest.mark.parametrize(("size", "read"), [("4", 4), ("0", 1), ("many", 1), ("", 1)])
def test_the_size_is_a_number_above_zero_or_the_pod_is_alone(size: str, read: int) -> None:
    assert gang_of(rank(0, size)) == Gang("default", "train", read)


def test_a_pod_without_the_label_is_in_no_gang() -> None:
    lone = msgspec.structs.replace(rank(0), metadata=msgspec.structs.replace(rank(0).metadata, labels={}))
    assert gang_of(lone) is None


def test_a_gang_waits_until_all_of_its_pods_exist() -> None:
    gang = Gang("default", "train", 4)
    assert missing(gang, 3) == "gang train waits for all of its pods: 3 of 4 are there"
    assert missing(gang, 4) == ""


@given(st.lists(st.integers(0, 8), min_size=1, max_size=4), st.integers(1, 5))
def test_all_or_none(gpus: list[int], count: int) -> None:
    have = stock({f"n{i}": size for i, size in enumerate(gpus)})
    found = place_gang(members(count), have, place)
    room = sum(size // 2 for size in gpus)
    assert len(found.placements) == (count if room >= count else 0)
    held = [share.gpu for one in found.placements for share in one.shares]
    assert len(held) == len(set(held))


def test_the_group_of_a_leader_worker_set_is_a_gang_by_its_own_labels() -> None:
    prefix = "leaderworkerset.sigs.k8s.io"
    document = {
        "metadata": {
            "name": "vllm-0-1",
            "namespace": "default",
            "labels": {f"{prefix}/group-key": "5c0b", f"{prefix}/name": "vllm"},
            "annotations": {f"{prefix}/size": "4"},
        },
        "spec": {"containers": [{"name": "c"}]},
    }
    assert gang_of(msgspec.convert(document, Pod)) == Gang("default", "5c0b", 4)
    own = {**document["metadata"], "labels": {f"{prefix}/group-key": "5c0b", GANG: "mine"}}
    assert gang_of(msgspec.convert({**document, "metadata": own}, Pod)) == Gang("default", "mine", 1)
