"""Which pods does this component of an InferenceService ask for?

Merge order as in KServe: the service's container over the runtime's (args are concatenated, the runtime's first), the
service's PodSpec over the runtime's; labels and annotations: predictor over service over runtime; then templates are rendered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from penstock.contracts.model_bindings import bound_to
from penstock.decide.cache_gate import gated
from penstock.decide.disaggregation import BOTH, role_of
from penstock.decide.rendering import UnknownPlaceholder, render
from penstock.decide.runtime import MAIN_CONTAINER, Runtime
from penstock.decide.storage import (
    INITIALIZER,
    Source,
    cached_models,
    choose_fetcher,
    sources_of,
    with_models,
)
from penstock.kit.patch import strategic_merge
from penstock.resources.annotations import AUTOSCALER_CLASS, WISHED
from penstock.resources.autoscaler_settings import DOMAIN, METRIC, PROFILE, RESUME_WITHIN, TTFT_SLO
from penstock.resources.meta import Labels, ObjectMeta
from penstock.resources.pod import (
    Container,
    ContainerPort,
    EnvVar,
    Lifecycle,
    LifecycleHandler,
    PodSpec,
    PodTemplateSpec,
    Probe,
    TCPSocketAction,
)
from penstock.resources.runtime import ClusterStorageContainer
from penstock.resources.serving import Component, FrameworkSpec, InferenceService, PredictorSpec

ComponentName = Literal["predictor", "transformer", "explainer"]
COMPONENTS: tuple[ComponentName, ...] = ("predictor", "transformer", "explainer")
DEFAULT_PORT = 8080
FETCH_COMMAND = ("{python}", "-m", "penstock.app.fetch")
LOCAL_COMMAND, LOCAL_COMMANDS = "penstock.dev/local-command", "penstock.dev/local-commands"
INSTALL_HINT, INSTALL_HINTS = "penstock.dev/install-hint", "penstock.dev/install-hints"
TRANSFER_ARGS = "penstock.dev/kv-transfer-args"
"""Of a runtime: further arguments, a JSON list, of pods that have the role prefill or decode."""
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
READ_ONLY = "storage.kserve.io/readonly"
NAME_FLAGS = ("--model_name", "--served-model-name", "--alias")
DRAIN_HEAD_START_S = 1
"""A stopping pod waits this long before its program is told, so that gateways have taken it out of their tables."""

_UNCOPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    AUTOSCALER_CLASS,
    "serving.kserve.io/enable-tag-routing",
    "serving.kserve.io/stop",
    "serving.knative.dev/rollout-duration",
    "kubernetes.io/change-cause",
    "penstock.dev/split-by",
    METRIC,
    PROFILE,
    RESUME_WITHIN,
    TTFT_SLO,
    LOCAL_COMMAND,
    INSTALL_HINT,
    WISHED,
)
_UNCOPIED_PREFIXES = (DOMAIN, "penstock.dev/rollout-", "penstock.dev/handover")
"""How a service scales is no part of its pods: to tune it restarts nothing, where Knative makes a revision of each change."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A component's pods, or the `failure` that keeps them from being made."""

    template: PodTemplateSpec | None = None
    failure: str = ""


def component_labels(service: InferenceService, name: str) -> Labels:
    """What all Deployments and pods of a component carry, and are found by."""
    return {SERVICE_LABEL: service.metadata.name, "component": name}


def component_of(service: InferenceService, name: ComponentName) -> Component | None:
    """The component's spec, if the service has one."""
    component: Component | None = getattr(service.spec, name)
    return component


def build_workload(
    service: InferenceService,
    name: ComponentName,
    runtime: Runtime | None,
    *,
    storage_containers: tuple[ClusterStorageContainer, ...] = (),
    secret_env: tuple[EnvVar, ...] = (),
    predictor_host: str = "",
) -> Workload:
    """The pod template. `runtime` is None for containers of the user's own; `predictor_host` is for transformers."""
    component = component_of(service, name)
    assert component is not None, "the caller asks for components that exist"
    try:
        pod = _pod(service, component, runtime)
    except UnknownPlaceholder as error:
        where = runtime.metadata.name if runtime else service.metadata.name
        return Workload(
            failure=f"failed to replace placeholders in serving runtime {where} Container: {error}"
        )
    if not pod.containers:
        return Workload(
            failure=f"no container named {MAIN_CONTAINER} in the runtime, and none in the service"
        )
    main = main_container(pod)
    pod = msgspec.structs.replace(
        pod, containers=tuple(_completed(c, c is main, service, name, predictor_host) for c in pod.containers)
    )
    labels = _labels(service, component, name, runtime)
    try:
        pod = _with_transfers(pod, labels, runtime)
    except ValueError:
        return Workload(failure=f"annotation {TRANSFER_ARGS} of the runtime: expected a JSON list of words")
    main = main_container(pod)
    sources = _sources(component, main)
    fetcher = choose_fetcher(sources, storage_containers, _storage_container_name(component))
    if fetcher.failure:
        return Workload(failure=f"{name}.{fetcher.failure}")
    annotations = _annotations(service, component, runtime)
    read_only = annotations.get(READ_ONLY) != "false"
    bounds = bound_to(service.metadata.annotations) if name == "predictor" else ()
    if bounds:
        secret_env = (*secret_env, cached_models(bounds))
    pod = with_models(pod, main.name, sources, fetcher.container, read_only=read_only, secret_env=secret_env)
    if bounds:
        pod = gated(pod)
    try:
        annotations |= _host_annotations(runtime, pod, main.name)
    except ValueError:
        return Workload(failure=f"annotation {LOCAL_COMMAND} of the runtime: expected a JSON list of words")
    meta = ObjectMeta(labels=labels, annotations=annotations)
    return Workload(template=PodTemplateSpec(metadata=meta, spec=pod))


def main_container(pod: PodSpec) -> Container:
    """The container that answers requests: the one with KServe's name, else the first."""
    return next((c for c in pod.containers if c.name == MAIN_CONTAINER), pod.containers[0])


def serving_port(pod: PodSpec) -> int:
    """The HTTP port of the main container, its first; KServe's default without one."""
    port = _http_port(pod)
    return port.container_port if port is not None else DEFAULT_PORT


def speaks_https(pod: PodSpec) -> bool:
    """Whether the HTTP port's name begins with `https`, as Istio's rules have it."""
    port = _http_port(pod)
    return port is not None and port.name.partition("-")[0] == "https"


def _http_port(pod: PodSpec) -> ContainerPort | None:
    ports = main_container(pod).ports
    http = [port for port in ports if not speaks_grpc(port)] or ports
    return http[0] if http else None


def grpc_port(pod: PodSpec) -> int:
    """The port of the main container that speaks gRPC, 0 if there is none."""
    return next((port.container_port for port in main_container(pod).ports if speaks_grpc(port)), 0)


def speaks_grpc(port: ContainerPort) -> bool:
    """By the port's name, protocol first, as KServe's manifests and Istio's rules have it: `h2c`, `grpc`, `grpc-predict`."""
    return port.name.partition("-")[0] in ("h2c", "grpc") and not port.name.startswith("grpc-web")


def served_name(pod: PodSpec) -> str:
    """The model's name as its arguments tell the engine, the last one counts; "" if they tell none."""
    args = main_container(pod).args
    named = ""
    for index, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag in NAME_FLAGS:
            named = value if equals else "".join(args[index + 1 : index + 2])
    return named


def _model(component: Component) -> FrameworkSpec | None:
    model: FrameworkSpec | None = getattr(component, "model", None)
    return model


def _sources(component: Component, main: Container) -> tuple[Source, ...]:
    model = _model(component)
    return sources_of(model.storage_uri if model else None, component.storage_uris, main)


def _storage_container_name(component: Component) -> str | None:
    """Only predictors may name one."""
    return component.storage_container_name if isinstance(component, PredictorSpec) else None


def _pod(service: InferenceService, component: Component, runtime: Runtime | None) -> PodSpec:
    own = msgspec.convert(msgspec.to_builtins(component), PodSpec)
    if runtime is None:
        return own
    base = _plain(runtime.spec, PodSpec)
    for key in ("labels", "annotations"):
        base.pop(key, None)
    merged = strategic_merge(base, {k: v for k, v in _plain(own, PodSpec).items() if k != "containers"})
    containers = {c["name"]: c for c in base.get("containers", ())}
    model = _model(component)
    if model is not None and MAIN_CONTAINER in containers:
        containers[MAIN_CONTAINER] = _merged_container(
            containers[MAIN_CONTAINER], _plain(model, Container), model.runtime_version
        )
    for extra in _plain(own, PodSpec).get("containers", ()):
        known = containers.get(extra["name"])
        containers[extra["name"]] = _merged_container(known, extra, None) if known else extra
    merged["containers"] = [render(container, service.metadata) for container in containers.values()]
    return msgspec.convert(merged, PodSpec)


def _plain(value: Any, kind: type[Any]) -> dict[str, Any]:
    """Only the fields of `kind`, as plain data."""
    plain: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(msgspec.convert(msgspec.to_builtins(value), kind))
    )
    return plain


def _merged_container(base: dict[str, Any], override: dict[str, Any], version: str | None) -> dict[str, Any]:
    args = [*base.get("args", ()), *override.get("args", ())]
    fields = {key: value for key, value in override.items() if key not in ("name", "args")}
    merged: dict[str, Any] = strategic_merge(base, fields)
    if args:
        merged["args"] = args
    if version and "@" not in merged.get("image", ""):
        name, _, tag = merged.get("image", "").rpartition(":")
        merged["image"] = f"{name if name and '/' not in tag else merged.get('image', '')}:{version}"
    return merged


def _completed(
    container: Container, is_main: bool, service: InferenceService, name: ComponentName, predictor_host: str
) -> Container:
    """What KServe adds: the service's name in every container; on the main one a probe, and for transformers their upstream."""
    env = container.env
    if not any(item.name == "INFERENCE_SERVICE_NAME" for item in env):
        env = (*env, EnvVar(name="INFERENCE_SERVICE_NAME", value=service.metadata.name))
    if not is_main:
        return msgspec.structs.replace(container, env=env)
    port = container.ports[0].container_port if container.ports else DEFAULT_PORT
    args = container.args
    if name != "predictor" and predictor_host and "--predictor_host" not in args:
        args = (*args, "--model_name", service.metadata.name, "--predictor_host", predictor_host)
    probe = container.readiness_probe
    if probe is None:
        probe = Probe(
            tcp_socket=TCPSocketAction(port=port),
            timeout_seconds=1,
            period_seconds=10,
            success_threshold=1,
            failure_threshold=3,
        )
    lifecycle = container.lifecycle or Lifecycle()
    if lifecycle.pre_stop is None:
        wait = LifecycleHandler(sleep={"seconds": DRAIN_HEAD_START_S})
        lifecycle = msgspec.structs.replace(lifecycle, pre_stop=wait)
    return msgspec.structs.replace(
        container,
        name=container.name or MAIN_CONTAINER,
        env=env,
        args=args,
        readiness_probe=_ported(probe, port),
        liveness_probe=_ported(container.liveness_probe, port),
        startup_probe=_ported(container.startup_probe, port),
        lifecycle=lifecycle,
    )


def _with_transfers(pod: PodSpec, labels: Labels, runtime: Runtime | None) -> PodSpec:
    """Engines that hand KV on, or take it, are told so. Raises ValueError."""
    given = runtime.metadata.annotations.get(TRANSFER_ARGS) if runtime is not None else None
    if given is None or role_of(labels) == BOTH:
        return pod
    further, main = msgspec.json.decode(given, type=list[str]), main_container(pod)
    containers = (
        msgspec.structs.replace(one, args=(*one.args, *further)) if one is main else one
        for one in pod.containers
    )
    return msgspec.structs.replace(pod, containers=tuple(containers))


def _ported(probe: Probe | None, port: int) -> Probe | None:
    """A probe without a port means the container's own, as in Knative."""
    if probe is None:
        return None
    http, tcp = probe.http_get, probe.tcp_socket
    if http is not None and not http.port:
        return msgspec.structs.replace(probe, http_get=msgspec.structs.replace(http, port=port))
    if tcp is not None and not tcp.port:
        return msgspec.structs.replace(probe, tcp_socket=msgspec.structs.replace(tcp, port=port))
    return probe


def _labels(
    service: InferenceService, component: Component, name: ComponentName, runtime: Runtime | None
) -> Labels:
    return {
        **(runtime.spec.labels if runtime else {}),
        **service.metadata.labels,
        **component.labels,
        **component_labels(service, name),
    }


def _annotations(service: InferenceService, component: Component, runtime: Runtime | None) -> Labels:
    merged = {
        **(runtime.spec.annotations if runtime else {}),
        **service.metadata.annotations,
        **component.annotations,
    }
    return {
        key: value
        for key, value in merged.items()
        if key not in _UNCOPIED and not key.startswith(_UNCOPIED_PREFIXES)
    }


def _host_annotations(runtime: Runtime | None, pod: PodSpec, main: str) -> Labels:
    """How one machine starts what a cluster would start from an image (read by the kubelet). Raises ValueError.

    Our fetcher stands in for a storage container's image, never for the command that one brings itself.
    """
    commands: dict[str, Any] = {}
    hints: dict[str, str] = {}
    if any(container.name == INITIALIZER and not container.command for container in pod.init_containers):
        commands[INITIALIZER] = list(FETCH_COMMAND)
    if runtime is not None:
        given = {**runtime.spec.annotations, **runtime.metadata.annotations}
        if LOCAL_COMMAND in given:
            commands[main] = msgspec.json.decode(given[LOCAL_COMMAND], type=list[str])
        if INSTALL_HINT in given:
            hints[main] = given[INSTALL_HINT]
    result = {}
    if commands:
        result[LOCAL_COMMANDS] = json.dumps(commands, sort_keys=True)
    if hints:
        result[INSTALL_HINTS] = json.dumps(hints, sort_keys=True)
    return result
