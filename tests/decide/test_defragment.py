"""What moves so that GPUs serve better: who waits first, nobody without a home, never more than the hour allows."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.devices import DEVICES_ANNOTATION, DeviceRequest, Gpu, GpuType
from penstock.decide.defragment import Defragmentation, Scene
from penstock.decide.defragment_round import plan_round, who_waits
from penstock.decide.fragmentation import Mix, Shape, Worth
from penstock.decide.inventory import Inventory, take_stock
from penstock.decide.move_budget import Limits, Spent, allowance
from penstock.decide.move_proof import successor
from penstock.decide.placement import place
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Node
from penstock.resources.meta import OwnerReference
from penstock.resources.pod import Pod
from penstock.resources.workload import ReplicaSet
from penstock.testing.factories import node

GIB = 1 << 30
NOW = 1_750_000_000.0
T4 = GpuType(name="t4", product="Tesla-T4", memory_bytes=16 * GIB)
PLENTY = Limits(moves=100, gpu_seconds=1e6)
SHAPES = ((Shape(1000, 1, 1000), 0.5), (Shape(1000, 2, 1000), 0.5))


class Bench:
    """Nodes with T4s, and what runs on them. Servers belong to ReplicaSets by the first letters of their names."""

    def __init__(self, **gpus: int) -> None:
        self.nodes: list[Node] = [node(name, cpu="64") for name in gpus]
        self.gpus = {
            name: tuple(Gpu(index=i, uuid=f"{name}{i}", type=T4) for i in range(count))
            for name, count in gpus.items()
        }
        self.pods: list[Pod] = []
        self.requests: dict[str, tuple[DeviceRequest, ...] | str] = {}

    def serve(self, name: str, on: str, *gpus: int, part: int = 1000, **more: Any) -> None:
        self._add(name, on, gpus, part, owner=("ReplicaSet", f"rs-{name.split('-')[0]}"), **more)

    def train(
        self, name: str, on: str, *gpus: int, saved_s: float | None, on_demand: bool = True, **more: Any
    ) -> None:
        noted = {
            "penstock.dev/checkpoint": "/data",
            "penstock.dev/checkpoint-on-demand": str(on_demand).lower(),
        }
        if saved_s is not None:
            noted["penstock.dev/checkpointed"] = json.dumps(
                {"path": "s", "step": 1, "bytes": 1, "digest": "x", "saved_at": NOW - saved_s, "save_s": 5.0}
            )
        self._add(name, on, gpus, 1000, owner=("Job", f"job-{name.split('-')[0]}"), noted=noted, **more)

    def bare(self, name: str, on: str, *gpus: int) -> None:
        self._add(name, on, gpus, 1000, owner=None)

    def wait(self, name: str, gpus: int, *, priority: int = 0, gang: str = "", size: int = 1) -> None:
        noted = {"penstock.dev/gang": gang, "penstock.dev/gang-size": str(size)} if gang else {}
        self._add(name, "", tuple(range(gpus)), 1000, owner=None, noted=noted, priority=priority)

    def _add(
        self,
        name: str,
        on: str,
        gpus: tuple[int, ...],
        part: int,
        *,
        owner: tuple[str, str] | None,
        noted: dict[str, str] | None = None,
        age_s: float = 3600.0,
        ready: bool = True,
        priority: int = 0,
    ) -> None:
        moment = rfc3339(NOW - age_s)
        shares = [{"gpu": f"{on}{i}", "milli": part} for i in gpus]
        conditions = [{"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": moment}]
        refused = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]
        kind, uid = owner or ("", "")
        owners = [{"apiVersion": "v1", "kind": kind, "name": uid, "uid": uid, "controller": True}]
        document = {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": name,
                "creationTimestamp": moment,
                "ownerReferences": owners if owner else [],
                "annotations": {**(noted or {}), **({DEVICES_ANNOTATION: json.dumps(shares)} if on else {})},
            },
            "spec": {
                "nodeName": on,
                "priority": priority,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            },
            "status": {"startTime": moment, "conditions": conditions if on else refused},
        }
        self.pods.append(msgspec.convert(document, Pod))
        whole = DeviceRequest(resource="nvidia.com/gpu", count=len(gpus))
        self.requests[name] = (whole if part == 1000 else DeviceRequest(milli=part, memory_bytes=0),)

    def sets(self) -> list[ReplicaSet]:
        counts = Counter(
            owner.uid
            for pod in self.pods
            for owner in pod.metadata.owner_references
            if owner.kind == "ReplicaSet"
        )
        return [
            msgspec.convert(
                {
                    "metadata": {"name": uid, "namespace": "default", "uid": uid},
                    "spec": {"replicas": count, "selector": {}, "template": {}},
                },
                ReplicaSet,
            )
            for uid, count in counts.items()
        ]

    def stock(self) -> Inventory:
        return take_stock(self.nodes, [pod for pod in self.pods if pod.spec.node_name], self.gpus)

    def plan(
        self,
        limits: Limits = PLENTY,
        spent: tuple[Spent, ...] = (),
        shapes: Any = SHAPES,
        *,
        now: float = NOW,
        **more: Any,
    ) -> Defragmentation:
        worth = Worth(Mix(shapes))
        scene = Scene(stock=self.stock(), requests=self.requests, worth=worth)

        def placer(pod: Pod, stock: Inventory, asked: tuple[DeviceRequest, ...]) -> Any:
            return place(pod, stock, asked, worth=worth)

        return plan_round(self.pods, self.sets(), {}, scene, limits, spent, placer, now, **more)


def moves(found: Defragmentation) -> list[tuple[str, str, str]]:
    return [(one.pod.metadata.name, one.to, one.way) for one in found.moves]


def split() -> Bench:
    """Two nodes with a free GPU each, and a pod that waits for two."""
    bench = Bench(a=2, b=2)
    bench.serve("chat", "a", 0)
    bench.serve("embed", "b", 0)
    bench.wait("big", 2)
    return bench


def test_who_waits_gets_room_and_who_moves_has_a_home() -> None:
    found = split().plan()
    assert len(found.moves) == 1
    [(name, to, way)] = moves(found)
    assert (name, to) in (("chat", "b"), ("embed", "a"))
    assert (way, found.gpus, found.made_for) == ("Surge", 2, "default/big")
    assert "default/big gets room" in found.message


def test_nothing_moves_without_a_home() -> None:
    bench = split()
    bench.serve("third", "b", 1)
    found = bench.plan()
    assert not found.moves
    assert any("no home elsewhere" in why for _, why in found.kept)


def test_the_cheapest_moves_first_and_training_that_lately_saved_costs_least() -> None:
    bench = Bench(a=2, b=2, c=2)
    bench.train("old", "a", 0, saved_s=900, on_demand=False)
    bench.train("fresh", "b", 0, saved_s=2)
    bench.train("older", "c", 0, saved_s=500)
    bench.wait("big", 2)
    found = bench.plan()
    assert [(name, way) for name, _, way in moves(found)] == [("fresh", "Checkpoint")]
    assert found.cost < 60, "less than the others would do again"
    kept = dict(found.kept)
    assert "does not save when it is told" in kept["default/old"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"age_s": 60.0}, "may be moved after"),
        ({"noted": {"karpenter.sh/do-not-disrupt": "true"}}, "do-not-disrupt"),
    ],
)
def test_who_came_lately_or_asks_to_be_let_be_stays(change: dict[str, Any], why: str) -> None:
    bench = Bench(a=2, b=2)
    bench.serve("chat", "a", 0, **change)
    bench.serve("embed", "b", 0, **change)
    bench.wait("big", 2)
    found = bench.plan()
    assert not found.moves
    assert all(why in told for _, told in found.kept)


def test_a_pod_that_nothing_would_make_anew_stays() -> None:
    bench = Bench(a=2, b=2)
    bench.bare("own", "a", 0)
    bench.bare("other", "b", 0)
    bench.wait("big", 2)
    assert {why for _, why in bench.plan().kept} == {"nothing would make it anew"}


def test_training_never_moves_for_a_pod_that_its_successor_would_be_placed_before() -> None:
    bench = Bench(a=2, b=2)
    bench.train("x", "a", 0, saved_s=1, priority=10)
    bench.train("y", "b", 0, saved_s=1, priority=10)
    bench.wait("big", 2)
    assert not bench.plan().moves
    bench.pods[-1] = msgspec.structs.replace(
        bench.pods[-1], spec=msgspec.structs.replace(bench.pods[-1].spec, priority=10)
    )
    assert bench.plan().moves


def test_a_gang_moves_whole_or_not_at_all() -> None:
    bench = Bench(a=2, b=2, c=2)
    for rank, on in enumerate("ab"):
        bench.train(f"pair-{rank}", on, 0, saved_s=1)
    for name, on in (("chat", "a"), ("embed", "c")):
        bench.serve(name, on, 1, age_s=60)
    bench.wait("big", 2)
    assert sorted(moves(bench.plan())) == [("pair-0", "a", "Checkpoint"), ("pair-1", "c", "Checkpoint")]
    bench.serve("third", "c", 0, age_s=60)
    assert not bench.plan().moves, "one of the two would have no home"


def test_a_gang_that_waits_gets_all_of_its_room_or_nothing_moves() -> None:
    bench = Bench(a=2, b=2, c=2)
    for name, on in (("chat", "a"), ("embed", "b")):
        bench.serve(name, on, 0)
    bench.wait("g-0", 2, gang="g", size=2)
    assert not bench.plan(only_for_waiting=True).moves, "the other has not come yet"
    bench.wait("g-1", 2, gang="g", size=2)
    found = bench.plan()
    assert len(found.moves) == 1
    assert found.gpus == 4


def test_without_anybody_waiting_the_move_that_strands_least_is_made() -> None:
    bench = Bench(a=2, b=2)
    bench.serve("chat", "a", 0)
    bench.serve("embed", "b", 0)
    found = bench.plan()
    assert len(found.moves) == 1
    assert found.gpus == pytest.approx(1.0), "half of the work asks for two GPUs, which two of four serve now"
    assert not bench.plan(only_for_waiting=True).moves


def test_a_move_that_wins_less_than_it_costs_is_not_made() -> None:
    bench = Bench(a=2, b=2)
    bench.serve("chat", "a", 0)
    bench.serve("embed", "b", 0)
    rare = ((Shape(1000, 1, 1000), 0.99), (Shape(1000, 2, 1000), 0.01))
    found = bench.plan(shapes=rare)
    assert not found.moves
    assert all("its move wins 0.0" in why for _, why in found.kept)


def test_replicas_are_never_brought_into_one_domain() -> None:
    bench = Bench(a=2, b=2)
    bench.serve("chat-1", "a", 0)
    bench.serve("chat-2", "b", 0)
    bench.wait("big", 2)
    found = bench.plan()
    assert not found.moves
    assert any("failure domain" in why for _, why in found.kept)


def test_the_hours_budget_holds_and_says_so() -> None:
    bench = split()
    limits = Limits(moves=1, gpu_seconds=100)
    spent = Spent(at=NOW - 600, pods=("default/x",), gpu_seconds=5)
    left = allowance(limits, (spent,), NOW)
    assert (left.moves, left.gpu_seconds, left.again_s) == (0, 95, 3000)
    found = bench.plan(limits, (spent,))
    assert found.over_budget
    assert "1 pods would move, 0 more may within the hour" in found.message
    assert bench.plan(limits, (spent,), now=NOW + 3001).moves


def test_a_pod_whose_move_came_to_nothing_is_let_be_for_an_hour() -> None:
    bench = split()
    [first] = bench.plan().moves
    name = f"default/{first.pod.metadata.name}"
    spent = Spent(at=NOW - 900, pods=(name,), gpu_seconds=5)
    found = bench.plan(PLENTY, (spent,))
    assert [one.pod.metadata.name for one in found.moves] != [first.pod.metadata.name]
    assert "came to nothing" in dict(found.kept)[name]


@pytest.mark.parametrize(
    "busy", ["starting", "moved", "gives way", "ending", "rolled out", "not been placed"]
)
def test_nothing_moves_while_anything_else_is_under_way(busy: str) -> None:
    bench = split()
    bench.serve("x", "b", 1, ready=busy != "starting", age_s=60.0)
    bench.nodes.append(node("z", cpu="64"))
    pod = bench.pods[-1]
    meta, annotations = pod.metadata, pod.metadata.annotations
    if busy == "moved":
        annotations["penstock.dev/move"] = '{"to":"b","at":1,"until":2}'
    elif busy == "gives way":
        annotations["penstock.dev/preemption-notice"] = '{"deadline":1,"reason":"Preempted"}'
    elif busy == "ending":
        bench.pods[-1] = msgspec.structs.replace(
            pod, metadata=msgspec.structs.replace(meta, deletion_timestamp=rfc3339(NOW))
        )
    elif busy == "not been placed":
        bench.pods[-1] = msgspec.structs.replace(
            pod, spec=msgspec.structs.replace(pod.spec, node_name=""), status=type(pod.status)()
        )
    sets = bench.sets()
    if busy == "rolled out":
        owner = OwnerReference(api_version="apps/v1", kind="Deployment", name="d", uid="d", controller=True)
        sets = [
            msgspec.structs.replace(
                one, metadata=msgspec.structs.replace(one.metadata, owner_references=(owner,))
            )
            for one in sets
        ]
        bench.sets = lambda: sets  # type: ignore[method-assign]
    found = bench.plan()
    assert not found.moves
    assert found.message.startswith("nothing moves while default/")
    assert busy in found.message


def test_who_waits_is_asked_in_turn_and_only_after_a_while() -> None:
    bench = Bench(a=1)
    bench.wait("late", 1)
    bench.wait("urgent", 1, priority=5)
    bench.wait("young", 1)
    bench.pods[-1] = msgspec.structs.replace(
        bench.pods[-1],
        metadata=msgspec.structs.replace(bench.pods[-1].metadata, creation_timestamp=rfc3339(NOW - 5)),
    )
    scene = Scene(stock=bench.stock(), requests=bench.requests, worth=Worth(Mix()))
    assert [one.name for one in who_waits(bench.pods, scene, NOW)] == ["default/urgent", "default/late"]


@st.composite
def benches(draw: st.DrawFn) -> Bench:
    bench = Bench(**{f"n{i}": draw(st.integers(1, 4)) for i in range(draw(st.integers(2, 5)))})
    for name, gpus in bench.gpus.items():
        free = list(range(len(gpus)))
        while free and draw(st.booleans()):
            count = draw(st.integers(1, len(free)))
            mine, free = free[:count], free[count:]
            pod = f"p{len(bench.pods)}"
            if draw(st.booleans()):
                bench.serve(pod, name, *mine)
            else:
                bench.train(
                    f"j{draw(st.integers(0, 3))}-{pod}",
                    name,
                    *mine,
                    saved_s=draw(st.sampled_from([5.0, 300.0])),
                )
    for number in range(draw(st.integers(0, 2))):
        bench.wait(f"w{number}", draw(st.integers(1, 4)), priority=draw(st.integers(0, 1)))
    return bench


@settings(max_examples=150, deadline=None)
@given(bench=benches())
def test_every_moved_pod_has_a_home_and_nothing_is_over_booked(bench: Bench) -> None:
    def count(pod: Pod) -> int:
        [asked] = bench.requests[pod.metadata.uid]
        assert isinstance(asked, DeviceRequest)
        return asked.count

    found = bench.plan()
    held: Counter[str] = Counter()
    for pod in bench.pods:
        if pod.spec.node_name:
            held[pod.spec.node_name] += count(pod)
    room = {name: len(gpus) for name, gpus in bench.gpus.items()}
    assert all(held[name] <= room[name] for name in held)
    counts = {one.pod.metadata.uid: count(one.pod) for one in found.moves}
    for one in found.moves:
        if one.way == "Surge":  # both are there for a while
            held[one.to] += counts[one.pod.metadata.uid]
            assert held[one.to] <= room[one.to]
    for one in found.moves:
        held[one.pod.spec.node_name] -= counts[one.pod.metadata.uid]
    takers, wanted = [""], 0
    if found.made_for:
        wanted = next(count(pod) for pod in bench.pods if f"default/{pod.metadata.name}" == found.made_for)
        takers = [name for name in room if room[name] - held[name] >= wanted]
    for one in found.moves:
        if one.way == "Checkpoint":
            held[one.to] += counts[one.pod.metadata.uid]
    assert any(
        all(held[name] + (wanted if name == taker else 0) <= room[name] for name in room) for taker in takers
    ), "who waits fits beside all that moved"
    units = {one.unit for one in found.moves}
    for pod in bench.pods:
        job = next((o.uid for o in pod.metadata.owner_references if o.kind == "Job"), "")
        if job and job in units:
            assert any(one.pod is pod for one in found.moves), "a unit moves whole"
    assert len({one.pod.metadata.uid for one in found.moves}) == len(found.moves)


def test_a_successor_is_the_pod_without_what_it_was_given() -> None:
    bench = Bench(a=1)
    bench.serve("chat", "a", 0)
    made = successor(bench.pods[0])
    assert not made.spec.node_name
    assert DEVICES_ANNOTATION not in made.metadata.annotations
    assert made.metadata.owner_references == bench.pods[0].metadata.owner_references
