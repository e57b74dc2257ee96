"""What each node offers, and what is left of it: counters that go down when a pod is bound and come back when it is released."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.contracts.devices import DEVICES_ANNOTATION, Gpu, GpuType, MigProfile, Share, Sharing
from penstock.decide.inventory import Inventory, NodeRoom, take_stock
from penstock.resources.pod import Pod
from penstock.testing.factories import node

GIB = 1 << 30
PROFILES = (
    MigProfile(
        name="1g.10gb", profile_id=19, compute_slices=1, memory_slices=1, starts=tuple(range(7)),
        memory_bytes=10 * GIB, most=7,
    ),
    MigProfile(
        name="3g.40gb", profile_id=9, compute_slices=3, memory_slices=4, starts=(0, 4),
        memory_bytes=40 * GIB, most=2,
    ),
)  # fmt: skip
H100 = GpuType(
    name="h100-80gb",
    product="H100",
    memory_bytes=80 * GIB,
    compute_slices=7,
    memory_slices=8,
    profiles=PROFILES,
)
GPUS = {"n": (Gpu(index=0, uuid="g0", type=H100), Gpu(index=1, uuid="g1", type=H100, is_mig=True))}


def pod(name: str, *, on: str = "", cpu: str = "1", shares: tuple[Share, ...] = ()) -> Pod:
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "annotations": {DEVICES_ANNOTATION: msgspec.json.encode(shares).decode()} if shares else {},
        },
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    }
    return msgspec.convert(document, Pod)


def only(inventory: Inventory) -> NodeRoom:
    return inventory.rooms["n"]


def test_what_is_left_is_what_nobody_holds() -> None:
    shares = (Share(gpu="g0", milli=250, memory_bytes=30 * GIB), Share(gpu="g1", profile="3g.40gb", start=4))
    room = only(take_stock([node("n")], [pod("a", on="n", cpu="1500m", shares=shares)], GPUS))
    assert (room.free["cpu"], room.free["pods"]) == (2500, 109)
    whole, parted = room.gpus
    assert (whole.milli, whole.memory_bytes, whole.free_milli) == (750, 50 * GIB, 625)
    assert (parted.slices, parted.compute_slices) == (0b00001111, 4)
    assert not whole.is_whole


def test_a_share_without_bytes_takes_memory_as_it_takes_compute() -> None:
    room = only(take_stock([node("n")], [pod("a", on="n", shares=(Share(gpu="g0", milli=500),))], GPUS))
    assert room.gpus[0].memory_bytes == 40 * GIB


def test_a_time_slice_takes_a_replica_and_neither_memory_nor_slices() -> None:
    shared = (Gpu(index=0, uuid="g", type=H100, sharing=Sharing(strategy="time-slicing", replicas=4)),)
    held = pod("a", on="n", shares=(Share(gpu="g", replica=0),))
    left = only(take_stock([node("n")], [held], {"n": shared})).gpus[0]
    assert (left.replicas, left.memory_bytes, left.slices) == (0b1110, 80 * GIB, 0xFF)


def test_an_annotation_that_cannot_be_read_holds_nothing() -> None:
    broken = pod("a", on="n")
    broken.metadata.annotations[DEVICES_ANNOTATION] = "{"
    assert only(take_stock([node("n")], [broken], GPUS)).gpus[0].is_whole


def test_nodes_that_are_equally_useful_have_the_same_residual() -> None:
    gpus = {
        name: (Gpu(index=0, uuid=f"{name}0", type=H100), Gpu(index=1, uuid=f"{name}1", type=H100))
        for name in "ab"
    }
    bound = [
        pod("x", on="a", shares=(Share(gpu="a0", milli=500),)),
        pod("y", on="b", shares=(Share(gpu="b1", milli=500),)),
    ]
    stock = take_stock([node("a"), node("b")], bound, gpus)
    assert stock.rooms["a"].residual == stock.rooms["b"].residual
    assert hash(stock.rooms["a"].residual)
    assert stock.with_(pod("z"), "a").rooms["a"].residual != stock.rooms["b"].residual


def test_a_node_that_nobody_touched_stays_the_same_object() -> None:
    stock = take_stock([node("a"), node("b")], [])
    after = stock.with_(pod("z"), "a")
    assert after.rooms["b"] is stock.rooms["b"]
    assert stock.with_(pod("z"), "gone") is stock
    assert stock.without([pod("z")]) is stock


def at_version(version: str, name: str, node_name: str) -> Pod:
    base = pod(name, on=node_name)
    return replace(base, metadata=replace(base.metadata, resource_version=version))


def test_only_nodes_to_which_something_happened_are_counted_anew() -> None:
    a, b = node("a"), node("b")
    bound = [at_version("1", "x", "a"), at_version("2", "y", "b")]
    first = take_stock([a, b], bound)
    again = take_stock([a, b], [at_version("1", "x", "a"), at_version("3", "y", "b")], before=first)
    assert again.rooms["a"] is first.rooms["a"]
    assert again.rooms["b"] is not first.rooms["b"]
    assert take_stock([a, node("b")], bound, before=first).rooms["b"] is not first.rooms["b"]
    gpus = {"a": (Gpu(index=0, uuid="g", type=H100),)}
    assert take_stock([a, b], bound, gpus, first).rooms["a"].gpus
    assert take_stock([a, b], bound[1:], before=first).rooms["a"].free["pods"] == 110
    moved = [bound[0], at_version("2", "y", "a")]
    assert take_stock([a, b], moved, before=first).rooms["b"].free["pods"] == 110


def test_a_pod_without_a_version_is_counted_anew() -> None:
    only_node = node("n")
    first = take_stock([only_node], [pod("x", on="n", cpu="1")])
    again = take_stock([only_node], [pod("x", on="n", cpu="2")], before=first)
    assert only(again).free["cpu"] == 2000


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 400)), max_size=8), st.data())
def test_binding_and_releasing_in_any_order_gives_the_same_inventory_as_counting_anew(
    wishes: list[tuple[str, int]], data: st.DataObject
) -> None:
    nodes = [node("a"), node("b")]
    gpus = {name: (Gpu(index=0, uuid=f"{name}0", type=H100),) for name in "ab"}
    stock, bound = take_stock(nodes, [], gpus), []
    for number, (where, milli) in enumerate(wishes):
        shares = (Share(gpu=f"{where}0", milli=milli),)
        bound.append(pod(f"p{number}", on=where, cpu="1m", shares=shares))
        stock = stock.with_(bound[-1], where, shares)
    assert stock == take_stock(nodes, bound, gpus)
    gone = data.draw(st.lists(st.sampled_from(bound), unique_by=id)) if bound else []
    kept = [one for one in bound if one not in gone]
    assert stock.without(gone) == take_stock(nodes, kept, gpus)
