"""The preemption simulator: the same seed tells the same story, GPU-seconds add up, and the baseline is kube-scheduler's order."""

from __future__ import annotations

import pytest

from penstock.kit.timestamps import rfc3339
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Pod, PodSpec, PodStatus
from penstock.testing.preemption.policies import POLICIES, kubernetes
from penstock.testing.preemption.workload import HABITS, Serving, Training, Workload, draw
from penstock.testing.preemption.world import World

NOW = 50_000.0
HOUR_S = 3600.0


def held(name: str, node: str, *, started: float, priority: int = 0) -> Pod:
    return Pod(
        metadata=ObjectMeta(name=name, uid=name),
        spec=PodSpec(node_name=node, priority=priority),
        status=PodStatus(start_time=rfc3339(started)),
    )


def chosen(*pods: Pod, needed: int = 1) -> tuple[str, list[str]]:
    """By kube-scheduler's order, where the waiting pod needs as many to be gone."""
    node, victims = kubernetes(
        Pod(spec=PodSpec(priority=100)), pods, {}, lambda node, gone: len(gone) >= needed, NOW
    )
    return node, sorted(victim.metadata.name for victim in victims)


def test_the_longer_a_pod_runs_the_more_important_it_is_to_kubernetes() -> None:
    old, new = held("old", "n1", started=1000), held("new", "n1", started=4000)
    assert chosen(old, new) == ("n1", ["new"])


def test_kubernetes_takes_the_lower_priority_before_the_newer_and_the_node_with_the_lowest() -> None:
    low, high = held("low", "n1", started=1000, priority=1), held("high", "n1", started=4000, priority=9)
    assert chosen(low, high) == ("n1", ["low"])
    other = held("other", "n2", started=1000, priority=0)
    assert chosen(low, high, other) == ("n2", ["other"])


def test_among_nodes_kubernetes_takes_that_whose_victim_started_last() -> None:
    assert chosen(held("a", "n1", started=1000), held("b", "n2", started=2000)) == ("n2", ["b"])


def test_kubernetes_pushes_nobody_of_its_own_priority() -> None:
    assert chosen(held("a", "n1", started=1000, priority=100)) == ("", [])


def one_job(habit: str, **changes: float) -> Workload:
    given = {"interval_s": 600.0, "save_s": 5.0, "restore_s": 20.0, **changes}
    job = Training("t", 0.0, 1, 8, 2 * HOUR_S, habit=habit, **given)  # type: ignore[arg-type]
    return Workload(1, 6.0, (job,), (Serving("chat", HOUR_S + 250.0, 1, 900.0),))


@pytest.mark.parametrize(
    ("habit", "lost_s", "wait_s"),
    [
        ("on-demand", 5.0, 5.0),  # what saving takes
        ("periodic", 251.0, 1.0),  # since the last round, and the second that it takes to end
        ("liar", 280.0, 30.0),
        ("silent", 251.0, 1.0),
        ("bare", 3851.0, 1.0),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_what_a_job_loses_follows_from_its_habit(
    policy: str, habit: str, lost_s: float, wait_s: float
) -> None:
    figures = World(one_job(habit), POLICIES[policy]).play()
    restored_s = 0.0 if habit == "bare" else 20.0
    assert figures.lost == pytest.approx(8 * (lost_s + restored_s))
    assert figures.waits_s == pytest.approx([wait_s])
    assert (figures.evictions, figures.restarts, figures.preempted) == (1, {"t": 1}, 900.0)
    assert figures.finished == 1
    assert figures.useful == pytest.approx(8 * 2 * HOUR_S), "what was saved is not counted twice, nor lost"


def test_the_same_seed_tells_the_same_story_and_another_does_not() -> None:
    first, again, other = draw(1, hours=3.0), draw(1, hours=3.0), draw(2, hours=3.0)
    assert first == again
    assert first != other
    plays = [World(load, POLICIES["penstock"]).play() for load in (first, again)]
    assert plays[0] == plays[1]


def test_all_habits_are_drawn_in_about_their_shares() -> None:
    jobs = draw(3, hours=200.0).trainings
    for habit, share in HABITS:
        assert sum(job.habit == habit for job in jobs) / len(jobs) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("policy", POLICIES)
def test_all_that_inference_asks_for_is_served_and_no_more_is_counted_than_there_is(policy: str) -> None:
    load = draw(4, hours=4.0)
    figures = World(load, POLICIES[policy]).play()
    assert figures.unserved == 0
    assert len(figures.waits_s) == len(load.servings)
    assert 0 < figures.useful + figures.lost <= load.nodes * 8 * load.hours * HOUR_S
