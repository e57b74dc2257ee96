"""KServe's rules of an InferenceService: their order and their exact words; those of scale, canaries and several nodes stand beside."""

import pytest
from written_manifests import (
    CLASS,
    MODE,
    OWN,
    STANDARD,
    env,
    external,
    metrics,
    multinode,
    resource,
    service,
)

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit

PREFIX = 'the InferenceService "iris" is invalid: '
PREDICTOR_FIELDS = (
    "SKLearn, XGBoost, Tensorflow, PyTorch, Triton, ONNX, HuggingFace, PMML, LightGBM, Paddle, Model, StorageUris,"
    " WorkerSpec, PodSpec"
)


def refusal(document, old=None):
    with pytest.raises(Invalid) as caught:
        admit(document, old)
    return caught.value


def name_text(name):
    return (
        f'the InferenceService "{name}" is invalid: a InferenceService name must consist of lower case alphanumeric'
        ' characters or \'-\', and must start with alphabetical character. (e.g. "my-name" or "abc-123", regex used'
        " for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
    )


DENIED = {
    # rule 1
    "name with a dot": (service(name="a.b"), "metadata.name", name_text("a.b")),
    "name that starts with a digit": (service(name="1a"), "metadata.name", name_text("1a")),
    # rule 2
    "unknown autoscaler": (
        service(annotations={CLASS: "kpa"}),
        f"metadata.annotations[{CLASS}]",
        "[kpa] is not a supported autoscaler class type",
    ),
    # rule 3
    "blocked variable of a model": (
        service(model={"env": env("PYTHONPATH")}),
        "spec.predictor.model.env[0]",
        f'{PREFIX}setting PYTHONPATH in container "" is not allowed for security reasons',
    ),
    "blocked variable of a worker": (
        multinode({"containers": [{"name": "w", "env": env("PYTHONPATH")}]}),
        "spec.predictor.workerSpec.containers[0].env[0]",
        f'{PREFIX}setting PYTHONPATH in container "w" is not allowed for security reasons',
    ),
    "blocked variable of an init container of a transformer": (
        service(transformer={"containers": OWN, "initContainers": [{"name": "i", "env": env("PYTHONPATH")}]}),
        "spec.transformer.initContainers[0].env[0]",
        f'{PREFIX}setting PYTHONPATH in container "i" is not allowed for security reasons',
    ),
    "blocked variable of an explainer": (
        service(explainer={"art": {"name": "e", "env": env("PYTHONPATH")}}),
        "spec.explainer.art.env[0]",
        f'{PREFIX}setting PYTHONPATH in container "e" is not allowed for security reasons',
    ),
    "blocked variable of a canary": (
        service(
            annotations=STANDARD,
            canary=[{"trafficPercent": 1, "predictor": {"name": "c", "model": {"env": env("PYTHONPATH")}}}],
        ),
        "spec.canary[0].predictor.model.env[0]",
        f'{PREFIX}setting PYTHONPATH in container "" is not allowed for security reasons',
    ),
    # rule 5
    "storage in a collocated transformer": (
        service(
            {
                "model": None,
                "containers": [*OWN, {"name": "transformer-container", "env": env("STORAGE_URI")}],
            }
        ),
        "spec.predictor.containers[1].env",
        "storage uri should not be specified in transformer container",
    ),
    # rule 6
    "named model container": (
        service(model={"name": "x"}),
        "spec.predictor.model.name",
        "the 'name' field is not allowed in standard predictor",
    ),
    "named legacy container": (
        service({"model": None, "xgboost": {"name": "x"}}),
        "spec.predictor.model.name",
        "the 'name' field is not allowed in standard predictor",
    ),
    # rule 7
    "one source and a list of them": (
        service({"storageUris": [{"uri": "hf://a/b"}]}),
        "spec.predictor.storageUris",
        "Setting both StorageURI and StorageURIs is not supported.",
    ),
    "no parent in common": (
        service(
            {
                "storageUris": [
                    {"uri": "hf://a/b", "mountPath": "/a"},
                    {"uri": "hf://a/c", "mountPath": "/b/c"},
                ]
            },
            model={"storageUri": None},
        ),
        "spec.predictor.storageUris",
        "storage paths must have a common parent directory. Current paths: [/a /b/c] have no common parent beyond root",
    ),
    "one path for two claims": (
        service(
            {"storageUris": [{"uri": "pvc://a", "mountPath": "/a"}, {"uri": "pvc://b", "mountPath": "/a"}]},
            model={"storageUri": None},
        ),
        "spec.predictor.storageUris",
        "PVC storage paths must be unique",
    ),
    **{
        f"source {uri!r} at {path!r}": (
            service({"storageUris": [{"uri": uri, "mountPath": path}]}, model={"storageUri": None}),
            "spec.predictor.storageUris[0]",
            text,
        )
        for uri, path, text in (
            ("", "/a", "storage URI cannot be empty"),
            ("hf://a/b", "/", "storage path cannot be empty"),
            ("hf://a/b", "", "storage path cannot be empty"),
            ("hf://a/b", "a", "storage path must be absolute: a"),
            ("hf://a/b", "/a/../b", "storage path cannot contain '..' for security reasons: /a/../b"),
        )
    },
    "two sources of a transformer": (
        service(
            transformer={
                "containers": [{"name": "t", "env": env("STORAGE_URI")}],
                "storageUris": [{"uri": "hf://a/b"}],
            }
        ),
        "spec.transformer.storageUris",
        "Setting both StorageURI and StorageURIs is not supported.",
    ),
    # rule 8
    "confidential without storage": (
        service(model={"storageUri": None, "confidential": {"enabled": True}}),
        "spec.predictor.model.storageUri",
        "confidential model serving requires storageUri to be set",
    ),
    "confidential with a strange key": (
        service(model={"confidential": {"enabled": True, "resourceId": "kbs://x"}}),
        "spec.predictor.model.confidential.resourceId",
        'invalid confidential resourceId format "kbs://x", expected kbs:///<repo>/<type>/<tag>',
    ),
    # rule 9
    "no predictor": (
        service({"model": None}),
        "spec.predictor",
        f"exactly one of [{PREDICTOR_FIELDS}] must be specified in PredictorSpec",
    ),
    "two predictors": (
        service({"sklearn": {"storageUri": "gs://b/m"}}),
        "spec.predictor",
        f"exactly one of [{PREDICTOR_FIELDS}] must be specified in PredictorSpec",
    ),
    "two legacy predictors": (
        service({"model": None, "sklearn": {}, "xgboost": {}}),
        "spec.predictor",
        f"exactly one of [{PREDICTOR_FIELDS}] must be specified in PredictorSpec",
    ),
    "empty transformer": (
        service(transformer={"minReplicas": 1}),
        "spec.transformer",
        "exactly one of [PodSpec] must be specified in TransformerSpec",
    ),
    "two explainers": (
        service(explainer={"art": {"type": "X"}, "containers": OWN}),
        "spec.explainer",
        "exactly one of [ART, PodSpec] must be specified in ExplainerSpec",
    ),
    # rule 10
    "unknown scheme": (
        service(model={"storageUri": "ftp://host/m"}),
        "spec.predictor.storageUri",
        "storageUri, must be one of: [gs://, s3://, pvc://, file://, https://, http://, hdfs://, webhdfs://, oci://,"
        " oci+native://, oci+fetch://, hf://, modelscope://] or match https://{}.blob.core.windows.net/{}/{} or be an"
        " absolute or relative local path. StorageUri [ftp://host/m] is not supported",
    ),
}


@pytest.mark.parametrize(("document", "field", "text"), DENIED.values(), ids=DENIED)
def test_what_kserve_refuses_is_refused_in_its_words(document, field, text):
    error = refusal(document)
    assert (error.message, [(cause.field, cause.message) for cause in error.causes]) == (
        text,
        [(field, text)],
    )


ACCEPTED = {
    "local path": service(model={"storageUri": "models/iris"}),
    "azure": service(model={"storageUri": "https://acc.blob.core.windows.net/c/m"}),
    "own scheme by a named container": service(
        {"storageContainerName": "mine"}, model={"storageUri": "ftp://host/m"}
    ),
    "sources under one parent": service(
        {
            "storageUris": [
                {"uri": "hf://a/b", "mountPath": "/mnt/a"},
                {"uri": "s3://b/c", "mountPath": "/mnt/b"},
                {"uri": "pvc://c/d", "mountPath": "/other"},
            ]
        },
        model={"storageUri": None},
    ),
    "several nodes": multinode(model={"resources": {"limits": {"nvidia.com/gpu": 1, "cpu": 4}}}),
    "several nodes with an own GPU": multinode(
        model={"resources": {"limits": {"acme.com/gpu": 1}}},
        annotations={CLASS: "none", "serving.kserve.io/gpu-resource-types": '["acme.com/gpu"]'},
    ),
    "no upper bound": service({"minReplicas": 5, "maxReplicas": 0}),
    "down to zero": service({"minReplicas": 0, "scaleMetric": "concurrency", "scaleTarget": 4}),
    "external autoscaler with any metric": service({"scaleMetric": "rps"}, {**STANDARD, CLASS: "external"}),
    "legacy name of Standard": service(
        {"scaleMetric": "memory", "scaleTarget": 500}, {MODE: "RawDeployment"}
    ),
    "keda by queries": metrics(
        resource("cpu", type="Utilization", averageUtilization=50),
        resource("memory", type="AverageValue", averageValue="1Mi"),
        external(value="10", type="Value"),
        external(kind="podmetric", type_="PodMetric", value=1, type="Value"),
    ),
    "hpa by resources": metrics(
        resource("cpu", type="Utilization", averageUtilization=50), annotations=STANDARD
    ),
    "canaries": service(
        {"name": "stable"},
        STANDARD,
        canary=[
            {"trafficPercent": 10, "predictor": {"name": "b", "model": {"storageUri": "gs://b/n"}}},
            {"trafficPercent": 90, "predictor": {"name": "c"}},
        ],
    ),
    "logger to a bucket": service(
        {"logger": {"mode": "all", "storage": {"path": "p", "key": "k", "parameters": {"a": "b"}}}}
    ),
    "confidential": service(model={"confidential": {"enabled": True, "resourceId": "kbs:///a/b/c"}}),
    "not confidential": service(model={"storageUri": None, "confidential": {"enabled": False}}),
    "explainer": service(explainer={"art": {"type": "SquareAttack", "storageUri": "gs://b/e"}}),
    "model with a sidecar": service({"containers": [{"name": "sidecar", "image": "x"}]}),
}


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_what_kserve_accepts_is_accepted(document):
    assert admit(document).warnings == ()


RULES = [
    ("1", "metadata.name"),
    ("2", f"metadata.annotations[{CLASS}]"),
    ("3", "spec.predictor.model.env[0]"),
    ("5", "spec.predictor.containers[0].env"),
    ("6", "spec.predictor.model.name"),
    ("7", "spec.predictor.storageUris"),
    ("10", "spec.predictor.storageUri"),
    ("11", "spec.predictor.containerConcurrency"),
    ("12", "spec.predictor.logger.mode"),
    ("13", "spec.predictor.scaleMetric"),
    ("15", "spec.canary"),
]


def test_rules_are_asked_in_kserves_order():
    """A service that breaks many rules is told one at a time; each is mended before the next is named."""
    everything = service(
        {
            "containers": [{"name": "transformer-container", "env": env("STORAGE_URI")}],
            "storageUris": [{"uri": "hf://a/b"}],
            "containerConcurrency": -1,
            "logger": {},
            "scaleMetric": "cpu",
        },
        {CLASS: "x"},
        name="1a",
        model={"env": env("PYTHONPATH"), "name": "x", "storageUri": "ftp://x/y"},
        canary=[{"trafficPercent": 1, "predictor": {"name": "c"}}],
    )
    predictor = everything["spec"]["predictor"]
    mend = {
        "1": lambda: everything["metadata"].update(name="iris"),
        "2": lambda: everything["metadata"].update(annotations={}),
        "3": lambda: predictor["model"].pop("env"),
        "5": lambda: predictor.pop("containers"),
        "6": lambda: predictor["model"].pop("name"),
        "7": lambda: predictor.pop("storageUris"),
        "10": lambda: predictor["model"].update(storageUri="hf://a/b"),
        "11": lambda: predictor.pop("containerConcurrency"),
        "12": lambda: predictor.pop("logger"),
        "13": lambda: predictor.pop("scaleMetric"),
        "15": lambda: everything["spec"].pop("canary"),
    }
    for rule, field in RULES:
        assert (rule, refusal(everything).causes[0].field) == (rule, field)
        mend[rule]()
    admit(everything)


def test_the_deployment_mode_of_a_running_service_is_fixed():
    stored = admit({**service(annotations=STANDARD), "status": {"deploymentMode": "RawDeployment"}}).object
    changed = {**service(annotations={MODE: "Knative"}), "status": {"deploymentMode": "RawDeployment"}}
    assert refusal(changed, stored).message == (
        "update rejected: deploymentMode cannot be changed from 'Standard' to 'Knative'"
    )
    unsaid = {**service(), "status": {"deploymentMode": "RawDeployment"}}
    admit(unsaid, stored)


def test_a_predictor_changes_its_name_only_with_its_model():
    stored = admit(service({"name": "a"}, STANDARD)).object
    error = refusal(service({"name": "b"}, STANDARD), stored)
    assert error.message == "predictor.name change requires a model change (e.g. storageUri)"
    admit(service({"name": "b"}, STANDARD, model={"storageUri": "gs://b/n"}), stored)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        (
            {"name": "A"},
            "spec.predictor.name: Invalid value: \"A\": should match '^[a-z]([-a-z0-9]*[a-z0-9])?$'",
        ),
        (
            {"scaleMetricType": "Some"},
            'spec.predictor.scaleMetricType: Unsupported value: "Some": supported values: "Utilization", "Value",'
            ' "AverageValue"',
        ),
        (
            {"canaryTrafficPercent": -1},
            "spec.predictor.canaryTrafficPercent: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"canaryTrafficPercent": 101},
            "spec.predictor.canaryTrafficPercent: Invalid value: 101: must be less than or equal to 100",
        ),
        ({"timeout": -1}, "spec.predictor.timeout: Invalid value: -1: must be greater than or equal to 0"),
    ],
)
def test_the_schemas_own_rules_come_first_in_kubernetes_words(predictor, message):
    assert refusal(service(predictor)).message == (
        f'InferenceService.serving.kserve.io "iris" is invalid: {message}'
    )


@pytest.mark.parametrize(
    ("document", "warning"),
    [
        (
            service(model={"storageUri": "oci://r/m", "confidential": {"enabled": True}}),
            "confidential has no effect with OCI URIs",
        ),
        (service({"containers": OWN}), "kserve-container stands beside model"),
        (service({"canaryTrafficPercent": 10}, STANDARD), "canaryTrafficPercent is ignored in Standard"),
    ],
)
def test_what_will_not_do_what_it_seems_to_say_is_accepted_with_a_warning(document, warning):
    assert [warning in text for text in admit(document).warnings] == [True]
