"""May a model span several nodes like this? (KServe's rule 4)"""

from __future__ import annotations

import json
import re

from penstock.resources.annotations import AUTOSCALER_CLASS, GPU_RESOURCE_TYPES
from penstock.resources.pod import ResourceRequirements
from penstock.resources.serving import InferenceService, ModelSpec
from penstock.resources.validation import Denial

SIZES = ("PIPELINE_PARALLEL_SIZE", "TENSOR_PARALLEL_SIZE")
_PLAIN = re.compile(r"cpu|memory|storage|ephemeral-storage|hugepages-.*")
_GPU = re.compile(r"nvidia\.com/(gpu|mig.*)|amd\.com/gpu|intel\.com/gpu|habana\.ai/gaudi")


def deny_multinode(service: InferenceService) -> Denial | None:
    """The first rule that a service with `workerSpec` breaks."""
    predictor, prefix = service.spec.predictor, f'the InferenceService "{service.metadata.name}" is invalid: '
    worker = predictor.worker_spec
    if worker is None:
        return None
    where = "spec.predictor.workerSpec"
    if len(worker.containers) > 1:
        return Denial(
            f"{where}.containers", f"{prefix}setting multiple containers in workerSpec is not allowed"
        )
    if predictor.model is not None:
        denial = _deny_model(service, predictor.model, prefix)
        if denial is not None:
            return denial
    for name, value in (
        ("PipelineParallelSize", worker.pipeline_parallel_size),
        ("TensorParallelSize", worker.tensor_parallel_size),
    ):
        if value is not None and value < 1:
            return Denial(
                f"{where}.{name[0].lower()}{name[1:]}",
                f"{prefix}WorkerSpec.{name} cannot be less than 1({value})",
            )
    for i, container in enumerate(worker.containers):
        denial = _deny_gpu(service, f"{where}.containers[{i}].resources", container.resources, prefix)
        if denial is not None:
            return denial
    return None


def _deny_model(service: InferenceService, model: ModelSpec, prefix: str) -> Denial | None:
    where = "spec.predictor.model"
    for name in SIZES:
        if any(variable.name == name for variable in model.env):
            return Denial(
                f"{where}.env",
                f"{prefix}setting {name} in environment variables is not allowed",
                "set it in workerSpec",
            )
    denial = _deny_gpu(service, f"{where}.resources", model.resources, prefix)
    if denial is not None:
        return denial
    if model.storage_uri is None:
        return Denial(f"{where}.storageUri", f"{prefix}StorageURI must be set for multinode enabled")
    scheme = model.storage_uri.partition("://")[0]
    if scheme not in ("pvc", "oci"):
        return Denial(
            f"{where}.storageUri",
            f"{prefix}Multinode only supports 'pvc' and 'oci' Storage Protocol({scheme})",
        )
    autoscaler = service.metadata.annotations.get(AUTOSCALER_CLASS, "")
    if autoscaler != "none":
        return Denial(
            f"metadata.annotations[{AUTOSCALER_CLASS}]",
            f"{prefix}Multinode only supports 'none' autoscaler({autoscaler})",
            f'set the annotation {AUTOSCALER_CLASS}: "none"',
        )
    return None


def _deny_gpu(
    service: InferenceService, field: str, resources: ResourceRequirements | None, prefix: str
) -> Denial | None:
    if resources is None:
        return None
    given = service.metadata.annotations.get(GPU_RESOURCE_TYPES, "[]")
    try:
        custom = json.loads(given)
    except ValueError:
        custom = None
    if not isinstance(custom, list):
        return Denial(
            f"metadata.annotations[{GPU_RESOURCE_TYPES}]",
            f"{prefix}annotation {GPU_RESOURCE_TYPES} is not a JSON list: {given}",
            "write it as '[\"example.com/gpu\"]'",
        )
    for name in (*resources.limits, *resources.requests):
        if not _PLAIN.fullmatch(name) and not _GPU.fullmatch(name) and name not in custom:
            return Denial(
                field,
                f"{prefix}Unknown GPU resource type. Set '{GPU_RESOURCE_TYPES}' annotation to use custom gpu resource"
                " type",
                f"{name} is none of nvidia.com/gpu, amd.com/gpu, intel.com/gpu, habana.ai/gaudi",
            )
    return None
