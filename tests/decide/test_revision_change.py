"""Going back writes what the kept revision was made from; promoting and aborting change no more than they must."""

from __future__ import annotations

from typing import Any

import msgspec
from worlds import NOW, offers, runtime, stored

from penstock.decide.plan import Surroundings, plan_service
from penstock.decide.revision_change import Change, abort, history, promote, undo
from penstock.kit.patch import json_patch
from penstock.resources.admission import admit
from penstock.resources.serving import InferenceService, InferenceServiceStatus
from penstock.resources.workload import Deployment

RUNTIME = runtime("r", offers("huggingface"))
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}
POLICY = {"penstock.dev/rollout-steps": "10"}


def predictor(args: str, **more: Any) -> dict[str, Any]:
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", "args": [args]}
    return {"model": model, **more}


class Story:
    """A service whose plans are carried out at once; every pod is ready."""

    def __init__(self, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> None:
        meta = {"name": "iris", "namespace": "default", "uid": "u", "annotations": annotations or {}}
        api = "serving.kserve.io/v1beta1"
        self.document: dict[str, Any] = {"apiVersion": api, "kind": "InferenceService", "metadata": meta}
        self.deployments: dict[str, Deployment] = {}
        self.status = InferenceServiceStatus()
        self.write(spec)

    @property
    def service(self) -> InferenceService:
        made = admit(self.document).object
        assert isinstance(made, InferenceService)
        return msgspec.structs.replace(made, status=self.status)

    @property
    def kept(self) -> tuple[Deployment, ...]:
        return tuple(stored(d, ready=True) for d in self.deployments.values())

    def write(self, spec: dict[str, Any]) -> None:
        self.document = {**self.document, "spec": spec}
        for _ in range(3):
            known = Surroundings("127.0.0.1:1", cluster_runtimes=(RUNTIME,), deployments=self.kept)
            [part] = plan_service(self.service, known, NOW).components
            made = (*part.canaries.create, *((part.rollout.create,) if part.rollout.create else ()))
            self.deployments |= {one.metadata.name: one for one in made}
            self.status = InferenceServiceStatus(components={"predictor": part.rollout.status})

    def follow(self, change: Change) -> None:
        assert not change.refusal
        spec = json_patch(self.document, change.patch)["spec"]
        self.write(spec)

    def shares(self) -> dict[str, int]:
        targets = self.status.components["predictor"].traffic
        return {t.revision_name.removeprefix("iris-"): t.percent or 0 for t in targets}


def grown(*last: dict[str, Any], annotations: dict[str, str] | None = None) -> Story:
    story = Story({"predictor": predictor("--1", minReplicas=1)}, annotations)
    for one in last:
        story.write({"predictor": one})
    return story


def test_undo_restores_the_spec_of_the_revision_before_and_keeps_todays_scaling() -> None:
    story = grown(predictor("--2", minReplicas=3))
    story.follow(undo(story.service, "predictor", story.kept))
    assert story.document["spec"]["predictor"]["model"]["args"] == ["--1"]
    assert story.document["spec"]["predictor"]["minReplicas"] == 3
    assert story.shares() == {"predictor-00001": 100}
    assert len(story.deployments) == 2, "the revision is used again"


def test_undo_goes_to_any_kept_revision_by_name_or_number() -> None:
    for to in ("iris-predictor-00001", "1", "00001"):
        story = grown(predictor("--2"), predictor("--3"))
        story.follow(undo(story.service, "predictor", story.kept, to))
        assert story.shares() == {"predictor-00001": 100}


def test_undo_of_a_canary_gives_what_was_rolled_out_everything() -> None:
    story = grown(predictor("--2", canaryTrafficPercent=30))
    story.follow(undo(story.service, "predictor", story.kept))
    assert story.shares() == {"predictor-00001": 100}
    assert "canaryTrafficPercent" not in story.document["spec"]["predictor"]


def test_where_there_is_nothing_to_go_back_to_it_is_said() -> None:
    story = grown()
    assert "no earlier revision" in undo(story.service, "predictor", story.kept).refusal
    assert "there are: iris-predictor-00001" in undo(story.service, "predictor", story.kept, "7").refusal
    assert "already" in undo(story.service, "predictor", story.kept, "1").refusal


def test_a_canary_is_promoted_by_dropping_its_percent_and_aborted_by_zero() -> None:
    story = grown(predictor("--2", canaryTrafficPercent=30))
    story.follow(abort(story.service, "predictor", story.kept))
    assert story.shares() == {"predictor-00002": 0, "predictor-00001": 100}
    story.follow(promote(story.service, "predictor"))
    assert story.shares() == {"predictor-00002": 100}
    assert "nothing to promote" in promote(story.service, "predictor").refusal
    assert "nothing to abort" in abort(story.service, "predictor", story.kept).refusal


def test_with_a_policy_people_overrule_its_rollout_and_leave_the_service_alone() -> None:
    story = grown(predictor("--2"), annotations=POLICY)
    newest = "iris-predictor-00002"
    assert promote(story.service, "predictor").override == ("Promote", newest)
    assert promote(story.service, "predictor").patch == ()
    assert abort(story.service, "predictor", story.kept).override == ("Abort", newest)
    back = undo(story.service, "predictor", story.kept)
    assert back.override == ("Promote", "iris-predictor-00001")


def test_an_entry_of_spec_canary_is_promoted_into_the_stable_predictor_without_a_new_revision() -> None:
    story = Story({"predictor": predictor("--1", minReplicas=2)}, STANDARD)
    entry = {"trafficPercent": 20, "predictor": {"name": "v2", "model": {"args": ["--2"]}}}
    story.write({"predictor": predictor("--1", minReplicas=2), "canary": [entry]})
    story.follow(promote(story.service, "predictor"))
    spec = story.document["spec"]
    assert spec["predictor"]["name"] == "v2"
    assert list(spec["predictor"]["model"]["args"]) == ["--2"]
    assert spec["predictor"]["minReplicas"] == 2
    assert not spec["canary"]
    assert set(story.deployments) == {"iris-predictor-00001", "iris-v2-predictor"}


def test_of_several_canaries_one_must_be_named() -> None:
    entries = [{"trafficPercent": 20, "predictor": {"name": n, "model": {"args": [n]}}} for n in ("a", "b")]
    story = Story({"predictor": predictor("--1"), "canary": entries}, STANDARD)
    assert "a, b: say which one" in abort(story.service, "predictor", story.kept).refusal
    story.follow(abort(story.service, "predictor", story.kept, "a"))
    assert [entry["predictor"]["name"] for entry in story.document["spec"]["canary"]] == ["b"]


def test_the_history_says_who_serves_and_why_each_is_there() -> None:
    story = Story({"predictor": predictor("--1")}, {"kubernetes.io/change-cause": "first try"})
    story.write({"predictor": predictor("--2", canaryTrafficPercent=30)})
    past = history(story.service, "predictor", story.kept)
    assert [(p.name, p.percent, p.kept, p.cause) for p in past] == [
        ("iris-predictor-00001", 70, True, "first try"),
        ("iris-predictor-00002", 30, True, "first try"),
    ]


def test_nothing_is_written_over_a_service_that_changed_meanwhile() -> None:
    story = grown(predictor("--2"))
    read = story.service
    read = msgspec.structs.replace(
        read, metadata=msgspec.structs.replace(read.metadata, resource_version="17")
    )
    assert undo(read, "predictor", story.kept).patch[0] == {
        "op": "test",
        "path": "/metadata/resourceVersion",
        "value": "17",
    }
