"""Standard mode's canaries: Deployments of their own, shares only for those that answer, promotion without a new pod."""

from __future__ import annotations

from typing import Any

import msgspec
from worlds import NOW, offers, runtime, stored

from penstock.decide.canaries import CANARY_LABEL
from penstock.decide.plan import ComponentPlan, Surroundings, plan_service
from penstock.decide.revision import IDLE_SINCE
from penstock.decide.rollout import DRAIN_S, STOP
from penstock.resources.admission import admit
from penstock.resources.serving import InferenceService
from penstock.resources.workload import Deployment

RUNTIME = runtime("r", offers("huggingface"))
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}


def wish(*canaries: dict[str, Any], annotations: dict[str, str] | None = None, **predictor: Any) -> Any:
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", "args": ["--old"]}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default", "annotations": STANDARD | (annotations or {})},
        "spec": {"predictor": {"model": model, **predictor}, "canary": list(canaries)},
    }
    return admit(document).object


def entry(name: str, percent: int, args: str = "--new", **predictor: Any) -> dict[str, Any]:
    return {"trafficPercent": percent, "predictor": {"name": name, "model": {"args": [args]}, **predictor}}


class Story:
    """Everything that is planned is done; `down` are Deployments whose pods do not get ready."""

    def __init__(self, service: InferenceService) -> None:
        self.service = msgspec.structs.replace(
            service, metadata=msgspec.structs.replace(service.metadata, uid="u")
        )
        self.deployments: dict[str, Deployment] = {}
        self.down: set[str] = set()
        self.now = NOW

    def wish(self, service: InferenceService) -> None:
        self.service = msgspec.structs.replace(self.service, spec=service.spec)

    def step(self) -> ComponentPlan:
        seen = tuple(stored(d, ready=n not in self.down) for n, d in self.deployments.items())
        known = Surroundings("127.0.0.1:1", cluster_runtimes=(RUNTIME,), deployments=seen)
        [part] = plan_service(self.service, known, self.now).components
        canaries, rollout = part.canaries, part.rollout
        made = (*canaries.create, *canaries.replace, *((rollout.create,) if rollout.create else ()))
        self.deployments |= {one.metadata.name: one for one in made}
        for name in canaries.adopt:
            self.edit(name, labels={CANARY_LABEL: None})
        for name, size in (*rollout.scale, *canaries.scale):
            spec = msgspec.structs.replace(self.deployments[name].spec, replicas=size)
            self.deployments[name] = msgspec.structs.replace(self.deployments[name], spec=spec)
        for name, since in (*rollout.mark_idle, *canaries.mark_idle):
            self.edit(name, annotations={IDLE_SINCE: since})
        for name in (*rollout.delete, *canaries.delete):
            del self.deployments[name]
        status = msgspec.structs.replace(self.service.status, components={"predictor": rollout.status})
        self.service = msgspec.structs.replace(self.service, status=status)
        return part

    def edit(self, name: str, **fields: dict[str, str | None]) -> None:
        meta = self.deployments[name].metadata
        merged = {
            field: {k: v for k, v in (getattr(meta, field) | change).items() if v is not None}
            for field, change in fields.items()
        }
        meta = msgspec.structs.replace(meta, **merged)
        self.deployments[name] = msgspec.structs.replace(self.deployments[name], metadata=meta)

    def settle(self) -> ComponentPlan:
        for _ in range(5):
            part = self.step()
            self.now += DRAIN_S + 1
        return part

    def traffic(self) -> dict[str, int]:
        targets = self.service.status.components["predictor"].traffic
        return {t.revision_name.removeprefix("iris-"): t.percent or 0 for t in targets}

    def sizes(self) -> dict[str, int]:
        return {n.removeprefix("iris-"): d.spec.replicas or 0 for n, d in self.deployments.items()}


def test_a_canary_gets_its_share_once_one_of_its_pods_is_available() -> None:
    story = Story(wish(entry("v2", 20)))
    story.down = {"iris-v2-predictor"}
    part = story.settle()
    assert story.traffic() == {"predictor-00001": 100}
    assert [(s.name, s.traffic_percent, s.ready) for s in part.canaries.statuses] == [("v2", 20, False)]
    story.down = set()
    part = story.settle()
    assert story.traffic() == {"predictor-00001": 80, "v2-predictor": 20}
    assert part.canaries.statuses[0].ready
    args = story.deployments["iris-v2-predictor"].spec.template.spec.containers[0].args
    assert "--new" in args
    assert "--old" not in args


def test_several_canaries_leave_the_stable_one_what_those_that_answer_do_not_take() -> None:
    story = Story(wish(entry("a", 10), entry("b", 30), entry("c", 60)))
    story.down = {"iris-b-predictor"}
    story.settle()
    assert story.traffic() == {"predictor-00001": 30, "a-predictor": 10, "c-predictor": 60}


def test_a_canary_has_its_own_least_pods_or_its_share_of_the_stable_ones_rounded_up() -> None:
    cases = ((4, entry("v2", 20), 1), (4, entry("v2", 30), 2), (4, entry("v2", 30, minReplicas=3), 3))
    for least, canary, size in (*cases, (1, entry("v2", 0), 0)):
        story = Story(wish(canary, minReplicas=least, maxReplicas=9))
        story.settle()
        assert story.sizes()["v2-predictor"] == size


def test_the_stable_ones_least_is_lowered_by_ready_canary_pods_but_not_below_one() -> None:
    for least, canary, lowest in ((4, 1, 3), (4, 4, 1), (1, 1, 1)):
        story = Story(wish(entry("v2", 50, minReplicas=canary), minReplicas=least, maxReplicas=9))
        story.settle()
        spec = msgspec.structs.replace(story.deployments["iris-predictor-00001"].spec, replicas=1)
        story.deployments["iris-predictor-00001"] = msgspec.structs.replace(
            story.deployments["iris-predictor-00001"], spec=spec
        )
        story.step()
        assert story.sizes()["predictor-00001"] == lowest


def test_a_promoted_canary_becomes_the_stable_one_without_a_new_pod_at_the_old_ones_size() -> None:
    story = Story(wish(entry("v2", 20), minReplicas=3))
    story.settle()
    before = story.deployments["iris-v2-predictor"].spec.template
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", "args": ["--new"]}
    story.wish(wish(name="v2", model=model, minReplicas=3))
    story.step()
    assert story.traffic() == {"predictor-00001": 100}, "until there are as many pods as served"
    story.settle()
    assert story.traffic() == {"v2-predictor": 100}
    assert story.sizes() == {"predictor-00001": 0, "v2-predictor": 3}
    assert story.deployments["iris-v2-predictor"].spec.template == before
    story.wish(wish(minReplicas=3))
    story.settle()
    assert story.traffic() == {"predictor-00001": 100}, "and it can be gone back from"


def test_a_dropped_canary_loses_its_share_at_once_and_goes_when_it_has_drained() -> None:
    story = Story(wish(entry("v2", 20)))
    story.settle()
    story.wish(wish())
    story.step()
    assert story.traffic() == {"predictor-00001": 100}
    assert story.sizes()["v2-predictor"] == 1
    story.settle()
    assert story.sizes() == {"predictor-00001": 1}


def test_a_changed_entry_changes_its_deployment_in_place() -> None:
    story = Story(wish(entry("v2", 20)))
    story.settle()
    story.wish(wish(entry("v2", 20, "--newer")))
    story.settle()
    assert "--newer" in story.deployments["iris-v2-predictor"].spec.template.spec.containers[0].args
    assert story.traffic() == {"predictor-00001": 80, "v2-predictor": 20}


def test_a_canary_never_takes_the_deployment_of_the_stable_predictor() -> None:
    story = Story(wish(entry("v2", 20)))
    story.settle()
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", "args": ["--new"]}
    story.wish(wish(name="v2", model=model))
    story.settle()
    story.wish(wish(entry("v2", 20, "--other"), model=model))
    part = story.settle()
    assert story.traffic() == {"v2-predictor": 100}
    assert "revision of the stable predictor" in part.canaries.reasons[0]


def test_a_stopped_service_has_no_canaries() -> None:
    story = Story(wish(entry("v2", 20)))
    story.settle()
    meta = msgspec.structs.replace(story.service.metadata, annotations=STANDARD | {STOP: "true"})
    story.service = msgspec.structs.replace(story.service, metadata=meta)
    story.settle()
    assert story.sizes() == {}


def test_in_standard_mode_the_percent_of_knative_mode_has_no_say() -> None:
    story = Story(wish(canaryTrafficPercent=20))
    story.settle()
    story.wish(
        wish(
            model={"modelFormat": {"name": "huggingface"}, "storageUri": "hf://x/y"}, canaryTrafficPercent=20
        )
    )
    story.settle()
    assert story.traffic() == {"predictor-00002": 100}
