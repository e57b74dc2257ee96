"""Kubernetes' rules of configuration, secrets, claims and priorities; KServe's of caches, runtimes and graphs."""

import copy

import pytest

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit


def config(**fields):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **fields}


def secret(**fields):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, **fields}


def claim(size="1Gi", **spec):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "a"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec},
    }


def priority(value, name="a"):
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
    }


def kserve(kind, name="a", version="v1alpha1", **spec):
    return {
        "apiVersion": f"serving.kserve.io/{version}",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def cache(name="a", uri="hf://a/b", **spec):
    return kserve(
        "LocalModelCache", name, sourceModelUri=uri, **{"modelSize": "1Gi", "nodeGroups": ["g"], **spec}
    )


def runtime(*formats, kind="ClusterServingRuntime", name="a", **spec):
    return kserve(
        kind,
        name,
        **{"containers": [{"name": "kserve-container"}], "supportedModelFormats": list(formats), **spec},
    )


def fmt(name, priority=None, version=None, auto=True):
    given = {"priority": priority, "version": version}
    return {
        "name": name,
        "autoSelect": auto,
        **{key: value for key, value in given.items() if value is not None},
    }


def refusal(document, old=None, peers=()):
    with pytest.raises(Invalid) as caught:
        admit(document, old and admit(old).object, peers=[admit(peer).object for peer in peers])
    return {cause.field: cause.message for cause in caught.value.causes}


LOCKED = "Forbidden: field is immutable when `immutable` is set"
CASES = {
    "config key": (config(data={"a b": "x"}), None, "data[a b]", "a valid config key must consist of"),
    "parent as a key": (config(data={"..": "x"}), None, "data[..]", "a valid config key"),
    "one key twice": (
        config(data={"a": "x"}, binaryData={"a": "eA=="}),
        None,
        "data[a]",
        'Duplicate value: "a"',
    ),
    "binary that is none": (config(binaryData={"a": "x"}), None, "binaryData[a]", "is not base64"),
    "large config": (config(data={"a": "x" * (1 << 20), "b": "x"}), None, "", "Too long"),
    "locked config": (
        config(data={"a": "y"}, immutable=True),
        config(data={"a": "x"}, immutable=True),
        "data",
        LOCKED,
    ),
    "locked binary": (
        config(binaryData={"a": "eQ=="}, immutable=True),
        config(binaryData={"a": "eA=="}, immutable=True),
        "binaryData",
        LOCKED,
    ),
    "unlocked config": (config(), config(immutable=True), "immutable", LOCKED),
    "locked secret": (
        secret(stringData={"a": "y"}, immutable=True),
        secret(data={"a": "eA=="}, immutable=True),
        "data",
        LOCKED,
    ),
    "unlocked secret": (secret(), secret(immutable=True), "immutable", LOCKED),
    "secret of another type": (secret(type="b"), secret(type="a"), "type", "field is immutable"),
    "secret key": (secret(data={"a/b": ""}), None, "data[a/b]", "a valid config key"),
    "TLS secret without a key": (
        secret(type="kubernetes.io/tls", data={"tls.crt": "eA=="}),
        None,
        "data[tls.key]",
        "Required value",
    ),
    "claim without a mode": (
        claim(accessModes=[]),
        None,
        "spec.accessModes",
        "at least 1 access mode is required",
    ),
    "claim mode": (claim(accessModes=["X"]), None, "spec.accessModes[0]", 'Unsupported value: "X"'),
    "claim of nothing": (claim("0"), None, "spec.resources[storage]", "must be greater than zero"),
    "claim without a size": (claim(resources={}), None, "spec.resources[storage]", "Required value"),
    "smaller claim": (claim("1Gi"), claim("2Gi"), "spec.resources.requests.storage", "can not be less than"),
    "claim of another class": (
        claim(storageClassName="b"),
        claim(storageClassName="a"),
        "spec",
        "spec is immutable after creation",
    ),
    "high priority": (
        priority(1_000_000_001),
        None,
        "value",
        "maximum allowed value of a user defined priority",
    ),
    "changed priority": (priority(2), priority(1), "value", "may not be changed in an update."),
    "cache without groups": (
        cache(nodeGroups=[]),
        None,
        "spec.nodeGroups",
        "at least 1 node group is required",
    ),
    "cache of nothing": (cache(modelSize=0), None, "spec.modelSize", "must be greater than zero"),
    "cache without a source": (cache(uri=""), None, "spec.sourceModelUri", "Required value"),
    "cache of another model": (
        cache(uri="hf://a/c"),
        cache(),
        "spec.sourceModelUri",
        'Invalid value: "hf://a/c": StorageUri is immutable',
    ),
    "group without room": (
        kserve(
            "LocalModelNodeGroup", storageLimit="0", persistentVolumeSpec={}, persistentVolumeClaimSpec={}
        ),
        None,
        "spec.storageLimit",
        "must be greater than zero",
    ),
    "router type": (
        kserve("InferenceGraph", nodes={"root": {"routerType": "X"}}),
        None,
        "spec.nodes[root].routerType",
        'Unsupported value: "X"',
    ),
    "replicas and scaling": (
        kserve("LLMInferenceService", version="v1alpha2", model={"uri": "hf://a/b"}, replicas=1, scaling={}),
        None,
        "spec",
        "replicas and scaling are mutually exclusive",
    ),
}


@pytest.mark.parametrize(("document", "old", "field", "text"), CASES.values(), ids=CASES)
def test_what_breaks_a_rule_is_refused(document, old, field, text):
    found = refusal(document, old)
    assert text in found.get(field, f"only {found}")


def test_a_secret_that_is_not_base64_is_refused_without_showing_it():
    found = refusal(secret(data={"pin": "s3cr3t!"}))
    assert found == {
        "data[pin]": "Invalid value: the text is not base64; put plain text into stringData, or encode it"
    }


@pytest.mark.parametrize(
    ("document", "old"),
    [
        (config(data={"a": "x"}, immutable=True), config(data={"a": "x"})),
        (secret(stringData={"a": "plain"}), None),
        (secret(data={"a": "eA==\n"}), None),
        (secret(type="kubernetes.io/tls", stringData={"tls.crt": "", "tls.key": ""}), None),
        (claim("2Gi", volumeName="v"), claim("1Gi")),
        (priority(2_000_000_000, "system-node-critical"), None),
        (cache(nodeGroups=["g", "h"]), cache()),
    ],
)
def test_what_keeps_the_rules_is_accepted(document, old):
    admit(document, old and admit(old).object)


def test_two_caches_of_one_model_are_refused():
    assert refusal(cache("b"), peers=[cache("a"), cache("b")]) == {
        "spec.sourceModelUri": "LocalModelCache a has the same StorageURI hf://a/b"
    }
    admit(cache("b", uri="hf://a/c"), peers=[admit(cache("a")).object])


@pytest.mark.parametrize(
    ("document", "old", "peers", "text"),
    [
        (
            runtime(fmt("onnx", 1, "1"), fmt("onnx", 2, "2")),
            None,
            (),
            "different priorities assigned for the model format onnx under the servingruntime a",
        ),
        (
            runtime(fmt("ONNX", 1), name="b"),
            None,
            (runtime(fmt("onnx", 1)),),
            "same priority assigned for the model format ONNX in the clusterservingruntimes a and b",
        ),
        (
            runtime(fmt("onnx", 1), name="b", kind="ServingRuntime", protocolVersions=["v2", "v1"]),
            None,
            (runtime(fmt("onnx", 1), kind="ServingRuntime", protocolVersions=["v2"]),),
            "same priority assigned for the model format onnx in the servingruntimes a and b in namespace ",
        ),
        (
            runtime(workerSpec=None),
            runtime(workerSpec={"containers": []}),
            (),
            "the ClusterServingRuntime a is invalid: removing workerSpec where it already exists is not allowed",
        ),
        (
            runtime(workerSpec={"containers": [{"name": "a"}, {"name": "b"}]}),
            None,
            (),
            "the ClusterServingRuntime a is invalid: setting multiple containers in workerSpec is not allowed",
        ),
        (
            runtime(workerSpec={"containers": [], "tensorParallelSize": 0}),
            None,
            (),
            "the ClusterServingRuntime a is invalid: the WorkerSpec.TensorParallelSize cannot be less than 1(0)",
        ),
        (
            runtime(workerSpec={"containers": [{"name": "w", "env": [{"name": "PIPELINE_PARALLEL_SIZE"}]}]}),
            None,
            (),
            "the ClusterServingRuntime a is invalid: setting PIPELINE_PARALLEL_SIZE in environment variables is not"
            " allowed",
        ),
    ],
)
def test_runtimes_that_contradict_themselves_or_each_other_are_refused(document, old, peers, text):
    assert list(refusal(document, old, peers).values()) == [text]


@pytest.mark.parametrize(
    "changes",
    [
        {"disabled": True},
        {"multiModel": True},
        {"protocolVersions": ["v1"]},
        {"supportedModelFormats": [fmt("onnx", 2)]},
        {"supportedModelFormats": [fmt("onnx")]},
        {"supportedModelFormats": [fmt("onnx", 1, auto=False)]},
        {"supportedModelFormats": [fmt("onnx", 1, "2")]},
    ],
)
def test_runtimes_that_never_compete_may_have_one_priority(changes):
    first = runtime(fmt("onnx", 1, "1"), protocolVersions=["v2"])
    second = copy.deepcopy(first)
    second["metadata"]["name"] = "b"
    refusal(second, peers=[first])
    second["spec"] |= changes
    admit(second, peers=[admit(first).object])


def graph(nodes, name="g"):
    return kserve("InferenceGraph", name, nodes=nodes)


def splitter(*weights):
    steps = [
        {"serviceName": f"s{i}", **({"weight": w} if w is not None else {})} for i, w in enumerate(weights)
    ]
    return {"root": {"routerType": "Splitter", "steps": steps}}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            graph(splitter(100), name="1g"),
            'the InferenceGraph "1g" is invalid: a InferenceGraph name must consist of',
        ),
        (
            graph({"start": {"routerType": "Sequence"}}),
            "root node not found, InferenceGraph needs a node with name 'root' as the root node of the graph",
        ),
        (
            graph({"root": {"routerType": "Sequence", "steps": [{"name": "x", "serviceName": "a"}] * 2}}),
            'Node "root" of InferenceGraph "g" contains more than one step with name "x"',
        ),
        (
            graph({"root": {"routerType": "Sequence", "steps": [{"name": "x"}]}}),
            'Step 0 ("x") in node "root" of InferenceGraph "g" does not specify an inference target',
        ),
        (
            graph({"root": {"routerType": "Switch", "steps": [{"serviceName": "a", "nodeName": "b"}]}}),
            'Step 0 ("") in node "root" of InferenceGraph "g" specifies more than one of nodeName, serviceName, serviceUrl',
        ),
        (graph(splitter(50, None)), "InferenceGraph[g] Node[root] Route[s1] missing the 'Weight'"),
        (
            graph(splitter(50, 49)),
            "InferenceGraph[g] Node[root] splitter node: the sum of traffic weights for all routing targets should be 100",
        ),
    ],
)
def test_graphs_that_lead_nowhere_are_refused(document, text):
    assert next(iter(refusal(document).values())).startswith(text)
