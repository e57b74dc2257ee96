"""Revisions and traffic: immutable, never without an answer, as KServe's canary rules say."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import NOW, offers, runtime, service, stored

from penstock.decide.plan import ComponentPlan, Surroundings, plan_service
from penstock.decide.revision import is_ready
from penstock.decide.rollout import DRAIN_S, KEPT_REVISIONS, STOP
from penstock.resources.serving import ComponentStatus, InferenceService, InferenceServiceStatus
from penstock.resources.workload import Deployment

RUNTIME = runtime("r", offers("huggingface"))


class Story:
    """A service and its Deployments as time goes by: everything that is planned is done. At no step may a share go to no pods."""

    def __init__(self, **predictor: Any) -> None:
        self.service = service(**predictor)
        self.deployments: dict[str, Deployment] = {}
        self.ready: set[str] = set()
        self.now = NOW

    def step(self) -> ComponentPlan:
        known = Surroundings(
            "127.0.0.1:1",
            cluster_runtimes=(RUNTIME,),
            deployments=tuple(stored(d, ready=name in self.ready) for name, d in self.deployments.items()),
        )
        [part] = plan_service(self.service, known, self.now).components
        rollout = part.rollout
        serving = {d.metadata.name for d in known.deployments if is_ready(d)}
        shares = {t.revision_name for t in rollout.status.traffic if t.percent}
        assert shares <= serving, "traffic goes only where pods are"
        if rollout.create is not None:
            self.deployments[rollout.create.metadata.name] = rollout.create
        for name, size in rollout.scale:
            self._change(name, replicas=size)
        for name, since in rollout.mark_idle:
            kept = {
                k: v
                for k, v in self.deployments[name].metadata.annotations.items()
                if k != "penstock.dev/idle-since"
            }
            marked = {**kept, **({"penstock.dev/idle-since": since} if since else {})}
            meta = msgspec.structs.replace(self.deployments[name].metadata, annotations=marked)
            self.deployments[name] = msgspec.structs.replace(self.deployments[name], metadata=meta)
        for name in rollout.delete:
            del self.deployments[name]
        status = msgspec.structs.replace(self.service.status, components={"predictor": rollout.status})
        self.service = msgspec.structs.replace(self.service, status=status)
        return part

    def _change(self, name: str, **fields: Any) -> None:
        deployment = self.deployments[name]
        self.deployments[name] = msgspec.structs.replace(
            deployment, spec=msgspec.structs.replace(deployment.spec, **fields)
        )

    def change(self, **predictor: Any) -> None:
        wished: InferenceService = service(**predictor)
        self.service = msgspec.structs.replace(self.service, spec=wished.spec)

    def stop(self, *, stopped: bool = True) -> None:
        """Stop the service, or start it again."""
        meta = msgspec.structs.replace(self.service.metadata, annotations={STOP: str(stopped).lower()})
        self.service = msgspec.structs.replace(self.service, metadata=meta)

    def settle(self, *, ready: bool = True) -> None:
        for _ in range(4):
            self.step()
            if ready:
                self.ready = set(self.deployments)
            self.now += DRAIN_S + 1

    def traffic(self) -> dict[str, int]:
        targets = self.service.status.components["predictor"].traffic
        return {t.revision_name[-1]: t.percent or 0 for t in targets}

    def sizes(self) -> dict[str, int]:
        return {name[-1]: d.spec.replicas or 0 for name, d in self.deployments.items()}


def args(number: int, **predictor: Any) -> dict[str, Any]:
    """Predictors that differ."""
    chosen = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", "args": [f"--n={number}"]}
    return {"model": chosen, **predictor}


def test_the_first_revision_takes_all_traffic_once_it_is_ready() -> None:
    story = Story(**args(1))
    story.step()
    story.step()
    assert list(story.deployments) == ["iris-predictor-00001"]
    assert story.traffic() == {}
    story.settle()
    assert story.traffic() == {"1": 100}


def test_a_change_makes_a_new_revision_and_traffic_waits_until_it_is_ready() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle(ready=False)
    assert story.traffic() == {"1": 100}
    assert story.sizes() == {"1": 1, "2": 1}
    story.ready = set(story.deployments)
    story.step()
    assert story.traffic() == {"2": 100}
    assert story.sizes() == {"1": 1, "2": 1}, "what has lost its traffic stays while gateways learn of it"
    story.settle()
    assert story.sizes() == {"1": 0, "2": 1}


def test_a_canary_gets_its_share_is_promoted_and_rolled_back() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2, canaryTrafficPercent=20))
    story.settle()
    assert story.traffic() == {"2": 20, "1": 80}
    story.change(**args(2, canaryTrafficPercent=0))
    story.settle()
    assert story.traffic() == {"2": 0, "1": 100}
    story.change(**args(2))
    story.settle()
    assert story.traffic() == {"2": 100}
    assert story.sizes()["1"] == 0


def test_the_next_canary_stands_beside_what_was_rolled_out_last() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle()
    story.change(**args(3, canaryTrafficPercent=20))
    story.settle(ready=False)
    assert story.traffic() == {"2": 100}, "until the canary is ready"
    story.settle()
    assert story.traffic() == {"3": 20, "2": 80}


def test_what_was_promoted_is_rolled_back_once_the_one_before_has_its_pods_again() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle()
    assert story.sizes() == {"1": 0, "2": 1}
    story.ready = {"iris-predictor-00002"}
    story.change(**args(2, canaryTrafficPercent=0))
    story.settle(ready=False)
    assert story.sizes() == {"1": 1, "2": 1}
    assert story.traffic() == {"2": 100}, "nobody would answer yet"
    story.settle()
    assert story.traffic() == {"2": 0, "1": 100}
    story.change(**args(2))
    story.step()
    assert story.traffic() == {"2": 100}


def test_what_returns_to_an_earlier_form_uses_its_revision_again() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle()
    story.change(**args(1))
    story.settle()
    assert story.traffic() == {"1": 100}
    assert set(story.deployments) == {"iris-predictor-00001", "iris-predictor-00002"}


def test_a_new_revision_starts_as_large_as_the_one_that_it_replaces() -> None:
    story = Story(**args(1, minReplicas=1, maxReplicas=5))
    story.settle()
    story._change("iris-predictor-00001", replicas=4)
    story.change(**args(2, minReplicas=1, maxReplicas=5))
    story.step()
    assert story.sizes() == {"1": 4, "2": 4}


def test_a_size_that_somebody_sets_is_kept_within_the_bounds() -> None:
    story = Story(**args(1, minReplicas=2, maxReplicas=3))
    story.settle()
    for wished, kept in ((3, 3), (9, 3), (1, 2)):
        story._change("iris-predictor-00001", replicas=wished)
        story.settle()
        assert story.sizes() == {"1": kept}


def test_numbers_in_quotes_become_numbers_in_the_deployment() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "0", "maxUnavailable": "25%"}}
    story = Story(
        annotations={"serving.kserve.io/deploymentMode": "Standard"}, **args(1, deploymentStrategy=strategy)
    )
    story.step()
    strategy_made = story.deployments["iris-predictor-00001"].spec.strategy
    assert strategy_made is not None
    update = strategy_made.rolling_update
    assert update is not None
    assert (update.max_surge, update.max_unavailable) == (0, "25%")


def test_a_number_is_not_used_again_after_a_rollback_and_a_stop() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle()
    story.change(**args(1))
    story.settle()
    story.stop()
    story.settle()
    assert not story.deployments
    story.stop(stopped=False)
    story.settle()
    assert set(story.deployments) == {"iris-predictor-00003"}


def test_nothing_is_deleted_before_the_highest_number_is_written_down() -> None:
    story = Story(**args(1))
    story.settle()
    story.change(**args(2))
    story.settle()
    story.change(**args(1))
    story.settle()
    story.stop()
    story.step()
    assert len(story.deployments) == 2
    assert story.service.status.components["predictor"].latest_created_revision == "iris-predictor-00002"
    story.step()
    assert not story.deployments


def test_numbers_of_six_digits_come_after_those_of_five() -> None:
    story = Story(**args(1))
    status = ComponentStatus(latest_created_revision="iris-predictor-99996")
    story.service = msgspec.structs.replace(
        story.service, status=InferenceServiceStatus(components={"predictor": status})
    )
    story.settle()
    for number in range(2, KEPT_REVISIONS + 5):
        story.change(**args(number))
        story.settle()
    kept = [int(name.rpartition("-")[2]) for name in story.deployments]
    assert kept == list(range(99_999, 100_006))


def test_what_a_canary_would_roll_back_to_is_not_pruned() -> None:
    story = Story(**args(0))
    story.settle()
    story.change(**args(1))
    story.settle()
    for number in range(2, KEPT_REVISIONS + 4):
        story.change(**args(number))
        story.settle(ready=False)
    assert story.service.status.components["predictor"].previous_rolledout_revision == "iris-predictor-00001"
    assert "iris-predictor-00001" in story.deployments
    story.change(**args(1, canaryTrafficPercent=30))
    story.settle()
    assert story.traffic() == {"2": 30, "1": 70}


def test_a_canary_without_traffic_is_kept_while_its_successors_do_not_start() -> None:
    story = Story(**args(0))
    story.settle()
    story.change(**args(1, canaryTrafficPercent=0))
    story.settle()
    for number in range(2, KEPT_REVISIONS + 4):
        story.change(**args(number, canaryTrafficPercent=0))
        story.settle(ready=False)
        assert story.traffic() == {"1": 100, "2": 0}
    story.change(**args(9))
    story.step()
    assert story.traffic() == {"2": 100}
    assert story.sizes()["2"] == 1, "it takes over at once, its pods are there"


def test_traffic_goes_back_to_what_was_rolled_out_when_somebody_deletes_the_canary() -> None:
    story = Story(**args(0))
    story.settle()
    story.change(**args(1, canaryTrafficPercent=50))
    story.settle()
    del story.deployments["iris-predictor-00002"]
    story.ready.discard("iris-predictor-00002")
    story.step()
    assert story.traffic() == {"1": 100}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([None, 0, 10, 50, 100]), st.booleans(), st.booleans()),
        max_size=14,
    )
)
def test_traffic_sums_to_all_goes_only_to_what_was_ready_and_numbers_never_repeat(
    changes: list[tuple[int, int | None, bool, bool]],
) -> None:
    story = Story(**args(0))
    story.settle()
    seen: dict[str, Any] = {}
    for number, percent, ready, stops in changes:
        if stops:
            story.stop()
            story.settle()
            assert (story.deployments, story.traffic()) == ({}, {})
            story.ready.clear()
            story.stop(stopped=False)
        story.change(**args(number, **({} if percent is None else {"canaryTrafficPercent": percent})))
        story.settle(ready=ready)
        targets = story.service.status.components["predictor"].traffic
        assert sum(t.percent or 0 for t in targets) == (100 if story.ready else 0)
        assert all(t.revision_name in story.ready for t in targets)
        assert all(story.deployments[t.revision_name].spec.replicas for t in targets if t.percent)
        for name, deployment in story.deployments.items():
            assert seen.setdefault(name, deployment.spec.template) == deployment.spec.template
        assert len(story.deployments) <= KEPT_REVISIONS + 4
