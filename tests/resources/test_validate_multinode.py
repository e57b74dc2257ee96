"""KServe's rules of a service that runs on several nodes, in its exact words."""

import pytest
from written_manifests import CLASS, env, multinode

from penstock.kit.errors import Invalid
from penstock.resources.admission import admit

PREFIX = 'the InferenceService "iris" is invalid: '
DENIED = {
    # rule 4
    "two worker containers": (
        multinode({"containers": [{"name": "a"}, {"name": "b"}]}),
        "spec.predictor.workerSpec.containers",
        f"{PREFIX}setting multiple containers in workerSpec is not allowed",
    ),
    "pipeline size as a variable": (
        multinode(model={"env": env("PIPELINE_PARALLEL_SIZE")}),
        "spec.predictor.model.env",
        f"{PREFIX}setting PIPELINE_PARALLEL_SIZE in environment variables is not allowed",
    ),
    "tensor size as a variable": (
        multinode(model={"env": env("TENSOR_PARALLEL_SIZE")}),
        "spec.predictor.model.env",
        f"{PREFIX}setting TENSOR_PARALLEL_SIZE in environment variables is not allowed",
    ),
    "unknown GPU of a model": (
        multinode(model={"resources": {"limits": {"cpu": 1, "acme.com/gpu": 1}}}),
        "spec.predictor.model.resources",
        f"{PREFIX}Unknown GPU resource type. Set 'serving.kserve.io/gpu-resource-types' annotation to use custom gpu"
        " resource type",
    ),
    "unknown GPU of a worker": (
        multinode({"containers": [{"name": "w", "resources": {"requests": {"acme.com/gpu": 1}}}]}),
        "spec.predictor.workerSpec.containers[0].resources",
        f"{PREFIX}Unknown GPU resource type. Set 'serving.kserve.io/gpu-resource-types' annotation to use custom gpu"
        " resource type",
    ),
    "GPU types that are no list": (
        multinode(
            model={"resources": {"limits": {"acme.com/gpu": 1}}},
            annotations={CLASS: "none", "serving.kserve.io/gpu-resource-types": "acme.com/gpu"},
        ),
        "metadata.annotations[serving.kserve.io/gpu-resource-types]",
        f"{PREFIX}annotation serving.kserve.io/gpu-resource-types is not a JSON list: acme.com/gpu",
    ),
    "several nodes without storage": (
        multinode(model={"storageUri": None}),
        "spec.predictor.model.storageUri",
        f"{PREFIX}StorageURI must be set for multinode enabled",
    ),
    "several nodes from a bucket": (
        multinode(model={"storageUri": "s3://b/m"}),
        "spec.predictor.model.storageUri",
        f"{PREFIX}Multinode only supports 'pvc' and 'oci' Storage Protocol(s3)",
    ),
    "several nodes with an autoscaler": (
        multinode(annotations={CLASS: "hpa"}),
        f"metadata.annotations[{CLASS}]",
        f"{PREFIX}Multinode only supports 'none' autoscaler(hpa)",
    ),
    "pipeline of none": (
        multinode({"pipelineParallelSize": 0}),
        "spec.predictor.workerSpec.pipelineParallelSize",
        f"{PREFIX}WorkerSpec.PipelineParallelSize cannot be less than 1(0)",
    ),
    "tensors of none": (
        multinode({"tensorParallelSize": -1}),
        "spec.predictor.workerSpec.tensorParallelSize",
        f"{PREFIX}WorkerSpec.TensorParallelSize cannot be less than 1(-1)",
    ),
}


@pytest.mark.parametrize(("document", "field", "text"), DENIED.values(), ids=DENIED)
def test_several_nodes_that_kserve_refuses_are_refused_in_its_words(document, field, text):
    with pytest.raises(Invalid) as caught:
        admit(document)
    error = caught.value
    assert (error.message, [(cause.field, cause.message) for cause in error.causes]) == (
        text,
        [(field, text)],
    )
