"""A new revision on a machine with too few devices for two: over the real store, placement and controllers, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.app.runtimes import ensure_runtimes
from penstock.controlplane.controllers.inference_service import InferenceServiceController
from penstock.decide.handover import ASLEEP_FOR, FAILED
from penstock.host.placement import PlacementController
from penstock.resources.admission import admit
from penstock.resources.core import Node
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.world import World

pytestmark = pytest.mark.looptime


class OneMachine(World):
    """A node with so many devices; a pod of the service takes one."""

    def __init__(self, devices: int = 1) -> None:
        def services(world: World) -> InferenceServiceController:
            recorder = world.recorder.named("services")
            return InferenceServiceController(
                world.cluster, world.cache, recorder, world.clock, gateway_addr="127.0.0.1:8080"
            )

        def placement(world: World) -> PlacementController:
            return PlacementController(
                world.cluster, world.cache, world.recorder.named("placement"), world.clock
            )

        super().__init__(services, placement)
        self.kubelet.places = False
        self._devices = devices

    async def __aenter__(self) -> OneMachine:
        await ensure_runtimes(self.cluster)
        room = {"cpu": "64", "memory": "256Gi", "pods": "99", "nvidia.com/gpu": str(self._devices)}
        node = {
            "metadata": {"name": "n"},
            "status": {"allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
        }
        made = await self.cluster.create(msgspec.convert({"apiVersion": "v1", "kind": "Node", **node}, Node))
        status = msgspec.convert({"apiVersion": "v1", "kind": "Node", **node}, Node).status
        await self.cluster.replace(msgspec.structs.replace(made, status=status), subresource="status")
        await super().__aenter__()
        return self

    async def start(self, annotations: dict[str, str] | None = None, **predictor: Any) -> None:
        await self.cluster.create(iris(annotations or {}, **predictor))
        await asyncio.sleep(30)
        assert await self.shares() == {"1": 100}

    async def change(self, **predictor: Any) -> None:
        await self.patch(InferenceService, "iris", {"spec": {"predictor": predictor}})

    async def shares(self) -> dict[str, int]:
        service = await self.cluster.get(InferenceService, "iris", "default")
        targets = service.status.components["predictor"].traffic
        return {target.revision_name[-1]: target.percent or 0 for target in targets}

    async def sizes(self) -> dict[str, tuple[int, int]]:
        """Wished and available pods of each revision."""
        found = (await self.cluster.list(Deployment, "default")).items
        return {d.metadata.name[-1]: (d.spec.replicas or 0, d.status.available_replicas) for d in found}

    async def marks(self) -> set[str]:
        found = (await self.cluster.list(Deployment, "default")).items
        known = (ASLEEP_FOR, FAILED)
        return {
            f"{d.metadata.name[-1]} {key}" for d in found for key in known if key in d.metadata.annotations
        }


def iris(annotations: dict[str, str], **predictor: Any) -> InferenceService:
    model = {
        "modelFormat": {"name": "huggingface"},
        "storageUri": "file:///models/iris",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": "iris",
            "namespace": "default",
            "annotations": {"serving.kserve.io/deploymentMode": "Standard", **annotations},
        },
        "spec": {"predictor": {"model": model, "minReplicas": 1, **predictor}},
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


NEW = {"model": {"args": ["--max_num_seqs=4"]}}
SOON = {"serving.knative.dev/progress-deadline": "60s"}


async def test_the_old_revision_sleeps_where_there_is_one_device_and_the_new_one_takes_over() -> None:
    async with OneMachine() as world:
        await world.start()
        await world.change(**NEW)
        await asyncio.sleep(8)
        assert await world.sizes() == {"1": (1, 1), "2": (1, 0)}, "what is going may still make room"
        await asyncio.sleep(60)
        assert await world.shares() == {"2": 100}
        assert await world.sizes() == {"1": (0, 0), "2": (1, 1)}
        assert await world.marks() == set()
        told = await world.events()
        assert any(
            line.startswith("HandoverStarted: iris-predictor-00002 has no room beside") for line in told
        )


async def test_where_the_new_one_does_not_get_ready_the_old_one_is_woken_and_the_new_one_marked() -> None:
    async with OneMachine() as world:
        await world.start(SOON)
        await world.change(**NEW, labels={"broken": "yes"})
        await asyncio.sleep(40)
        assert await world.sizes() == {"1": (0, 0), "2": (1, 0)}
        assert await world.shares() == {"1": 100}, "its requests wait"
        await asyncio.sleep(60)
        assert await world.sizes() == {"1": (1, 1), "2": (0, 0)}
        assert await world.shares() == {"1": 100}
        assert await world.marks() == {f"2 {FAILED}"}
        told = await world.events()
        assert any("HandoverFailed" in line and "not ready within 60 s" in line for line in told)
        await asyncio.sleep(600)
        assert await world.sizes() == {"1": (1, 1), "2": (0, 0)}, "it is not tried again and again"
        await world.change(labels={"broken": None})
        await asyncio.sleep(90)
        assert await world.shares() == {"3": 100}, "until the template changes"
        assert await world.marks() == set()


async def test_a_template_that_goes_back_meanwhile_wakes_the_old_one() -> None:
    async with OneMachine() as world:
        await world.start()
        await world.change(**NEW, labels={"broken": "yes"})
        await asyncio.sleep(40)
        assert (await world.sizes())["1"] == (0, 0)
        await world.change(model={"args": None}, labels=None)
        await asyncio.sleep(60)
        assert await world.sizes() == {"1": (1, 1), "2": (0, 0)}
        assert await world.shares() == {"1": 100}
        assert await world.marks() == set()


async def test_of_several_pods_one_after_the_other_gives_way_and_some_always_serve() -> None:
    async with OneMachine(3) as world:
        await world.start(minReplicas=3)
        await world.change(**NEW)
        for _ in range(240):
            await asyncio.sleep(1)
            sizes, shares = await world.sizes(), await world.shares()
            assert all(sizes[revision][1] for revision, percent in shares.items() if percent)
        assert await world.shares() == {"2": 100}
        assert await world.sizes() == {"1": (0, 0), "2": (3, 3)}


async def test_nobody_gives_way_where_there_is_room_for_both() -> None:
    async with OneMachine(2) as world:
        await world.start()
        await world.change(**NEW)
        for _ in range(40):
            await asyncio.sleep(1)
            assert await world.marks() == set()
        assert await world.shares() == {"2": 100}


@pytest.mark.parametrize(
    ("annotations", "change"),
    [
        ({"penstock.dev/handover": "Never"}, {}),
        ({"serving.kserve.io/deploymentMode": "Knative"}, {"canaryTrafficPercent": 20}),
        ({"penstock.dev/rollout-steps": "20"}, {}),
    ],
)
async def test_nobody_gives_way_against_the_users_word_or_where_both_shall_serve(
    annotations: dict[str, str], change: dict[str, Any]
) -> None:
    async with OneMachine() as world:
        await world.start(annotations)
        await world.change(**NEW, **change)
        await asyncio.sleep(120)
        assert await world.sizes() == {"1": (1, 1), "2": (1, 0)}
        assert await world.marks() == set()


async def test_nobody_gives_way_for_a_pod_that_would_not_fit_even_then() -> None:
    async with OneMachine() as world:
        await world.start()
        await world.change(model={"resources": {"limits": {"nvidia.com/gpu": "2"}}})
        await asyncio.sleep(120)
        assert await world.sizes() == {"1": (1, 1), "2": (1, 0)}
        assert await world.shares() == {"1": 100}
