"""The route table is kept by what changes, and is at any time what it would be if it were made from nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.controller import Key
from penstock.controlplane.feed import Feed
from penstock.controlplane.index import Index
from penstock.controlplane.routes import ALL, COALESCE_S, MOST_REST_S, RouteController
from penstock.decide.objectives import objectives_of, with_objectives
from penstock.decide.revision import REVISION_LABEL
from penstock.decide.route_table import service_routes
from penstock.decide.routing_profile import profiles_of
from penstock.resources.autoscaling import CrossVersionObjectReference
from penstock.resources.meta import Condition, Resource
from penstock.resources.objective import InferenceObjective, InferenceObjectiveSpec, PoolReference
from penstock.resources.pod import Container, Pod, PodSpec, PodStatus
from penstock.resources.pod_autoscaler import PodAutoscaler, PodAutoscalerSpec
from penstock.resources.routing import (
    PROFILE,
    PromptClassesSpec,
    RoutingProfile,
    RoutingProfileSpec,
)
from penstock.resources.selectors import parse_labels
from penstock.resources.serving import (
    ComponentStatus,
    InferenceService,
    InferenceServiceSpec,
    InferenceServiceStatus,
    PredictorSpec,
    TrafficTarget,
)
from penstock.testing.factories import meta

TARGET = CrossVersionObjectReference(api_version="apps/v1", kind="Deployment", name="any")


class Steps:
    """A clock that goes on by itself by so much with each look at it: what a table takes."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s, self.at, self.slept = step_s, 0.0, 0.0

    def now(self) -> float:
        return 1000.0 + self.at

    def monotonic(self) -> float:
        self.at += self.step_s
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        await asyncio.sleep(seconds)


class World:
    """A cache whose changes are made by hand, and the controller that hears of them."""

    def __init__(self, clock: Steps | None = None) -> None:
        self.clock = clock or Steps()
        self.feed = Feed(self.clock)
        self.indexes: dict[type[Resource], Index] = {}
        self.asked: list[Key] = []
        self.controller = RouteController(self, self.feed, self.clock)

    def get(self, kind: type[Any], name: str, namespace: str = "") -> Any:
        return self.indexes.setdefault(kind, Index()).get((namespace, name))

    def list(
        self, kind: type[Any], namespace: str | None = None, *, labels: str = "", owner: str = ""
    ) -> Any:
        return self.indexes.setdefault(kind, Index()).find(namespace, parse_labels(labels), owner)

    def put(self, kind: type[Resource], name: str, obj: Resource | None) -> None:
        """A change, told as an informer's listener tells it."""
        before = self.indexes.setdefault(kind, Index()).put(("default", name), obj)
        for watch in self.controller.watches():
            if watch.kind is kind:
                for state in (before, obj):
                    self.asked += watch.keys(state) if state is not None else ()

    def from_nothing(self) -> Any:
        profiles = profiles_of(self.list(RoutingProfile))
        objectives = objectives_of(self.list(InferenceObjective))
        routes = service_routes(
            self.list(InferenceService), self.list(Pod), self.list(PodAutoscaler), profiles
        )
        return tuple(with_objectives(route, objectives) for route in routes)


def service(name: str, revisions: tuple[str, ...]) -> InferenceService:
    """`b` names a profile."""
    traffic = tuple(TrafficTarget(revision_name=each, percent=50) for each in revisions)
    return InferenceService(
        metadata=meta(name, annotations={PROFILE: "y"} if name == "b" else {}),
        spec=InferenceServiceSpec(predictor=PredictorSpec()),
        status=InferenceServiceStatus(components={"predictor": ComponentStatus(traffic=traffic)}),
    )


def pod(name: str, revision: str, ready: bool) -> Pod:
    condition = Condition(type="Ready", status=str(ready), last_transition_time="2026-01-01T00:00:00Z")
    return Pod(
        metadata=meta(name, labels={REVISION_LABEL: revision}),
        spec=PodSpec(node_name="node-1", containers=(Container(name="kserve-container"),)),
        status=PodStatus(phase="Running", pod_ip="127.0.0.9", conditions=(condition,)),
    )


def profile(name: str, default: bool, threshold_tokens: int) -> RoutingProfile:
    classes = PromptClassesSpec(threshold_tokens=threshold_tokens)
    return RoutingProfile(
        metadata=meta(name), spec=RoutingProfileSpec(default=default, prompt_classes=classes)
    )


def objective(name: str, pool: str) -> InferenceObjective:
    spec = InferenceObjectiveSpec(pool_ref=PoolReference(name=pool), priority=len(pool))
    return InferenceObjective(metadata=meta(name), spec=spec)


def scaler(revision: str) -> PodAutoscaler:
    return PodAutoscaler(metadata=meta(revision), spec=PodAutoscalerSpec(scale_target_ref=TARGET))


REVISIONS = st.sampled_from(["r1", "r2", "r3", "r4"])
CHANGES = st.one_of(
    st.tuples(
        st.just(InferenceService),
        st.sampled_from(["a", "b"]),
        st.one_of(st.none(), st.lists(st.sampled_from(["1", "2"]), unique=True)),
    ),
    st.tuples(
        st.just(Pod), st.sampled_from(["p", "q"]), st.one_of(st.none(), st.tuples(REVISIONS, st.booleans()))
    ),
    st.tuples(st.just(PodAutoscaler), REVISIONS, st.booleans()),
    st.tuples(
        st.just(InferenceObjective),
        st.sampled_from(["u", "v"]),
        st.sampled_from([None, "a", "b", "a-inference-pool"]),
    ),
    st.tuples(
        st.just(RoutingProfile),
        st.sampled_from(["x", "y"]),
        st.one_of(st.none(), st.tuples(st.booleans(), st.integers(0, 1))),
    ),
    st.just(None),
)


def _made(kind: type[Resource], name: str, what: Any) -> Resource | None:
    """Each service has revisions of its own: `a` has r1 and r2, `b` has r3 and r4."""
    if kind is InferenceService:
        own = {"a": {"1": "r1", "2": "r2"}, "b": {"1": "r3", "2": "r4"}}[name]
        return None if what is None else service(name, tuple(own[each] for each in what))
    if kind is Pod:
        return None if what is None else pod(name, *what)
    if kind is RoutingProfile:
        return None if what is None else profile(name, *what)
    if kind is InferenceObjective:
        return None if what is None else objective(name, what)
    return scaler(name) if what else None


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_after_whatever_changes_the_table_is_what_it_would_be_if_made_from_nothing(
    changes: list[Any],
) -> None:
    async def play() -> None:
        world = World(clock=_Standing())
        for change in (*changes, None):
            if change is not None:
                kind, name, what = change
                world.put(kind, name, _made(kind, name, what))
                continue
            await world.controller.reconcile(ALL)
            assert world.feed.table.services == world.from_nothing()

    asyncio.run(play())


class _Standing(Steps):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_pod_that_no_service_names_asks_for_no_table() -> None:
    world = World()
    world.put(Pod, "p", pod("p", "r9", True))
    assert world.asked == []
    world.put(InferenceService, "a", service("a", ("r9",)))
    await world.controller.reconcile(ALL)
    assert world.asked == [ALL]
    assert world.feed.table.services[0].revisions[0].endpoints[0].name == "p"


@pytest.mark.looptime
async def test_one_change_is_told_at_once_and_the_next_of_a_storm_later_but_never_what_pods_say() -> None:
    world, loop = World(Steps(step_s=1.0)), asyncio.get_running_loop()  # a table takes seconds
    world.put(InferenceService, "a", service("a", ("r1",)))
    began = loop.time()
    await world.controller.reconcile(ALL)
    assert loop.time() - began < 5 * COALESCE_S, "the first does not rest"
    world.clock.step_s = 0.0
    world.put(InferenceService, "b", service("b", ("r3",)))
    storm = asyncio.create_task(world.controller.reconcile(ALL))
    await asyncio.sleep(5 * COALESCE_S)
    assert not storm.done(), "it rests"
    world.put(Pod, "p", pod("p", "r1", True))
    await asyncio.wait_for(storm, MOST_REST_S / 2)
    assert [len(route.revisions[0].endpoints) for route in world.feed.table.services] == [1, 0]
