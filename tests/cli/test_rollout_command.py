"""`penstock rollout` against a real API server: what it prints, and what it writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_keys import Server

from penstock.decide.revision import new_revision
from penstock.resources.admission import admit
from penstock.resources.pod import PodTemplateSpec
from penstock.resources.scheme import find
from penstock.resources.serving import InferenceService

OLD, NEW = "iris-predictor-00001", "iris-predictor-00002"


class RolloutServer(Server):
    """With a service that has two revisions, of which the newer is a canary at 20 percent."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "penstock.cli.main", "rollout", *words]
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def on_loop(self, do: Any) -> Any:
        async def call() -> Any:
            return do()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    def create(self, obj: Any, *, status: Any = None) -> Any:
        document = msgspec.to_builtins(obj)
        kind = find(document["apiVersion"], document["kind"])
        assert kind is not None
        made = self.on_loop(lambda: self.objects.create(kind, "default", document).document)
        if status is not None:
            name, whole = made["metadata"]["name"], {**made, "status": status}
            self.on_loop(lambda: self.objects.replace(kind, "default", name, whole, subresource="status"))
        return made

    def read(self, api_version: str, kind: str, name: str) -> Any:
        found = find(api_version, kind)
        assert found is not None
        return self.on_loop(lambda: self.objects.get(found, "default", name))

    def service(self) -> Any:
        return self.read("serving.kserve.io/v1beta1", "InferenceService", "iris")


def wish(args: str, **annotations: str) -> InferenceService:
    model = {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://a/b", "args": [args]}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "iris", "namespace": "default", "annotations": annotations},
        "spec": {"predictor": {"model": model, "canaryTrafficPercent": 20, "minReplicas": 1}},
    }
    made = admit(document).object
    assert isinstance(made, InferenceService)
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RolloutServer]:
    with RolloutServer(tmp_path) as made:
        assert isinstance(made, RolloutServer)
        known = {
            "latestCreatedRevision": NEW,
            "latestReadyRevision": NEW,
            "latestRolledoutRevision": OLD,
            "traffic": [
                {"revisionName": NEW, "percent": 20, "latestRevision": True},
                {"revisionName": OLD, "percent": 80, "tag": "prev"},
            ],
        }
        service = made.create(
            wish("--2"), status={"observedGeneration": 1, "components": {"predictor": known}}
        )
        owned = msgspec.convert(service, InferenceService)
        for name, args in ((OLD, "--1"), (NEW, "--2")):
            component = wish(args).spec.predictor
            template = msgspec.convert(
                {
                    "spec": {"containers": [{"name": "m", "image": "m"}]},
                },
                PodTemplateSpec,
            )
            made.create(new_revision(owned, "predictor", component, template, name, 1))
        yield made


def test_the_status_tells_shares_and_the_history_every_revision(server: RolloutServer) -> None:
    told = server.run("status", "iris")
    assert told.stdout == f"{NEW} 20 %, {OLD} 80 %\n"
    listed = server.run("history", "iris").stdout.splitlines()
    assert listed[0].split() == ["REVISION", "READY", "TRAFFIC", "CREATED", "CAUSE"]
    assert [line.split()[:4] for line in listed[1:]] == [[OLD, "0/1", "80", "%"], [NEW, "0/1", "20", "%"]]


def test_undo_writes_the_kept_spec(server: RolloutServer) -> None:
    done = server.run("undo", "iris")
    assert done.stdout == f"predictor goes back to {OLD}\n", done.stderr
    predictor = server.service()["spec"]["predictor"]
    assert predictor["model"]["args"] == ["--1"]
    assert predictor["minReplicas"] == 1
    assert "canaryTrafficPercent" not in predictor


def test_promote_drops_the_percent_and_abort_pins_it(server: RolloutServer) -> None:
    assert "all; canaryTrafficPercent: 0" in server.run("abort", "iris").stdout
    assert server.service()["spec"]["predictor"]["canaryTrafficPercent"] == 0
    assert server.run("promote", "iris").returncode == 0
    assert "canaryTrafficPercent" not in server.service()["spec"]["predictor"]


def test_what_cannot_be_done_is_said_without_a_traceback(server: RolloutServer) -> None:
    for words, said in (
        (("status", "nobody"), "nobody"),
        (("undo", "iris", "--to-revision", "9"), "there is no revision 9"),
        (("status", "iris", "--component", "explainer"), "has no explainer"),
    ):
        done = server.run(*words)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_failed_rollout_is_told_with_its_evidence_and_ends_the_watch_with_1(server: RolloutServer) -> None:
    document = {
        "apiVersion": "penstock.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "iris-predictor", "namespace": "default"},
        "spec": {"service": "iris", "component": "predictor"},
    }
    evidence = {
        "gate": "errorRate at most 0.01",
        "logE": 5.0,
        "alarmAt": 4.6,
        "canaryRate": 0.3,
        "closed": True,
    }
    status = {"phase": "RolledBack", "message": "it fails", "canary": NEW, "evidence": [evidence]}
    server.create(admit(document).object, status=status)
    done = server.run("status", "iris", "--watch")
    assert done.returncode == 1
    assert "RolledBack: it fails" in done.stdout
    assert "errorRate at most 0.01: 0.3 against 0; evidence 148 of the 99.5" in done.stdout
    server.run("promote", "iris")
    rollout = server.read("penstock.dev/v1alpha1", "Rollout", "iris-predictor")
    assert "override" not in rollout["spec"], "the service follows no policy"
