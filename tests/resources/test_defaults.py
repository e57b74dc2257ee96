"""What admission adds to a manifest."""

import pytest
from written_manifests import OWN, STANDARD, service

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit
from penstock.resources.serving import FRAMEWORKS


def legacy(name, **fields):
    return service({"model": None, name: {"storageUri": "gs://b/m", **fields}})


def predictor_of(document, old=None):
    return admit(document, old).document["spec"]["predictor"]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_legacy_framework_field_becomes_a_model_and_keeps_all_it_says(name):
    document = legacy(name, args=["--x"], runtimeVersion="1", resources={"limits": {"cpu": 2}})
    v2 = {"protocolVersion": "v2"} if name in ("triton", "onnx", "huggingface") else {}
    assert predictor_of(document) == {
        "model": {
            "modelFormat": {"name": name},
            "storageUri": "gs://b/m",
            "args": ["--x"],
            "runtimeVersion": "1",
            "resources": {"limits": {"cpu": 2}},
            **v2,
        }
    }
    assert admit(document).document["metadata"]["annotations"] == {"modelFormat": name}


@pytest.mark.parametrize(
    "document", [legacy("triton", protocolVersion="v1"), legacy("onnx", protocolVersion="grpc-v2")]
)
def test_a_given_protocol_is_kept(document):
    given = next(iter(document["spec"]["predictor"].values()))["protocolVersion"]
    assert predictor_of(document)["model"]["protocolVersion"] == given


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("triton", "v2"), ("vLLM", "v2"), ("huggingface", None), ("onnx", None), ("sklearn", None)],
)
def test_only_triton_and_vllm_formats_speak_v2_unasked(name, protocol):
    model = predictor_of(service(model={"modelFormat": {"name": name}}))["model"]
    assert model.get("protocolVersion") == protocol


def test_a_manifest_applied_again_over_its_admitted_form_folds_again():
    stored = admit(legacy("sklearn"))
    merged = service(
        {"model": stored.document["spec"]["predictor"]["model"], "sklearn": {"storageUri": "gs://b/new"}}
    )
    assert predictor_of(merged, stored.object)["model"] == {
        "modelFormat": {"name": "sklearn"},
        "storageUri": "gs://b/new",
    }
    with pytest.raises(Invalid, match="exactly one of"):
        admit(merged)


def test_a_models_size_comes_from_its_runtime():
    assert "resources" not in predictor_of(service())["model"]


@pytest.mark.parametrize("component", ["predictor", "transformer", "explainer"])
@pytest.mark.parametrize(
    ("given", "sized"),
    [
        (None, {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}}),
        (
            {"limits": {"cpu": "4"}},
            {"requests": {"memory": "2Gi"}, "limits": {"cpu": "4", "memory": "2Gi"}},
        ),
        (
            {"requests": {"cpu": "4", "memory": "1Gi"}},
            {"requests": {"cpu": "4", "memory": "1Gi"}},
        ),
    ],
)
def test_a_container_of_ones_own_gets_the_size_that_it_does_not_say(component, given, sized):
    container = {"image": "x", **({"resources": given} if given else {})}
    spec = {component: {"containers": [container]}}
    document = service()
    document["spec"] |= spec
    result = admit(document).document["spec"][component]["containers"]
    assert result == [{"name": "kserve-container", "image": "x", "resources": sized}]


def test_only_the_main_container_is_sized():
    document = service({"model": None, "containers": [{"name": "sidecar", "image": "y"}, *OWN]})
    containers = predictor_of(document)["containers"]
    assert ["resources" in container for container in containers] == [False, True]


def test_an_explainer_is_sized():
    document = service(explainer={"art": {"type": "X"}})
    assert admit(document).document["spec"]["explainer"]["art"]["resources"]["limits"] == {
        "cpu": "1",
        "memory": "2Gi",
    }


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("RawDeployment", "Standard"),
        ("Serverless", "Knative"),
        ("Standard", "Standard"),
        ("ModelMesh", "ModelMesh"),
    ],
)
def test_legacy_names_of_modes_are_rewritten(given, stored):
    key = next(iter(STANDARD))
    annotations = admit(service(annotations={key: given})).document["metadata"]["annotations"]
    assert annotations[key] == stored


def test_other_kinds_are_stored_as_they_are_written():
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    assert admit(document).document == document
