"""What a board remembers changes no answer: the same node and the same devices as when every node is looked at afresh."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.devices import DeviceRequest, Gpu, GpuType, Share, Way
from penstock.decide.board import Board
from penstock.decide.fragmentation import Mix, Shape, Worth
from penstock.decide.gpu_state import GpuState, Taking
from penstock.decide.inventory import Inventory, NodeRoom, lot, take_stock
from penstock.decide.node_standing import Ask, Leaning
from penstock.decide.placement import ZONE, place
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.testing.factories import node

GIB = 1 << 30
NAMED = "device.attributes['gpu.nvidia.com'].uuid == 'n3/1'"
T4 = GpuType(name="t4", product="Tesla-T4", memory_bytes=16 * GIB)
V100 = GpuType(name="v100", product="V100", memory_bytes=32 * GIB)
ONLY_V100 = frozenset({"v100"})
WISHES: dict[str, tuple[DeviceRequest, ...]] = {
    "no GPU": (),
    "one": (DeviceRequest(resource="nvidia.com/gpu"),),
    "two": (DeviceRequest(resource="nvidia.com/gpu", count=2),),
    "four of a type": (DeviceRequest(resource="nvidia.com/gpu", count=4, types=ONLY_V100),),
    "a part by memory": (DeviceRequest(milli=0, memory_bytes=5 * GIB),),
    "a part by compute": (DeviceRequest(milli=300),),
    "a part of each": (DeviceRequest(milli=500, count=2),),
    "a part of a type": (DeviceRequest(milli=250, memory_bytes=20 * GIB, types=ONLY_V100),),
    "a part and one": (DeviceRequest(milli=500), DeviceRequest(resource="nvidia.com/gpu")),
    "a device by name": (DeviceRequest(claim="c", request="r", ways=(Way(conditions=(NAMED,)),)),),
}
WORTH = Worth(
    Mix(
        (
            (Shape(4000, 1, 1000), 0.3),
            (Shape(6000, 1, 313), 0.2),
            (Shape(1500, 1, 500, ONLY_V100), 0.2),
            (Shape(8000, 2, 1000), 0.1),
            (Shape(16000, 4, 1000), 0.1),
        ),
        0.1,
    ),
    {"t4": 14, "v100": 10},
)
LABELS: dict[str, dict[str, Any]] = {
    "": {},
    "selects": {"nodeSelector": {"size": "big"}},
    "tolerates": {"tolerations": [{"key": "kept", "operator": "Exists"}]},
    "prefers": {
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 5,
                        "preference": {
                            "matchExpressions": [{"key": "size", "operator": "In", "values": ["big"]}]
                        },
                    }
                ]
            }
        }
    },
}


def pod(name: str, cpu: int, owner: str = "", **spec: Any) -> Pod:
    owners = [{"apiVersion": "v1", "kind": "x", "name": owner, "uid": owner}] if owner else []
    amounts = {"requests": {"cpu": f"{cpu}m"}}
    document = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners},
        "spec": {"containers": [{"name": "c", "resources": amounts}], **spec},
    }
    return msgspec.convert(document, Pod)


def tainted(base: Node) -> Node:
    document = msgspec.to_builtins(base)
    document["spec"] = {"taints": [{"key": "kept", "effect": "NoSchedule"}]}
    return msgspec.convert(document, Node)


def cluster(*, zoned: bool) -> Inventory:
    """Twelve nodes with none to eight GPUs of two types, one of them with both, one that keeps away who does not tolerate it."""
    kinds = {"t4": T4, "v100": V100}
    sizes = [
        (0, ""),
        (2, "t4"),
        (2, "t4"),
        (4, "v100"),
        (1, "t4"),
        (8, "t4"),
        (0, ""),
        (2, "t4"),
        (4, "v100"),
    ]
    nodes, gpus = [], {}
    for place_, (count, kind) in enumerate([*sizes, (2, "v100"), (2, "both"), (1, "t4")]):
        labels = {"size": "big" if count > 2 else "small"}
        if zoned:
            labels[ZONE] = "xyz"[place_ % 3]
        name = f"n{place_}"
        made = node(name, cpu="24" if count else "6", labels=labels)
        nodes.append(tainted(made) if place_ == 9 else made)
        types = [kinds.get(kind, (T4, V100)[index % 2]) for index in range(count)]
        gpus[name] = tuple(Gpu(index=i, uuid=f"{name}/{i}", type=one) for i, one in enumerate(types))
    return take_stock(nodes, [], gpus)


def looked_at_afresh(
    asked: Pod, have: Inventory, requests: tuple[DeviceRequest, ...]
) -> tuple[str, tuple[Share, ...]]:
    """Every node by the rule that knows all kinds of requests; the node of the least rank, of equal ones the one that the lot names."""
    ask = Ask(asked, requests, WORTH, Leaning())
    here = {
        name: sum(held.owner == ask.owner for held in room.held) if ask.owner else 0
        for name, room in have.rooms.items()
    }
    domains = {_domain(have, have.rooms[name]) for name, number in here.items() if number}
    ranks = {}
    for name, room in have.rooms.items():
        found = ask.standing_among(room, ask.barrier(room.node), here[name])
        if not isinstance(found, str):
            (soft, collides, _, *rest), loss = found
            crowds = float(bool(requests) and domains == {_domain(have, room)})
            ranks[name] = soft, collides, crowds, *rest, loss
    if not ranks:
        return "", ()
    best = min(ranks.values())
    equal = [have.rooms[name] for name, rank in ranks.items() if rank == best]
    chosen = min(equal, key=lambda room: room.lot ^ lot(asked.metadata.uid))
    return chosen.name, ask.shares(chosen)


def _domain(have: Inventory, room: NodeRoom) -> str:
    zones = {one.node.metadata.labels.get(ZONE) for one in have.rooms.values()}
    return room.node.metadata.labels[ZONE] if len(zones) > 1 else room.name


arrival = st.tuples(
    st.sampled_from(sorted(WISHES)),
    st.sampled_from([0, 750, 1500, 6000]),
    st.sampled_from(["", "", "s", "t"]),
    st.sampled_from(["", "", "", *LABELS]),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(arrival, max_size=40), st.booleans())
def test_a_node_and_devices_are_chosen_as_if_every_node_were_looked_at(
    arrivals: list[tuple[str, int, str, str, bool]], zoned: bool
) -> None:
    have, board, bound = cluster(zoned=zoned), Board(), list[Pod]()
    for number, (wish, cpu, owner, rule, leaves) in enumerate(arrivals):
        asked = pod(f"p{number}", cpu, owner, **LABELS[rule])
        requests = WISHES[wish]
        found = place(asked, have, requests, worth=WORTH, board=board)
        assert (found.node, found.shares) == looked_at_afresh(asked, have, requests)
        assert found == place(asked, have, requests, worth=WORTH)
        if found.node:
            have = have.with_(asked, found.node, found.shares)
            bound.append(asked)
        if leaves and bound:
            have = have.without([bound.pop(0)])


def test_only_nodes_that_changed_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    standing = Ask.standing

    def counted(self: Ask, room: NodeRoom, *rest: Any) -> Any:
        looked.append(room.name)
        return standing(self, room, *rest)

    monkeypatch.setattr(Ask, "standing", counted)
    have, board = cluster(zoned=False), Board()
    place(pod("first", 750), have, WISHES["one"], worth=WORTH, board=board)
    have = have.with_(pod("x", 1500), "n2").with_(pod("y", 1500), "n2").with_(pod("z", 1500), "n5")
    looked.clear()
    place(pod("second", 750, "of an owner"), have, WISHES["one"], worth=WORTH, board=board)
    assert sorted(looked) == ["n2", "n5"]
    looked.clear()
    place(pod("third", 750, "of another"), have, WISHES["one"], worth=WORTH, board=board)
    assert looked == []


def test_another_estimate_of_the_usual_work_holds_at_once() -> None:
    have, board = cluster(zoned=False), Board()
    other = Worth(
        Mix(((Shape(1000, 8, 1000), 0.9), (Shape(1000, 1, 900, ONLY_V100), 0.1))), {"t4": 14, "v100": 10}
    )
    for number, (worth, wish) in enumerate(
        [(WORTH, "one"), (WORTH, "two"), (other, "one"), (other, "two")] * 3
    ):
        asked = pod(f"p{number}", 1500)
        found = place(asked, have, WISHES[wish], worth=worth, board=board)
        assert found == place(asked, have, WISHES[wish], worth=worth)
        have = have.with_(asked, found.node, found.shares)


def losses_found(monkeypatch: pytest.MonkeyPatch) -> list[Taking]:
    """Everything that is worked out from now on, rather than remembered, of what a pod costs a node."""
    found: list[Taking] = []
    lost = GpuState._lost

    def counted(self: GpuState, worth: Worth, taking: Taking) -> float:
        found.append(taking)
        return lost(self, worth, taking)

    monkeypatch.setattr(GpuState, "_lost", counted)
    return found


@pytest.mark.parametrize("wish", sorted(WISHES))
def test_a_kind_that_returns_after_many_changes_finds_what_there_is(wish: str) -> None:
    """Four times as many nodes change as are looked at one by one."""
    count = 96
    nodes = [node(f"n{number}", cpu="16") for number in range(count)]
    nodes[5], nodes[70] = tainted(nodes[5]), tainted(nodes[70])
    gpus = {
        f"n{number}": tuple(
            Gpu(index=index, uuid=f"n{number}/{index}", type=(T4, V100)[number % 2])
            for index in range(number % 5)
        )
        for number in range(count)
    }
    have, board = take_stock(nodes, [], gpus), Board()
    asked = pod("p", 1500)
    place(asked, have, WISHES[wish], worth=WORTH, board=board)
    for number in range(count):
        share = (Share(gpu=f"n{number}/0", milli=250, memory_bytes=4 * GIB),) if number % 5 else ()
        have = have.with_(pod(f"x{number}", 500 * (number % 30)), f"n{number}", share)
    assert place(asked, have, WISHES[wish], worth=WORTH, board=board) == place(
        asked, have, WISHES[wish], worth=WORTH
    )
    chosen = place(asked, have, WISHES[wish], worth=WORTH, board=board)
    assert (chosen.node, chosen.shares) == looked_at_afresh(asked, have, WISHES[wish])


def test_kinds_that_do_not_return_are_kept_up_to_date_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    have, board = cluster(zoned=False), Board()
    place(pod("rare", 6000), have, WISHES["two"], worth=WORTH, board=board)
    for number in range(8):
        asked = pod(f"p{number}", 750)
        found = place(asked, have, WISHES["a part by compute"], worth=WORTH, board=board)
        have = have.with_(asked, found.node, found.shares).with_(pod(f"x{number}", 750), f"n{number}")
        board.prepare(list(have.rooms.values()), WORTH)
    rated = losses_found(monkeypatch)
    place(pod("rare again", 6000), have, WISHES["two"], worth=WORTH, board=board)
    assert sum(one.gpus == 2 for one in rated) == 0


def test_nodes_that_are_alike_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rated = losses_found(monkeypatch)
    nodes = [node(f"n{number}", cpu="64") for number in range(50)]
    gpus = {f"n{i}": (Gpu(index=0, uuid=f"{i}", type=T4),) for i in range(50)}
    found = place(pod("p", 1000), take_stock(nodes, [], gpus), WISHES["one"], worth=WORTH)
    assert found.message == "least fragmenting of 50 fitting nodes"
    assert len(rated) == 1


def test_two_gpus_of_which_different_things_are_free_are_not_alike() -> None:
    """As much is free of both, but of one it is memory that is scarce and of the other compute."""
    have = take_stock(
        [node("a"), node("b")],
        [],
        {name: (Gpu(index=0, uuid=name, type=T4),) for name in "ab"},
    )
    have = have.with_(pod("x", 0), "a", (Share(gpu="a", milli=500, memory_bytes=1),))
    have = have.with_(pod("y", 0), "b", (Share(gpu="b", milli=0, memory_bytes=8 * GIB),))
    assert have.rooms["a"].divisible == have.rooms["b"].divisible == (500,)
    found = place(pod("p", 0), have, (DeviceRequest(milli=0, memory_bytes=12 * GIB),), worth=WORTH)
    assert (found.node, found.message) == ("a", "the only node that fits")
