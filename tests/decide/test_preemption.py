"""Who gives way loses least; nobody of equal rank does, and nobody in vain."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lost_work import NOW, training, without_demand

from penstock.decide.lost_work import Faith, History, Unit, units_of, usual_redo_s
from penstock.decide.preemption import Fits, preempt
from penstock.resources.checkpoint import MINIMUM_RUNTIME
from penstock.resources.pod import Container, Pod, PodSpec, ResourceRequirements
from penstock.testing.factories import meta


def asking(gpus: int, priority: int = 100, policy: str | None = None) -> Pod:
    container = Container(name="main", resources=ResourceRequirements(limits={"nvidia.com/gpu": gpus}))
    return Pod(
        metadata=meta("chat", uid="chat"),
        spec=PodSpec(containers=(container,), priority=priority, preemption_policy=policy),
    )


def gpus(pod: Pod) -> int:
    resources = pod.spec.containers[0].resources
    assert resources is not None
    return int(resources.limits["nvidia.com/gpu"])


def rooms(pod: Pod, pods: list[Pod], free: dict[str, int]) -> Fits:
    """Nodes with so many free GPUs beside those that the pods hold."""

    def fits(node: str, gone: tuple[Pod, ...]) -> bool:
        names = {p.metadata.uid for p in gone}
        freed = sum(gpus(p) for p in pods if p.metadata.uid in names and p.spec.node_name == node)
        return freed + free.get(node, 0) >= gpus(pod)

    return fits


def chosen(pod: Pod, pods: list[Pod], free: dict[str, int] | None = None) -> tuple[str, list[str]]:
    found = preempt(pod, units_of(pods, NOW, {}, Faith(kept=98)), rooms(pod, pods, free or {}), NOW)
    return found.node, sorted(p.metadata.name for victim in found.victims for p in victim.unit.pods)


def test_who_has_just_saved_gives_way() -> None:
    pods = [
        without_demand(training("a", saved=NOW - 900)),
        without_demand(training("b", saved=NOW - 5, node="n2")),
    ]
    assert chosen(asking(1), pods) == ("n2", ["b"])


def test_who_saves_when_told_gives_way_before_one_that_does_not() -> None:
    pods = [training("a", saved=NOW - 900, save_s=5), without_demand(training("b", saved=NOW - 60))]
    assert chosen(asking(1), pods) == ("n1", ["a"])


def test_a_gang_counts_in_full() -> None:
    gang = [without_demand(training(f"r{i}", saved=NOW - 20, job="j", node=f"n{i}")) for i in (1, 2, 3, 4)]
    single = without_demand(training("single", saved=NOW - 60, node="n5"))
    assert chosen(asking(1), [*gang, single]) == ("n5", ["single"])
    node, victims = chosen(asking(1), gang)
    assert node
    assert victims == ["r1", "r2", "r3", "r4"]


def test_free_room_is_used_and_nobody_gives_way_in_vain() -> None:
    pods = [
        without_demand(training("small", saved=NOW - 10)),
        without_demand(training("large", saved=NOW - 10, gpus=4)),
    ]
    assert chosen(asking(4), pods, {"n1": 3}) == ("n1", ["small"])
    assert chosen(asking(4), pods, {"n1": 0}) == ("n1", ["large"])


def test_one_dear_unit_may_be_cheaper_than_many_cheap_ones() -> None:
    many = [without_demand(training(f"s{i}", saved=NOW - 30)) for i in range(4)]
    one = without_demand(training("one", saved=NOW - 25, gpus=4))
    assert chosen(asking(4), [*many, one]) == ("n1", ["one"])


@pytest.mark.parametrize("priority", [100, 101])
def test_nobody_of_equal_or_higher_priority_gives_way(priority: int) -> None:
    found = preempt(asking(1), units_of([training("a", priority=priority)], NOW, {}), lambda *_: True, NOW)
    assert (found.node, found.victims) == ("", ())
    assert "no pods of lower priority" in found.message


def test_who_must_not_push_waits() -> None:
    found = preempt(asking(1, policy="Never"), units_of([training("a")], NOW, {}), lambda *_: True, NOW)
    assert found.message == "preemption: not eligible due to preemptionPolicy=Never."


def test_who_has_not_run_for_its_least_time_is_let_run_and_the_answer_says_so() -> None:
    pods = [training("a", started=NOW - 10, **{MINIMUM_RUNTIME: "1h"})]
    found = preempt(asking(1), units_of(pods, NOW, {}), rooms(asking(1), pods, {}), NOW)
    assert found.node == ""
    assert "1 have not run for their least time yet" in found.message


def test_none_of_a_higher_priority_gives_way_than_it_takes() -> None:
    batch = without_demand(training("batch", saved=NOW - 1, priority=50))
    low = without_demand(training("low", saved=NOW - 800, priority=1))
    assert chosen(asking(1), [batch, low]) == ("n1", ["low"])
    assert chosen(asking(2), [batch, low]) == ("n1", ["batch", "low"])


def test_a_unit_that_gave_way_is_asked_again_only_if_nobody_else_will_do() -> None:
    again = without_demand(training("again", started=NOW - 20, saved=NOW - 1, job="again"))
    other = without_demand(training("other", saved=NOW - 900))

    def victims(*pods: Pod) -> list[str]:
        units = units_of(pods, NOW, {"again": History(count=1, last_at=NOW - 20)})
        found = preempt(asking(1), units, rooms(asking(1), list(pods), {}), NOW)
        return [victim.unit.pods[0].metadata.name for victim in found.victims]

    assert victims(again, other) == ["other"]
    assert victims(again) == ["again"]


pods_of_nodes = st.lists(
    st.tuples(
        st.sampled_from(["n1", "n2"]),
        st.integers(1, 4),
        st.integers(1, 500),
        st.sampled_from([0, 50, 100]),
        st.sampled_from(["", "", "j1", "j2"]),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(pods_of_nodes, st.integers(1, 6), st.integers(0, 3))
def test_nothing_that_would_do_costs_less(
    given_: list[tuple[str, int, int, int, str]], need: int, free: int
) -> None:
    pods = [
        without_demand(training(f"p{i}", node=node, gpus=count, saved=NOW - age, priority=priority, job=job))
        for i, (node, count, age, priority, job) in enumerate(given_)
    ]
    pod, left = asking(need), {"n1": min(free, need - 1), "n2": 0}
    fits, units = rooms(pod, pods, left), units_of(pods, NOW, {})
    found = preempt(pod, units, fits, NOW)
    lower = [unit for unit in units if unit.priority < 100]
    assert all(victim.unit in lower for victim in found.victims)
    usual = usual_redo_s(units, NOW)

    def freed(some: tuple[Unit, ...]) -> tuple[Pod, ...]:
        return tuple(p for unit in some for p in unit.pods)

    costs = [
        (max((unit.priority for unit in some), default=0), sum(unit.cost(NOW, usual) for unit in some))
        for size in range(len(lower) + 1)
        for some in combinations(lower, size)
        for node in {p.spec.node_name for p in freed(some)}
        if fits(node, freed(some))
    ]
    if not costs:
        assert not found.node
        return
    assert found.cost == pytest.approx(min(costs)[1])
    taken = tuple(victim.unit for victim in found.victims)
    assert fits(found.node, freed(taken))
    for unit in taken:
        assert not fits(found.node, freed(tuple(other for other in taken if other is not unit)))
