"""How many of these pods can be had?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.app.gpu_types import find_gpu_type, load_gpu_types
from penstock.contracts.devices import MEMORY_ANNOTATION, DeviceRequest, Gpu
from penstock.decide.device_requests import Fleet, asked
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.schedulable import MAX_TRIED, Room
from penstock.decide.schedulable import capped as capped_by
from penstock.resources.core import Node
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


class These:
    """Nodes whose devices are not known one by one, but for `gpus`."""

    def __init__(self, nodes: Iterable[Node], gpus: Mapping[str, tuple[Gpu, ...]]) -> None:
        self._nodes, self._gpus = tuple(nodes), gpus

    def stock(self, bound: Iterable[Pod]) -> Inventory:
        return take_stock(self._nodes, bound, self._gpus)

    def requests(self, pod: Pod) -> tuple[DeviceRequest, ...] | str:
        if not self._gpus:
            return ()
        every = tuple(gpu for some in self._gpus.values() for gpu in some)
        return asked(pod, Fleet(gpus=every, types=load_gpu_types()))

    def plain(self, pod: Pod, requests: tuple[DeviceRequest, ...]) -> Pod:
        return pod


def capped(
    wanted: int,
    template: Pod,
    own: Iterable[Pod],
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    gpus: Mapping[str, tuple[Gpu, ...]] = {},
) -> Room:
    return capped_by(wanted, template, own, These(nodes, gpus), pods)


def test_devices_that_are_known_are_looked_at_one_by_one() -> None:
    """Two L4 have 22.5 GiB each: three parts of 10 GiB do not fit on one of them, whatever a sum would say."""
    gpus = {"a": tuple(Gpu(index=i, uuid=f"GPU-{i}", type=find_gpu_type("l4")) for i in range(2))}
    part = msgspec.convert(
        {
            "metadata": {"name": "p", "annotations": {MEMORY_ANNOTATION: "10Gi"}},
            "spec": {"containers": [{"name": "c"}]},
        },
        Pod,
    )
    room = capped(6, part, (), (node("a"),), (), gpus)
    assert room.size == 4
    assert "6 are wanted, 4 can be placed" in room.refusal
    assert "has at most 2.5Gi of 10.0Gi free on a GPU" in room.refusal


def test_what_can_never_be_had_is_said_instead_of_counted() -> None:
    gpus = {"a": (Gpu(index=0, uuid="GPU-0", type=find_gpu_type("l4")),)}
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/mig-1g.5gb": "1"}}}
    pod = msgspec.convert({"metadata": {"name": "p"}, "spec": {"containers": [container]}}, Pod)
    room = capped(3, pod, (), (node("a"),), (), gpus)
    assert (room.size, room.refusal) == (
        1,
        "3 are wanted, 0 can be placed: nvidia.com/mig-1g.5gb: no GPU here has the MIG profile 1g.5gb: l4 has none",
    )


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
