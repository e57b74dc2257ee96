"""All pods of a burst get room at least cost together; what the victims of one leave over is another's."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_lost_work import NOW, training, without_demand
from test_preemption import asking

from penstock.decide.burst import Plan, Unmet, one_by_one, together
from penstock.decide.dry_run import Room
from penstock.decide.inventory import take_stock
from penstock.decide.lost_work import units_of, usual_redo_s
from penstock.resources.core import Node, NodeStatus
from penstock.resources.meta import Condition, ObjectMeta
from penstock.resources.pod import Pod


def pods(*gpus: int) -> tuple[Pod, ...]:
    return tuple(
        replace(asking(count), metadata=replace(asking(count).metadata, name=f"chat-{i}", uid=f"chat-{i}"))
        for i, count in enumerate(gpus)
    )


def room(trainings: list[Pod], gpus: int, nodes: tuple[str, ...] = ("n1",)) -> Room:
    ready = Condition(type="Ready", status="True")
    amounts = {"nvidia.com/gpu": gpus, "cpu": 64, "memory": "64Gi", "pods": 100}
    found = [
        Node(
            metadata=ObjectMeta(name=name),
            status=NodeStatus(capacity=amounts, allocatable=amounts, conditions=(ready,)),
        )
        for name in nodes
    ]
    return Room(take_stock(found, trainings), lambda _: ())


def planned(waiting: tuple[Pod, ...], trainings: list[Pod], before: Room) -> tuple[Plan, Plan]:
    units = units_of(trainings, NOW, {})
    first = one_by_one(waiting, units, before, NOW)
    assert isinstance(first, Plan)
    return first, together(first, units, before, NOW)


def names(plan: Plan) -> list[str]:
    return sorted(pod.metadata.name for victim in plan.victims for pod in victim.unit.pods)


def test_one_victim_that_serves_two_is_cheaper_than_two() -> None:
    trainings = [
        without_demand(training("a", saved=NOW - 50)),
        without_demand(training("b", saved=NOW - 55)),
        without_demand(training("c", saved=NOW - 30, gpus=2)),
    ]
    first, whole = planned(pods(1, 1), trainings, room(trainings, 4))
    assert names(first) == ["a", "b"], "one after the other"
    assert names(whole) == ["c"]
    assert whole.nodes == {"chat-0": "n1", "chat-1": "n1"}
    [(pod, found)] = whole.chosen
    assert (pod.metadata.name, found.cost) == ("chat-0", 60)
    assert [unit.pods[0].metadata.name for unit in whole.units] == ["a", "b"]


def test_who_gave_way_for_one_and_is_not_needed_for_all_stays() -> None:
    trainings = [
        without_demand(training("small", saved=NOW - 10)),
        without_demand(training("large", saved=NOW - 20, gpus=4)),
    ]
    first, whole = planned(pods(1, 3), trainings, room(trainings, 5))
    assert names(first) == ["large", "small"]
    assert names(whole) == ["large"]
    assert sorted(whole.nodes) == ["chat-0", "chat-1"]


def test_what_one_victim_leaves_over_is_the_next_pods() -> None:
    trainings = [without_demand(training("a", saved=NOW - 5, gpus=4))]
    first, whole = planned(pods(1, 1, 2), trainings, room(trainings, 4))
    assert names(first) == names(whole) == ["a"]
    assert len(whole.chosen) == 1


def test_nobody_gives_way_to_those_who_do_not_all_fit() -> None:
    trainings = [without_demand(training("a", saved=NOW - 5, gpus=2))]
    found = one_by_one(pods(2, 1), units_of(trainings, NOW, {}), room(trainings, 2), NOW)
    assert isinstance(found, Unmet)
    assert found.pod.metadata.name == "chat-1"


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["n1", "n2"]), st.integers(1, 3), st.integers(1, 300)),
        min_size=2,
        max_size=6,
    ),
    st.lists(st.integers(1, 3), min_size=2, max_size=3),
)
def test_no_other_victims_would_do_for_all_at_less_cost(
    held: list[tuple[str, int, int]], asked: list[int]
) -> None:
    trainings = [
        without_demand(training(f"t{i}", node=node, gpus=count, saved=NOW - age))
        for i, (node, count, age) in enumerate(held)
    ]
    before, waiting, units = room(trainings, 8, ("n1", "n2")), pods(*asked), units_of(trainings, NOW, {})
    first = one_by_one(waiting, units, before, NOW)
    if isinstance(first, Unmet) or len(first.chosen) < 2:
        return
    whole = together(first, units, before, NOW)
    usual = usual_redo_s(units, NOW)
    costs = [
        sum(unit.cost(NOW, usual) for unit in some)
        for size in range(1, len(units) + 1)
        for some in combinations(units, size)
        if before.without([pod for unit in some for pod in unit.pods]).take_all(waiting) is not None
    ]
    assert sum(victim.cost for victim in whole.victims) == pytest.approx(min(costs))
    assert set(whole.nodes) == {pod.metadata.uid for pod in waiting}
    assert {v.unit.name for v in whole.victims}.isdisjoint(unit.name for unit in whole.units)
