"""Does an inference service keep KServe's rules? The rules are numbered as they are checked; the first broken one counts.

Source: KServe's validating webhook of InferenceService v1beta1, with its texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock.resources.annotations import AUTOSCALER_CLASS, DEPLOYMENT_MODE, STANDARD, mode_of, parse_mode
from penstock.resources.pod import Container
from penstock.resources.serving import (
    FRAMEWORKS,
    CanarySpec,
    Component,
    ExplainerSpec,
    InferenceService,
    PredictorSpec,
    TransformerSpec,
)
from penstock.resources.validate_autoscaling import deny_scaling_annotations
from penstock.resources.validate_canary import deny_canaries
from penstock.resources.validate_multinode import deny_multinode
from penstock.resources.validate_rollout import validate_rollout_annotations
from penstock.resources.validate_routing import validate_routing_annotation
from penstock.resources.validate_scaling import deny_extension, deny_scaling
from penstock.resources.validate_storage import (
    STORAGE_URI,
    components,
    deny_scheme,
    deny_storage_uris,
    storage_uri_of,
)
from penstock.resources.validation import Causes, Denial, at_least, one_of, wrong

NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
AUTOSCALERS = ("hpa", "external", "keda", "none")
BLOCKED_ENV = ("PYTHONPATH",)
TRANSFORMER_CONTAINER = "transformer-container"
METRIC_TYPES = ("Utilization", "Value", "AverageValue")
_KBS_RESOURCE = re.compile(r"kbs:///[a-zA-Z0-9_-]+/[a-zA-Z0-9_-]+/[a-zA-Z0-9_.-]+")
_IMPLEMENTATIONS = {
    PredictorSpec: (
        "SKLearn, XGBoost, Tensorflow, PyTorch, Triton, ONNX, HuggingFace, PMML, LightGBM, Paddle, Model, StorageUris,"
        " WorkerSpec, PodSpec"
    ),
    TransformerSpec: "PodSpec",
    ExplainerSpec: "ART, PodSpec",
}


def validate_service(service: InferenceService) -> Causes:
    """Causes that KServe's schema names before any rule is asked."""
    predictors: list[tuple[str, PredictorSpec]] = [("spec.predictor", service.spec.predictor)]
    for i, canary in enumerate(service.spec.canary):
        predictors.append((f"spec.canary[{i}].predictor", canary.predictor))
    for path, predictor in predictors:
        if predictor.name is not None and not re.fullmatch(NAME, predictor.name):
            yield wrong(f"{path}.name", predictor.name, f"should match '^{NAME}$'")
    yield from validate_rollout_annotations(service.metadata.annotations)
    yield from validate_routing_annotation(service.metadata.annotations)
    for path, component in components(service):
        yield from one_of(f"{path}.scaleMetricType", component.scale_metric_type, METRIC_TYPES)
        yield from at_least(f"{path}.canaryTrafficPercent", component.canary_traffic_percent)
        if (component.canary_traffic_percent or 0) > 100:
            yield wrong(
                f"{path}.canaryTrafficPercent",
                component.canary_traffic_percent,
                "must be less than or equal to 100",
            )
        yield from at_least(f"{path}.timeout", component.timeout)


def deny_service(service: InferenceService, old: InferenceService | None) -> Denial | None:
    """The first of the rules 1 to 15 that a service breaks."""
    mode = mode_of(service)
    return (
        _deny_name(service)
        or _deny_autoscaler(service)
        or _deny_environment(service)
        or deny_multinode(service)
        or _deny_collocated_storage(service.spec.predictor)
        or _deny_container_name(service.spec.predictor)
        or deny_storage_uris(service)
        or _deny_confidential(service.spec.predictor)
        or _deny_components(service, mode)
        or deny_scaling_annotations(service)
        or _deny_change(service, old)
        or deny_canaries(service, mode)
    )


def advise_service(service: InferenceService) -> Iterator[str]:
    """What is accepted but will not do what it seems to say."""
    predictor, mode = service.spec.predictor, mode_of(service)
    model = predictor.model
    confidential = model.confidential if model is not None else None
    if (
        confidential is not None
        and confidential.enabled
        and (storage_uri_of(predictor) or "").startswith("oci://")
    ):
        yield (
            "confidential has no effect with OCI URIs; OCI image decryption is handled by the container runtime via"
            " runtimeClassName"
        )
    if model is not None and any(container.name == "kserve-container" for container in predictor.containers):
        yield (
            "spec.predictor.containers: kserve-container stands beside model; it is laid over the runtime's container,"
            " and KServe itself refuses this"
        )
    for name, part in (
        ("predictor", predictor),
        ("transformer", service.spec.transformer),
        ("explainer", service.spec.explainer),
    ):
        if mode == STANDARD and part is not None and part.canary_traffic_percent is not None:
            instead = "use spec.canary, or" if name == "predictor" else "use"
            yield (
                f"spec.{name}.canaryTrafficPercent is ignored in Standard deployment mode; {instead} a rollout policy"
                " (annotation penstock.dev/rollout-policy)"
            )


def _deny_name(service: InferenceService) -> Denial | None:
    name = service.metadata.name
    if re.fullmatch(NAME, name):
        return None
    return Denial(
        "metadata.name",
        f'the InferenceService "{name}" is invalid: a InferenceService name must consist of lower case alphanumeric'
        ' characters or \'-\', and must start with alphabetical character. (e.g. "my-name" or "abc-123", regex used'
        f" for validation is '{NAME}')",
    )


def _deny_autoscaler(service: InferenceService) -> Denial | None:
    given = service.metadata.annotations.get(AUTOSCALER_CLASS)
    if given is None or given in AUTOSCALERS:
        return None
    return Denial(
        f"metadata.annotations[{AUTOSCALER_CLASS}]",
        f"[{given}] is not a supported autoscaler class type",
        f"use one of {', '.join(AUTOSCALERS)}",
    )


def _deny_environment(service: InferenceService) -> Denial | None:
    for path, container in _all_containers(service):
        for i, variable in enumerate(container.env):
            if variable.name in BLOCKED_ENV:
                return Denial(
                    f"{path}.env[{i}]",
                    f'the InferenceService "{service.metadata.name}" is invalid: setting {variable.name} in container'
                    f' "{container.name}" is not allowed for security reasons',
                )
    return None


def _all_containers(service: InferenceService) -> Iterator[tuple[str, Container]]:
    for path, component in components(service):
        yield from _numbered(path, component.containers, component.init_containers)
        if isinstance(component, PredictorSpec):
            for name in ("model", *FRAMEWORKS):
                framework = getattr(component, name)
                if framework is not None:
                    yield f"{path}.{name}", framework
            worker = component.worker_spec
            if worker is not None:
                yield from _numbered(f"{path}.workerSpec", worker.containers, worker.init_containers)
        if isinstance(component, ExplainerSpec) and component.art is not None:
            yield f"{path}.art", component.art
    for i, canary in enumerate(service.spec.canary):
        yield from _canary_containers(f"spec.canary[{i}].predictor", canary)


def _canary_containers(path: str, canary: CanarySpec) -> Iterator[tuple[str, Container]]:
    predictor = canary.predictor
    yield from _numbered(path, predictor.containers, predictor.init_containers)
    if predictor.model is not None:
        yield f"{path}.model", predictor.model


def _numbered(
    path: str, containers: tuple[Container, ...], init_containers: tuple[Container, ...]
) -> Iterator[tuple[str, Container]]:
    for i, container in enumerate(containers):
        yield f"{path}.containers[{i}]", container
    for i, container in enumerate(init_containers):
        yield f"{path}.initContainers[{i}]", container


def _deny_collocated_storage(predictor: PredictorSpec) -> Denial | None:
    for i, container in enumerate(predictor.containers):
        if container.name == TRANSFORMER_CONTAINER and any(
            variable.name == STORAGE_URI for variable in container.env
        ):
            return Denial(
                f"spec.predictor.containers[{i}].env",
                "storage uri should not be specified in transformer container",
                f"move {STORAGE_URI} to the container kserve-container",
            )
    return None


def _deny_container_name(predictor: PredictorSpec) -> Denial | None:
    for name in ("model", *FRAMEWORKS):
        framework = getattr(predictor, name)
        if framework is not None and framework.name:
            return Denial(
                f"spec.predictor.{name}.name", "the 'name' field is not allowed in standard predictor"
            )
    return None


def _deny_confidential(predictor: PredictorSpec) -> Denial | None:
    model = predictor.model
    if model is None or model.confidential is None or not model.confidential.enabled:
        return None
    if not model.storage_uri:
        return Denial(
            "spec.predictor.model.storageUri", "confidential model serving requires storageUri to be set"
        )
    resource = model.confidential.resource_id
    if resource and not _KBS_RESOURCE.fullmatch(resource):
        return Denial(
            "spec.predictor.model.confidential.resourceId",
            f'invalid confidential resourceId format "{resource}", expected kbs:///<repo>/<type>/<tag>',
        )
    return None


def _deny_components(service: InferenceService, mode: str) -> Denial | None:
    """Rules 9 to 13, component by component."""
    for path, component in components(service):
        denial = (
            _deny_implementations(path, component)
            or deny_scheme(path, component)
            or deny_extension(path, component)
            or deny_scaling(path, component, service.metadata.annotations, mode)
        )
        if denial is not None:
            return denial
    return None


def _deny_implementations(path: str, component: Component) -> Denial | None:
    given: list[str] = []
    if isinstance(component, PredictorSpec):
        given = [name for name in ("model", *FRAMEWORKS) if getattr(component, name) is not None]
    if isinstance(component, ExplainerSpec) and component.art is not None:
        given = ["art"]
    if component.containers and (not given or not isinstance(component, PredictorSpec)):
        given.append("containers")
    if len(given) == 1:
        return None
    kind = type(component)
    hint = f"keep one of {', '.join(given)}" if given else "give containers"
    if kind is PredictorSpec and not given:
        hint = "give a model with modelFormat and storageUri, or containers of your own"
    return Denial(
        path, f"exactly one of [{_IMPLEMENTATIONS[kind]}] must be specified in {kind.__name__}", hint
    )


def _deny_change(service: InferenceService, old: InferenceService | None) -> Denial | None:
    if old is None:
        return None
    before = parse_mode(old.status.deployment_mode)
    after = service.metadata.annotations.get(DEPLOYMENT_MODE)
    if before and after is not None and after != before:
        return Denial(
            f"metadata.annotations[{DEPLOYMENT_MODE}]",
            f"update rejected: deploymentMode cannot be changed from '{before}' to '{after}'",
            "delete the service and create it again, or create a second one beside it",
        )
    was, now = old.spec.predictor, service.spec.predictor
    same_model = (was.model, was.containers, storage_uri_of(was)) == (
        now.model,
        now.containers,
        storage_uri_of(now),
    )
    if was.name != now.name and same_model:
        return Denial(
            "spec.predictor.name", "predictor.name change requires a model change (e.g. storageUri)"
        )
    return None
