"""Deployments as kubectl's users know them, with the real controllers over the real store."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import on_virtual_time

from penstock.decide.deployment import budget, replicas_of
from penstock.kit.errors import NotFound
from penstock.resources.meta import LabelSelector
from penstock.resources.pod import Pod
from penstock.resources.workload import (
    Deployment,
    DeploymentStrategy,
    ReplicaSet,
    ReplicaSetSpec,
    RollingUpdate,
)
from penstock.testing.factories import deployment, meta, pod, replica_set, template
from penstock.testing.world import World, condition, is_active, is_ready

pytestmark = pytest.mark.looptime


def new_template(color: str, **labels: str) -> dict[str, object]:
    """A merge patch to another template."""
    return {"spec": {"template": {"metadata": {"labels": {"app": "web", "color": color, **labels}}}}}


async def test_a_new_deployment_gets_its_pods_and_becomes_available() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=3))
        await asyncio.sleep(3)
        early = await world.deployment()
        assert condition(early, "Available").status == "False"
        assert condition(early, "Progressing").reason == "ReplicaSetUpdated"
        await asyncio.sleep(10)
        found = await world.deployment()
        [rs] = await world.replica_sets()
        assert len(await world.pods("app=web")) == 3
        status = found.status
        assert (status.replicas, status.updated_replicas, status.ready_replicas) == (3, 3, 3)
        assert (status.available_replicas, status.unavailable_replicas) == (3, 0)
        assert status.observed_generation == found.metadata.generation
        assert condition(found, "Available").reason == "MinimumReplicasAvailable"
        progressing = condition(found, "Progressing")
        assert progressing.reason == "NewReplicaSetAvailable"
        assert progressing.message == f'ReplicaSet "{rs.metadata.name}" has successfully progressed.'
        assert found.metadata.annotations["deployment.kubernetes.io/revision"] == "1"
        assert rs.metadata.labels["pod-template-hash"] == rs.spec.selector.match_labels["pod-template-hash"]
        assert f"Scaled up replica set {rs.metadata.name} from 0 to 3" in "\n".join(await world.events())


async def test_a_pod_that_is_deleted_is_made_again() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=2))
        await asyncio.sleep(10)
        gone = (await world.pods())[0].metadata.name
        await world.cluster.delete(Pod, gone, "default")
        await asyncio.sleep(10)
        names = [one.metadata.name for one in await world.pods() if is_ready(one)]
        assert len(names) == 2
        assert gone not in names


async def test_a_failed_pod_is_replaced() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=1))
        await asyncio.sleep(10)
        [one] = await world.pods()
        await world.cluster.patch(
            Pod, one.metadata.name, "default", {"status": {"phase": "Failed"}}, subresource="status"
        )
        await asyncio.sleep(10)
        assert len([pod for pod in await world.pods() if is_active(pod)]) == 1


async def test_a_new_template_replaces_all_pods_and_keeps_the_old_revision() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=3))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", new_template("blue"))
        await asyncio.sleep(60)
        assert {one.metadata.labels.get("color") for one in await world.pods()} == {"blue"}
        sizes = {
            rs.metadata.annotations["deployment.kubernetes.io/revision"]: rs.spec.replicas
            for rs in await world.replica_sets()
        }
        assert sizes == {"1": 0, "2": 3}


async def test_undo_finds_the_old_replica_set_again_even_if_a_client_wrote_empty_fields() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=2))
        await asyncio.sleep(10)
        [first] = await world.replica_sets()
        await world.patch(Deployment, "web", new_template("blue"))
        await asyncio.sleep(30)
        back = (await world.deployment()).spec.template
        container = {
            "name": back.spec.containers[0].name,
            "image": back.spec.containers[0].image,
            "command": list(back.spec.containers[0].command),
            "resources": {},
            "env": [],
        }
        undo = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
        await world.cluster.patch(
            Deployment, "web", "default", [{"op": "replace", "path": "/spec/template", "value": undo}]
        )
        await asyncio.sleep(30)
        revisions = {
            rs.metadata.name: rs.metadata.annotations["deployment.kubernetes.io/revision"]
            for rs in await world.replica_sets()
        }
        assert len(revisions) == 2
        assert revisions[first.metadata.name] == "3"
        assert (await world.cluster.get(ReplicaSet, first.metadata.name, "default")).spec.replicas == 2


async def test_old_revisions_beyond_the_limit_go() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=1, revision_history_limit=2))
        for number in range(6):
            await world.patch(Deployment, "web", new_template(f"c{number}"))
            await asyncio.sleep(30)
        kept = [
            rs.metadata.annotations["deployment.kubernetes.io/revision"] for rs in await world.replica_sets()
        ]
        assert sorted(kept) == ["4", "5", "6"]


async def test_recreate_starts_no_new_pod_while_an_old_one_still_runs() -> None:
    async with World() as world:
        world.kubelet.stop_s = 20.0
        strategy = DeploymentStrategy(type="Recreate")
        await world.cluster.create(deployment("web", replicas=2, strategy=strategy))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", new_template("blue"))
        for _ in range(40):
            await asyncio.sleep(1)
            assert len({one.metadata.labels.get("color") for one in await world.pods()}) <= 1
        assert [is_ready(one) for one in await world.pods("color=blue")] == [True, True]


async def test_a_rollout_that_gets_nowhere_is_said_to_have_timed_out_and_keeps_the_old_pods() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=4, progress_deadline_seconds=60))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", new_template("blue", broken="yes"))
        await asyncio.sleep(50)
        assert condition(await world.deployment(), "Progressing").reason == "ReplicaSetUpdated"
        await asyncio.sleep(30)
        found = await world.deployment()
        assert condition(found, "Progressing").reason == "ProgressDeadlineExceeded"
        assert condition(found, "Progressing").status == "False"
        assert condition(found, "Available").status == "True"
        assert len([one for one in await world.pods() if is_ready(one)]) >= 3
        await world.patch(Deployment, "web", new_template("green", broken=None))  # type: ignore[arg-type]
        await asyncio.sleep(60)
        assert condition(await world.deployment(), "Progressing").reason == "NewReplicaSetAvailable"


async def test_a_paused_deployment_scales_but_does_not_roll_out() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=2))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", {"spec": {"paused": True}})
        await world.patch(Deployment, "web", new_template("blue"))
        await world.patch(Deployment, "web", {"spec": {"replicas": 4}})
        await asyncio.sleep(30)
        assert len(await world.pods()) == 4
        assert not await world.pods("color=blue")
        assert condition(await world.deployment(), "Progressing").reason == "DeploymentPaused"
        await world.patch(Deployment, "web", {"spec": {"paused": False}})
        await asyncio.sleep(60)
        assert len(await world.pods("color=blue")) == 4


async def test_scaling_in_the_middle_of_a_paused_rollout_is_shared_out() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=8))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", new_template("blue"))
        await asyncio.sleep(3)
        await world.patch(Deployment, "web", {"spec": {"paused": True}})
        await asyncio.sleep(20)
        before = len(await world.pods("color=blue"))
        assert 0 < before < 8
        await world.patch(Deployment, "web", {"spec": {"replicas": 16}})
        await asyncio.sleep(20)
        assert len(await world.pods()) == 16 + 4, "a quarter more, as long as there are two templates"
        assert before < len(await world.pods("color=blue")) < 16


@pytest.mark.parametrize("size", [7, 4, 3, 2])
async def test_scaling_a_paused_rollout_that_is_stuck_takes_no_pod_that_is_needed(size: int) -> None:
    rolling = DeploymentStrategy(rolling_update=RollingUpdate(max_surge=3, max_unavailable=0))
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=5, strategy=rolling))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", new_template("red", broken="yes"))
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", {"spec": {"paused": True}})
        await world.patch(Deployment, "web", {"spec": {"replicas": size}})
        await asyncio.sleep(30)
        pods = await world.pods()
        assert len(pods) == size + 3
        assert sum(map(is_ready, pods)) >= min(size, 5)


async def test_pods_count_as_available_only_after_min_ready_seconds() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=1, min_ready_seconds=30))
        await asyncio.sleep(20)
        found = await world.deployment()
        assert (found.status.ready_replicas, found.status.available_replicas) == (1, 0)
        await asyncio.sleep(20)
        assert (await world.deployment()).status.available_replicas == 1
        await world.patch(Deployment, "web", {"spec": {"minReadySeconds": 1000}})
        await asyncio.sleep(5)
        assert (await world.deployment()).status.available_replicas == 0


async def test_scaling_in_takes_the_pods_that_matter_least() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=2))
        await asyncio.sleep(10)
        ready = {one.metadata.name for one in await world.pods()}
        world.kubelet.start_s = 1000.0
        await world.patch(Deployment, "web", {"spec": {"replicas": 5}})
        await asyncio.sleep(10)
        await world.patch(Deployment, "web", {"spec": {"replicas": 2}})
        await asyncio.sleep(10)
        assert {one.metadata.name for one in await world.pods()} == ready


async def test_a_foreign_replica_set_or_pod_is_never_taken_over() -> None:
    async with World() as world:
        made = deployment("web", replicas=1)
        stranger = await world.cluster.create(pod("stranger", labels={"app": "web"}))
        await world.cluster.create(made)
        await asyncio.sleep(10)
        [rs] = await world.replica_sets()
        await world.cluster.delete(Deployment, "web", "default")
        await asyncio.sleep(10)
        labels = {"app": "other"}
        await world.cluster.create(
            ReplicaSet(
                metadata=meta(rs.metadata.name),
                spec=ReplicaSetSpec(
                    replicas=0, selector=LabelSelector(match_labels=labels), template=template(labels)
                ),
            )
        )
        await world.cluster.create(made)
        await asyncio.sleep(20)
        assert (await world.deployment()).status.collision_count == 1
        assert (await world.deployment()).status.available_replicas == 1
        untouched = await world.cluster.get(Pod, "stranger", "default")
        assert untouched.metadata.uid == stranger.metadata.uid
        assert not untouched.metadata.owner_references


async def test_pods_that_cannot_be_made_are_told_of() -> None:
    async with World() as world:
        made = deployment("web", replicas=1, template=template({"app": "web"}, node_name="n"))
        real = world.cluster.create

        async def create(obj, **kwargs):  # type: ignore[no-untyped-def]
            if isinstance(obj, Pod):
                raise NotFound('namespaces "default" not found')
            return await real(obj, **kwargs)

        world.cluster.create = create  # type: ignore[method-assign]
        await world.cluster.create(made)
        await asyncio.sleep(5)
        failure = condition(await world.deployment(), "ReplicaFailure")
        assert (failure.status, failure.reason) == ("True", "FailedCreate")
        assert failure.message == 'namespaces "default" not found'
        world.cluster.create = real  # type: ignore[method-assign]
        await asyncio.sleep(90)
        found = await world.deployment()
        assert condition(found, "ReplicaFailure") is None
        assert found.status.available_replicas == 1


async def test_what_a_deployment_owned_goes_with_it() -> None:
    async with World() as world:
        await world.cluster.create(deployment("web", replicas=2))
        await asyncio.sleep(10)
        await world.cluster.delete(Deployment, "web", "default")
        await asyncio.sleep(10)
        assert not await world.replica_sets()
        assert not await world.pods()


async def test_a_replica_set_alone_keeps_its_number_and_never_makes_one_too_many() -> None:
    async with World() as world:
        await world.cluster.create(replica_set("solo", replicas=5))
        await asyncio.sleep(10)
        assert len(await world.pods()) == 5
        made = [event for event in await world.events() if event.startswith("SuccessfulCreate")]
        assert len(made) == 5
        await world.patch(ReplicaSet, "solo", {"spec": {"replicas": 0}})
        await asyncio.sleep(10)
        assert not await world.pods()


async def hold_against_its_promises(world: World) -> None:
    """Sees every change of every pod in order."""
    listing = await world.cluster.list(Pod)
    known: dict[str, Pod] = {}
    async for change in world.cluster.watch(Pod, since=listing.resource_version):
        name, before = change.object.metadata.name, known.get(change.object.metadata.name)
        known.pop(name, None)
        if change.type != "DELETED":
            known[name] = change.object
        wish = await world.deployment()
        surge, unavailable = budget(wish)
        active = [one for one in known.values() if is_active(one)]
        if before is None:
            assert len(active) <= replicas_of(wish) + surge, "more than the surge"
        elif is_active(before) and is_ready(before) and not is_active(change.object):
            left = sum(map(is_ready, active))
            assert left >= replicas_of(wish) - unavailable, "too few are left"


ACTIONS = st.one_of(
    st.tuples(st.just("template"), st.sampled_from(["red", "green", "blue"])),
    st.tuples(st.just("broken"), st.sampled_from(["red", "green", "blue"])),
    st.tuples(st.just("scale"), st.integers(0, 7)),
    st.tuples(st.just("start"), st.integers(1, 20)),
    st.tuples(st.just("pause"), st.booleans()),
)
SHARES = st.one_of(st.integers(0, 3), st.sampled_from(["0%", "20%", "25%", "50%", "100%"]))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 6),
    SHARES,
    SHARES,
    st.lists(st.tuples(ACTIONS, st.integers(1, 30)), max_size=6),
)
def test_an_update_never_takes_a_ready_pod_unless_wished_less_unavailable_stay_and_always_ends(
    size: int, surge: int | str, unavailable: int | str, actions: list[tuple[tuple[str, object], int]]
) -> None:
    if surge in (0, "0%") and unavailable in (0, "0%"):
        unavailable = 1

    async def run() -> None:
        rolling = RollingUpdate(max_surge=surge, max_unavailable=unavailable)
        strategy = DeploymentStrategy(type="RollingUpdate", rolling_update=rolling)
        async with World() as world:
            await world.cluster.create(deployment("web", replicas=size, strategy=strategy))
            watching = asyncio.ensure_future(hold_against_its_promises(world))
            for (what, value), wait_s in actions:
                match what:
                    case "template" | "broken":
                        broken = "yes" if what == "broken" else None
                        await world.patch(Deployment, "web", new_template(str(value), broken=broken))  # type: ignore[arg-type]
                    case "scale":
                        await world.patch(Deployment, "web", {"spec": {"replicas": value}})
                    case "pause":
                        await world.patch(Deployment, "web", {"spec": {"paused": value}})
                    case "start":
                        world.kubelet.start_s = float(value)  # type: ignore[arg-type]
                await asyncio.sleep(wait_s)
            await world.patch(Deployment, "web", {"spec": {"paused": False}})
            await world.patch(Deployment, "web", new_template("last", broken=None))  # type: ignore[arg-type]
            await asyncio.sleep(600)
            found = await world.deployment()
            wished = replicas_of(found)
            assert len(await world.pods("color=last,!broken")) == len(await world.pods()) == wished
            assert condition(found, "Progressing").reason == "NewReplicaSetAvailable"
            if watching.done():
                watching.result()
            watching.cancel()

    on_virtual_time(run)
