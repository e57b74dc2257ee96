"""What stopping costs: work since the last checkpoint, whole gangs, and nothing gained by silence."""

from __future__ import annotations

import json

import msgspec
import pytest

from penstock.contracts.devices import DEVICES_ANNOTATION
from penstock.decide.lost_work import (
    FORGET_S,
    PENALTY_S,
    Faith,
    History,
    Unit,
    UnitBook,
    gpus_of,
    units_of,
    usual_redo_s,
)
from penstock.kit.timestamps import rfc3339
from penstock.resources.checkpoint import CHECKPOINT, MINIMUM_RUNTIME, ON_DEMAND, SAVED
from penstock.resources.meta import Condition, OwnerReference
from penstock.resources.pod import Container, Pod, PodSpec, PodStatus, ResourceRequirements
from penstock.testing.factories import meta

NOW = 10_000.0


def training(
    name: str,
    *,
    started: float = NOW - 1000,
    saved: float | None = None,
    job: str = "",
    gpus: int = 1,
    node: str = "n1",
    priority: int = 0,
    save_s: float = 0.0,
    restore_s: float = 0.0,
    **annotations: str,
) -> Pod:
    noted = {CHECKPOINT: "/data", **{key.replace("__", "/"): value for key, value in annotations.items()}}
    if saved is not None:
        kept = {"path": "x", "step": 1, "bytes": 1, "digest": "sha256:0", "saved_at": saved}
        noted[SAVED] = json.dumps({**kept, "save_s": save_s, "restore_s": restore_s})
    owner = OwnerReference(api_version="batch/v1", kind="Job", name=job, uid=job, controller=True)
    container = Container(name="main", resources=ResourceRequirements(limits={"nvidia.com/gpu": gpus}))
    return Pod(
        metadata=meta(name, uid=name, annotations=noted, owner_references=(owner,) if job else ()),
        spec=PodSpec(
            containers=(container,), node_name=node, priority=priority, termination_grace_period_seconds=30
        ),
        status=PodStatus(phase="Running", start_time=rfc3339(started)),
    )


def only(*pods: Pod, **histories: History) -> Unit:
    [unit] = units_of(pods, NOW, histories)
    return unit


def without_demand(pod: Pod) -> Pod:
    noted = {**pod.metadata.annotations, ON_DEMAND: "false"}
    return msgspec.structs.replace(pod, metadata=msgspec.structs.replace(pod.metadata, annotations=noted))


def test_work_since_the_last_checkpoint_is_lost_on_every_gpu() -> None:
    unit = only(without_demand(training("a", saved=NOW - 40, gpus=4, restore_s=5)))
    assert unit.cost(NOW, None) == 4 * (40 + 5)


def test_work_since_the_start_is_lost_where_the_checkpoint_is_older() -> None:
    assert only(without_demand(training("a", started=NOW - 30, saved=NOW - 500))).cost(NOW, None) == 30


def test_who_saves_when_told_loses_only_the_saving() -> None:
    def cost(**given: float) -> float:
        return only(training("a", job="j", **given), j=History(saved=1)).cost(NOW, None)  # type: ignore[arg-type]

    assert cost(saved=NOW - 500, save_s=8, restore_s=2) == 10
    assert cost(saved=NOW - 3, save_s=8) == 3, "or less, where less is to be done again"
    assert cost(saved=NOW - 500, save_s=31) == 500, "the grace is too short"


def test_a_promise_is_worth_what_such_promises_were_worth_until_now() -> None:
    pod = training("a", saved=NOW - 500, save_s=8, restore_s=2)

    def cost(faith: Faith) -> float:
        [unit] = units_of([pod], NOW, {}, faith)
        return unit.cost(NOW, None)

    assert cost(Faith()) == 0.5 * 8 + 0.5 * (500 + 30) + 2, "nobody was told yet"
    assert cost(Faith(kept=98)) == pytest.approx(0.99 * 8 + 0.01 * 530 + 2)
    assert cost(Faith(broken=98)) == pytest.approx(0.01 * 8 + 0.99 * 530 + 2)


def test_who_was_told_and_did_not_save_is_not_believed_again() -> None:
    unit = only(training("a", saved=NOW - 500, save_s=8, job="j"), j=History(ignored=1, saved=3))
    assert unit.cost(NOW, None) == 500 + 30, "and its grace is lost too"
    assert unit.wait_s == 30


def test_silence_costs_what_lies_between_two_checkpoints_of_others() -> None:
    silent = only(training("old", started=NOW - 9000, gpus=2))
    units = units_of([without_demand(training(f"a{i}", saved=NOW - i)) for i in (10, 20, 90)], NOW, {})
    usual = usual_redo_s(units, NOW)
    assert usual == 2 * 20
    assert silent.cost(NOW, usual) == 2 * 40
    assert silent.cost(NOW, None) == 2 * 9000, "where nobody reports, the start is all that is known"


def test_each_time_makes_it_dearer_until_it_is_forgotten() -> None:
    pod = without_demand(training("a", saved=NOW - 40, gpus=2, job="j"))
    assert only(pod, j=History(count=3, last_at=NOW)).cost(NOW, None) == 2 * (40 + 3 * PENALTY_S)
    half = History(count=3, last_at=NOW - FORGET_S)
    assert only(pod, j=half).cost(NOW, None) == 2 * (40 + 1.5 * PENALTY_S)


def test_a_job_that_saves_is_one_unit_and_as_old_as_its_slowest_rank() -> None:
    ranks = [without_demand(training(f"r{i}", saved=NOW - 10 * i, job="j", gpus=2)) for i in (1, 2, 3)]
    unit = only(*ranks)
    assert len(unit.pods) == 3
    assert unit.cost(NOW, None) == 6 * 30


def test_a_server_loses_the_time_to_be_ready_again() -> None:
    pod = training("chat", gpus=2, started=NOW - 900)
    ready = Condition(type="Ready", status="True", last_transition_time=rfc3339(NOW - 870))
    pod = msgspec.structs.replace(
        pod,
        metadata=msgspec.structs.replace(pod.metadata, annotations={}),
        status=msgspec.structs.replace(pod.status, conditions=(ready,)),
    )
    assert only(pod).cost(NOW, 5.0) == 2 * 30


def test_pods_of_a_job_without_checkpoints_stop_one_by_one() -> None:
    pods = [msgspec.structs.replace(p, metadata=msgspec.structs.replace(p.metadata, annotations={})) for p in
            (training("a", job="j"), training("b", job="j"))]  # fmt: skip
    assert [unit.name for unit in units_of(pods, NOW, {})] == ["a", "b"]


def test_a_least_running_time_is_kept_and_a_unit_that_gave_way_gets_somewhere() -> None:
    young = training("a", started=NOW - 100, **{MINIMUM_RUNTIME: "5m"})
    assert not only(young).is_settled(NOW)
    assert only(young).is_settled(NOW + 200)
    again = training("a", started=NOW - 20, job="j")
    assert only(again).is_settled(NOW)
    assert not only(again, j=History(count=1)).is_settled(NOW)


def test_gpus_are_those_that_were_given_or_else_those_that_are_asked() -> None:
    assert gpus_of(training("a", gpus=3)) == 3
    given = json.dumps([{"gpu": "g", "milli": 250}, {"gpu": "h", "profile": "3g.40gb", "start": 0}])
    pod = training("a", gpus=3, **{DEVICES_ANNOTATION: given})
    assert gpus_of(pod) == 0.25 + 3 / 7
    cores = Pod(
        metadata=meta("c"),
        spec=PodSpec(
            containers=(Container(name="m", resources=ResourceRequirements(requests={"cpu": "32"})),)
        ),
    )
    assert gpus_of(cores) == 0.5


def test_what_is_remembered_of_units_is_what_would_be_found_anew() -> None:
    def version(pod: Pod, number: int) -> Pod:
        meta = msgspec.structs.replace(pod.metadata, resource_version=str(number))
        return msgspec.structs.replace(pod, metadata=meta)

    server = msgspec.structs.replace(
        training("chat"), metadata=meta("chat", uid="chat", resource_version="1")
    )
    pods = [
        version(training(f"a{i}", saved=NOW - 10 * i, job="j" if i < 2 else f"j{i}"), i) for i in range(4)
    ]
    book, histories = UnitBook(), {"j2": History(count=1, ignored=1), "j3": History(count=1, saved=1)}
    later = [*pods[:3], version(training("a3", saved=NOW - 1, job="j3"), 9)]
    for some, now, faith in (
        ([*pods, server], NOW, Faith()),
        ([*pods, server], NOW + 5, Faith(kept=3)),
        (later, NOW + 9, Faith(kept=3)),
        (pods[1:], NOW + 9, Faith(kept=3, broken=8)),
    ):
        found = book.units_of(some, now, histories, faith)
        assert found == units_of(some, now, histories, faith)
        usual = usual_redo_s(found, now)
        assert [unit.cost(now, usual) for unit in found] == [
            unit.cost(now, usual) for unit in units_of(some, now, histories, faith)
        ]
