"""How many of these pods can be had?"""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.schedulable import MAX_TRIED, capped
from penstock.resources.pod import Pod
from penstock.testing.factories import node

GPU = "nvidia.com/gpu"


def wish(name: str = "new", *, on: str = "", gpus: int = 1) -> Pod:
    container = {"name": "c", "image": "i", "resources": {"limits": {GPU: gpus}}}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": on, "containers": [container]},
    }
    return msgspec.convert(document, Pod)


def test_what_fits_is_granted() -> None:
    room = capped(3, wish(), (), (node("a", **{GPU: "4"}),), ())
    assert (room.size, room.refusal) == (3, "")


def test_no_more_than_the_free_devices_are_asked_for_and_the_refusal_says_what_is_missing() -> None:
    nodes = (node("a", **{GPU: "2"}), node("b", **{GPU: "1"}))
    own = (wish("own", on="a"),)
    room = capped(50, wish(), own, nodes, (*own, wish("other", on="b")))
    assert room.size == 2
    assert room.refusal == (
        "50 are wanted, 2 can be placed: 0/2 nodes are available: 2 Insufficient nvidia.com/gpu. "
        "node a lacks 1 nvidia.com/gpu: free it, or request less"
    )


def test_one_pod_is_asked_for_where_none_fits_so_that_the_queue_has_its_place() -> None:
    room = capped(4, wish(gpus=8), (), (node("a", **{GPU: "1"}),), ())
    assert room.size == 1
    assert "4 are wanted, 0 can be placed" in room.refusal


def test_pods_that_wait_for_a_node_hold_no_room() -> None:
    pending = (wish("pending"),)
    assert capped(2, wish(), pending, (node("a", **{GPU: "1"}),), pending).size == 1


def test_a_service_that_shrinks_is_never_refused() -> None:
    own = tuple(wish(f"p{i}", on="gone") for i in range(5))
    assert capped(3, wish(), own, (node("a"),), own).refusal == ""


def test_a_cluster_whose_nodes_are_not_known_yet_limits_nothing() -> None:
    assert capped(7, wish(), (), (), ()).size == 7


def test_a_thousand_replicas_are_tried_in_bounded_steps() -> None:
    room = capped(1000, wish(), (), (node("a", **{GPU: "1000"}, pods="2000"),), ())
    assert room.size == MAX_TRIED
    assert room.refusal


@given(st.integers(0, 12), st.lists(st.integers(0, 4), min_size=1, max_size=4), st.integers(0, 6))
def test_the_cap_never_takes_away_what_already_has_a_node_and_never_exceeds_the_wish(
    wanted: int, devices: list[int], placed: int
) -> None:
    nodes = tuple(node(f"n{i}", **{GPU: str(count)}) for i, count in enumerate(devices))
    own = tuple(wish(f"p{i}", on="n0") for i in range(placed))
    room = capped(wanted, wish(), own, nodes, own)
    assert min(wanted, max(placed, 1)) <= room.size <= wanted
    assert room.refusal or room.size == wanted


def test_what_pods_of_lower_priority_hold_is_room_unless_the_pod_may_not_push() -> None:
    nodes, holding = (node("a", **{GPU: "2"}),), tuple(wish(f"train{i}", on="a") for i in range(2))

    def size(**spec: object) -> int:
        new = wish()
        new = msgspec.structs.replace(new, spec=msgspec.structs.replace(new.spec, **spec))
        return capped(2, new, (), nodes, holding).size

    assert size(priority=900) == 2
    assert size(priority=0) == 1
    assert size(priority=900, preemption_policy="Never") == 1
