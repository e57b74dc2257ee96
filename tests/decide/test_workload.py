"""What a service's pods look like: merge order, templates, models, what KServe adds."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from worlds import offers, runtime, service

from penstock.app.runtimes import shipped_runtimes
from penstock.decide.rendering import UnknownPlaceholder, render
from penstock.decide.storage import Source, common_folder
from penstock.decide.workload import build_workload, main_container, served_name, serving_port
from penstock.resources.meta import ObjectMeta
from penstock.resources.pod import Container, PodSpec
from penstock.resources.runtime import ClusterStorageContainer

RUNTIME = runtime("r", offers("huggingface"))


def pod_of(asked: Any, chosen: Any = RUNTIME, **more: Any) -> PodSpec:
    built = build_workload(asked, "predictor", chosen, **more)
    assert built.template, built.failure
    return built.template.spec


def asked(**model: Any) -> Any:
    return service(model={"modelFormat": {"name": "huggingface"}, "storageUri": "hf://a/b", **model})


def test_arguments_are_the_runtimes_then_the_services_and_templates_are_filled_in() -> None:
    assert main_container(pod_of(asked(args=["--max_num_seqs=4"]))).args == (
        "--model_name=iris",
        "--max_num_seqs=4",
    )


def test_the_services_environment_and_resources_go_over_the_runtimes() -> None:
    base = runtime("r", offers("huggingface"), containers=[{"name": "kserve-container", "image": "x:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "1"}], "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}])  # fmt: skip
    main = main_container(
        pod_of(asked(env=[{"name": "B", "value": "2"}], resources={"requests": {"cpu": "2"}}), base)
    )
    assert {e.name: e.value for e in main.env} == {"A": "1", "B": "2", "INFERENCE_SERVICE_NAME": "iris"}
    assert main.resources.requests["cpu"] == "2"


def test_a_runtime_version_is_the_images_tag_unless_it_is_pinned_by_digest() -> None:
    assert main_container(pod_of(asked(runtimeVersion="7"))).image == "x:7"
    pinned = runtime(
        "r", offers("huggingface"), containers=[{"name": "kserve-container", "image": "x@sha256:ab"}]
    )
    assert main_container(pod_of(asked(runtimeVersion="7"), pinned)).image == "x@sha256:ab"


def test_models_are_fetched_by_an_init_container_and_mounted_for_reading() -> None:
    pod = pod_of(asked())
    [fetch] = pod.init_containers
    assert (fetch.name, fetch.args) == ("storage-initializer", ("hf://a/b", "/mnt/models"))
    [mount] = main_container(pod).volume_mounts
    assert (mount.mount_path, mount.read_only) == ("/mnt/models", True)


def test_a_claim_is_mounted_without_fetching() -> None:
    pod = pod_of(asked(storageUri="pvc://claim/some/folder"))
    assert not pod.init_containers
    [mount] = main_container(pod).volume_mounts
    assert mount.sub_path == "some/folder"
    assert pod.volumes[0].persistent_volume_claim.claim_name == "claim"


def bringer(**container: Any) -> ClusterStorageContainer:
    spec = {
        "container": {"name": "x", "image": "mine", **container},
        "supportedUriFormats": [{"prefix": "gs://"}],
    }
    return msgspec.convert({"metadata": {"name": "own"}, "spec": spec}, ClusterStorageContainer)


def test_a_storage_container_of_the_cluster_takes_the_uris_that_it_names() -> None:
    own = bringer()
    assert pod_of(asked(storageUri="gs://m"), storage_containers=(own,)).init_containers[0].image == "mine"
    assert pod_of(asked(), storage_containers=(own,)).init_containers[0].image != "mine"


def naming(container: str) -> Any:
    """A service with a scheme of its own, which this storage container shall bring."""
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "corp://m"}
    return service(model=model, storageContainerName=container)


def test_the_storage_container_that_the_predictor_names_brings_its_model() -> None:
    [fetch] = pod_of(naming("own"), storage_containers=(bringer(),)).init_containers
    assert (fetch.image, fetch.args) == ("mine", ("corp://m", "/mnt/models"))


def test_a_name_that_no_storage_container_has_is_told_with_the_nearest() -> None:
    built = build_workload(naming("onw"), "predictor", RUNTIME, storage_containers=(bringer(),))
    assert built.template is None
    assert built.failure == (
        "predictor.storageContainerName: ClusterStorageContainer 'onw' is not found (there is own)"
    )


@pytest.mark.parametrize(
    ("brings", "runs"),
    [({}, ["{python}", "-m", "penstock.app.fetch"]), ({"command": ["corp-fetch"]}, None)],
)
def test_our_fetcher_stands_in_for_an_image_and_never_for_a_command(brings: Any, runs: Any) -> None:
    built = build_workload(naming("own"), "predictor", RUNTIME, storage_containers=(bringer(**brings),))
    commands = json.loads(built.template.metadata.annotations.get("penstock.dev/local-commands", "{}"))
    assert commands.get("storage-initializer") == runs


def test_a_probe_without_a_port_means_the_containers_own() -> None:
    probes = {"readinessProbe": {"httpGet": {"path": "/x"}}, "livenessProbe": {"tcpSocket": {"port": 0}}}
    main = main_container(pod_of(asked(ports=[{"containerPort": 9000}], **probes)))
    assert main.readiness_probe.http_get.port == 9000
    assert main.liveness_probe.tcp_socket.port == 9000


def test_without_a_probe_of_its_own_the_port_is_asked_and_stopping_waits_for_the_gateways() -> None:
    main = main_container(pod_of(asked()))
    assert main.readiness_probe.tcp_socket.port == 8080
    assert main.lifecycle.pre_stop.sleep == {"seconds": 1}


def test_a_container_of_the_users_own_needs_no_runtime() -> None:
    own = service(
        model=None,
        containers=[{"name": "mine", "image": "i", "env": [{"name": "STORAGE_URI", "value": "s3://b/m"}]}],
    )
    pod = pod_of(own, None)
    assert [c.name for c in pod.containers] == ["kserve-container"] or pod.containers[0].name == "mine"
    assert {e.name: e.value for e in main_container(pod).env}["STORAGE_URI"] == "/mnt/models"
    assert pod.init_containers[0].args == ("s3://b/m", "/mnt/models")


def test_what_one_machine_starts_is_told_to_the_kubelet() -> None:
    local = {
        "annotations": {
            "penstock.dev/local-command": '["{python}", "-m", "x"]',
            "penstock.dev/install-hint": "get it",
        }
    }
    built = build_workload(asked(), "predictor", runtime("r", offers("huggingface"), metadata=local))
    annotations = built.template.metadata.annotations
    assert json.loads(annotations["penstock.dev/local-commands"])["kserve-container"] == [
        "{python}",
        "-m",
        "x",
    ]
    assert json.loads(annotations["penstock.dev/install-hints"]) == {"kserve-container": "get it"}


@pytest.mark.parametrize("text", ["not json", '"one word"', "[1]"])
def test_a_local_command_that_is_none_is_told(text: str) -> None:
    broken = runtime(
        "r", offers("huggingface"), metadata={"annotations": {"penstock.dev/local-command": text}}
    )
    assert "expected a JSON list of words" in build_workload(asked(), "predictor", broken).failure


def test_a_placeholder_that_means_nothing_is_told_with_those_that_do() -> None:
    bad = runtime(
        "r",
        offers("huggingface"),
        containers=[{"name": "kserve-container", "image": "x", "args": ["{{.Nmae}}"]}],
    )
    assert ".Name" in build_workload(asked(), "predictor", bad).failure


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{.Name}}", "n"),
        ("a-{{ .Namespace }}-b", "a-ns-b"),
        ("{{.Labels.x}}", "1"),
        ("{{.Annotations.none}}", "<no value>"),
        ("$(VAR)", "$(VAR)"),
    ],
)
def test_templates_know_the_objects_metadata(text: str, filled: str) -> None:
    meta = ObjectMeta(name="n", namespace="ns", labels={"x": "1"})
    assert render({"a": [text]}, meta) == {"a": [filled]}
    with pytest.raises(UnknownPlaceholder):
        render("{{if .Name}}", meta)


def test_every_shipped_runtime_is_filled_in_to_the_last_placeholder() -> None:
    for shipped in shipped_runtimes():
        assert "{{" not in msgspec.json.encode(pod_of(asked(), shipped)).decode(), shipped.metadata.name


def test_the_name_that_the_engine_knows_is_the_last_that_its_arguments_give() -> None:
    def named(*args: str) -> str:
        return served_name(PodSpec(containers=(Container(name="kserve-container", args=args),)))

    assert named("--model_name=a", "--served-model-name", "b") == "b"
    assert named("--port=1", "--model_name") == ""


def test_ports_and_folders() -> None:
    assert serving_port(pod_of(asked())) == 8080
    assert common_folder(("/mnt/models/a", "/mnt/models/b")) == "/mnt/models"
    assert Source("u", "/p").path == "/p"


@pytest.mark.parametrize(
    ("annotation", "is_part"),
    [
        ("autoscaling.knative.dev/min-scale", False),
        ("autoscaling.knative.dev/max-scale", False),
        ("autoscaling.knative.dev/window", False),
        ("serving.kserve.io/autoscalerClass", False),
        ("penstock.dev/autoscaling-profile", False),
        ("penstock.dev/autoscaling-metric", False),
        ("penstock.dev/resume-within", False),
        ("penstock.dev/ttft-slo", False),
        ("example.com/team", True),
    ],
)
def test_what_scales_a_service_in_place_is_no_part_of_its_pods(annotation: str, is_part: bool) -> None:
    given = asked()
    metadata = msgspec.structs.replace(given.metadata, annotations={annotation: "5s"})
    built = build_workload(msgspec.structs.replace(given, metadata=metadata), "predictor", RUNTIME)
    assert built.template, built.failure
    assert (annotation in built.template.metadata.annotations) is is_part
