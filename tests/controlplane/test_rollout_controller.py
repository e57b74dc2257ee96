"""A canary under a policy: promoted when it is good, taken back when it is bad, without a human; over the real store in virtual time."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from penstock.app.runtimes import ensure_runtimes
from penstock.contracts.exchange import DemandReport, RevisionDemand, ServiceDemand
from penstock.controlplane.controllers.inference_service import InferenceServiceController
from penstock.controlplane.controllers.rollout import RolloutController
from penstock.controlplane.feed import Feed
from penstock.controlplane.routes import RouteController
from penstock.kit.errors import NotFound
from penstock.resources.admission import admit
from penstock.resources.rollout import Rollout, RolloutPolicy
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment
from penstock.testing.world import World

pytestmark = pytest.mark.looptime
STEPS = {"penstock.dev/rollout-steps": "10,50", "penstock.dev/rollout-wait": "60s"}


class RolloutWorld(World):
    """Requests are answered by the revisions as the shares say, and told of each second; `bad` is how often revision 2 fails."""

    def __init__(self) -> None:
        self.bad = 0.0
        self.rng = random.Random(7)

        def services(world: World) -> InferenceServiceController:
            recorder = world.recorder.named("services")
            return InferenceServiceController(
                world.cluster, world.cache, recorder, world.clock, gateway_addr="127.0.0.1:8080"
            )

        def routes(world: World) -> RouteController:
            self.feed = Feed(world.clock)
            return RouteController(world.cache, self.feed, world.clock)

        def rollouts(world: World) -> RolloutController:
            self.rollouts = RolloutController(
                world.cluster, world.cache, world.recorder.named("rollout"), world.clock
            )
            return self.rollouts

        super().__init__(services, routes, rollouts)

    async def __aenter__(self) -> RolloutWorld:
        await ensure_runtimes(self.cluster)
        await super().__aenter__()
        self.load = asyncio.ensure_future(self._requests())
        return self

    async def __aexit__(self, *ending: object) -> None:
        self.load.cancel()
        await super().__aexit__(*ending)

    async def _requests(self) -> None:
        while True:
            await asyncio.sleep(1)
            told = [
                self._revision(r.name, r.weight_percent)
                for s in self.feed.table.services
                for r in s.revisions
            ]
            service = ServiceDemand(namespace="default", name="iris", revisions=tuple(told))
            self.rollouts.hear(
                DemandReport(gateway="g", at=self.clock.now(), window_s=1.0, services=(service,))
            )

    def _revision(self, name: str, percent: int) -> RevisionDemand:
        asked = sum(self.rng.random() < percent / 100 for _ in range(30))
        failed = sum(self.rng.random() < self.bad for _ in range(asked)) if name.endswith("2") else 0
        return RevisionDemand(name=name, requests=asked, ended=asked, failures=failed)

    async def start(self, **annotations: str) -> None:
        await self.cluster.create(iris(STEPS | annotations))
        await asyncio.sleep(30)

    async def change(self, **predictor: Any) -> None:
        patch = {"spec": {"predictor": predictor}}
        await self.cluster.patch(InferenceService, "iris", "default", patch)

    async def rollout(self) -> Rollout:
        return await self.cluster.get(Rollout, "iris-predictor", "default")

    def shares(self) -> dict[str, int]:
        [route] = self.feed.table.services
        return {r.name[-1]: r.weight_percent for r in route.revisions}


def iris(annotations: dict[str, str]) -> InferenceService:
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "file:///models/iris"}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default", "annotations": annotations},
        "spec": {"predictor": {"model": model}},
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


async def test_a_good_canary_is_promoted_step_by_step() -> None:
    async with RolloutWorld() as world:
        await world.start()
        assert world.shares() == {"1": 100}
        await world.change(model={"args": ["--max_num_seqs=4"]})
        passed: list[dict[str, int]] = []
        for _ in range(200):
            await asyncio.sleep(1)
            if not passed or passed[-1] != world.shares():
                passed.append(world.shares())
        percents = [shares.get("2", 0) for shares in passed]
        assert percents == [0, 10, 50, 100] or percents == [0, 0, 10, 50, 100]
        told = [line.partition(":")[0] for line in await world.events()]
        rollouts = {reason for reason in told if reason.startswith("Rollout")}
        assert rollouts == {"RolloutStarted", "RolloutStepped", "RolloutPromoted", "RolloutCompleted"}
        assert (await world.rollout()).status.phase == "Promoted"


async def test_a_bad_canary_is_rolled_back_with_the_evidence_and_its_pods_go() -> None:
    async with RolloutWorld() as world:
        world.bad = 0.4
        await world.start()
        await world.change(model={"args": ["--max_num_seqs=4"]})
        await asyncio.sleep(60)
        assert (await world.rollout()).status.phase == "RolledBack"
        await asyncio.sleep(20)
        assert world.shares() == {"1": 100}
        bad = await world.cluster.get(Deployment, "iris-predictor-00002", "default")
        assert bad.spec.replicas == 0
        told = next(line for line in await world.events() if line.startswith("RolledBack"))
        assert "errorRate" in told
        assert "evidence" in told
        await asyncio.sleep(600)
        assert world.shares() == {"1": 100}, "and it stays so"
        world.bad = 0.0
        await world.change(model={"args": ["--max_num_seqs=5"]})
        await asyncio.sleep(300)
        assert world.shares() == {"3": 100}, "until the template changes"


async def test_the_controllers_restart_in_the_middle_keeps_step_and_evidence() -> None:
    async with RolloutWorld() as world:
        await world.start()
        await world.change(model={"args": ["--max_num_seqs=4"]})
        await asyncio.sleep(50)
        before = (await world.rollout()).status
        assert (before.phase, before.weight) == ("Progressing", 10)
        assert before.evidence
        world.rollouts._seen.clear()
        world.rollouts._heard.clear()
        world.rollouts._folded.clear()
        await asyncio.sleep(7)
        after = (await world.rollout()).status
        assert after.since == before.since
        assert after.seen[0].requests > before.seen[0].requests


async def test_a_persons_percent_and_word_hold() -> None:
    async with RolloutWorld() as world:
        await world.start()
        await world.change(model={"args": ["--max_num_seqs=4"]}, canaryTrafficPercent=30)
        await asyncio.sleep(30)
        assert world.shares() == {"2": 30, "1": 70}
        assert (await world.rollout()).status.phase == "Overridden"
        await world.change(canaryTrafficPercent=None)
        await asyncio.sleep(5)
        assert world.shares() == {"2": 10, "1": 90}
        override = {"action": "Promote", "revision": "iris-predictor-00002"}
        await world.patch(Rollout, "iris-predictor", {"spec": {"override": override}})
        await asyncio.sleep(5)
        assert world.shares() == {"2": 100}


async def test_a_policy_that_comes_late_starts_the_rollout_that_waited_for_it() -> None:
    async with RolloutWorld() as world:
        await world.cluster.create(iris({"penstock.dev/rollout-policy": "careful"}))
        await asyncio.sleep(30)
        await world.change(model={"args": ["--max_num_seqs=4"]})
        await asyncio.sleep(30)
        assert world.shares() == {"2": 0, "1": 100}
        assert "no RolloutPolicy 'careful'" in (await world.rollout()).status.message
        policy = {
            "apiVersion": "penstock.dev/v1alpha1",
            "kind": "RolloutPolicy",
            "metadata": {"name": "careful", "namespace": "default"},
            "spec": {"steps": [{"weight": 20, "wait": "30s"}]},
        }
        made = admit(policy).object
        assert isinstance(made, RolloutPolicy)
        await world.cluster.create(made)
        await asyncio.sleep(5)
        assert world.shares() == {"2": 20, "1": 80}
        await asyncio.sleep(60)
        assert world.shares() == {"2": 100}


async def test_without_the_annotations_the_rollout_goes_and_the_newest_gets_everything() -> None:
    async with RolloutWorld() as world:
        await world.start()
        await world.change(model={"args": ["--max_num_seqs=4"]})
        await asyncio.sleep(20)
        assert world.shares() == {"2": 10, "1": 90}
        gone = dict.fromkeys(STEPS)
        await world.patch(InferenceService, "iris", {"metadata": {"annotations": gone}})
        await asyncio.sleep(5)
        assert world.shares() == {"2": 100}
        with pytest.raises(NotFound):
            await world.rollout()
