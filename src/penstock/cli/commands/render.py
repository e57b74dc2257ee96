"""Show what the control plane would create for a manifest, without a cluster.

With --for the pods ask for GPUs as such a cluster hears it, what they need beside them is written too, and so are all other objects of the files but
runtimes and presets; declared nodes of the settings become configurations of the GPU operator.

Example: penstock render -f service.yaml --for device-plugin | kubectl apply -f -
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, cast, get_args

import msgspec
import typer

from penstock.app.declared_nodes import declared_gpus
from penstock.app.gpu_types import load_gpu_types
from penstock.app.runtimes import shipped_runtimes
from penstock.app.settings import load
from penstock.cli.console import check_output, print_json, print_yaml, warn
from penstock.cli.manifests import Manifest, read
from penstock.cli.options import Filenames
from penstock.contracts.model_bindings import Bound
from penstock.decide.cache_binding import bind
from penstock.decide.cache_volumes import cache_volumes, on_volumes
from penstock.decide.caching import Cache as ModelCache
from penstock.decide.caching import Known
from penstock.decide.cluster_manifest import cluster_manifest
from penstock.decide.kubernetes_gpus import Style
from penstock.decide.llm_service import plan_llm_service
from penstock.decide.plan import Surroundings, plan_service
from penstock.decide.storage_config import Located, located, secret_name
from penstock.kit.errors import Cause, InvalidInput, PlatformError
from penstock.resources.admission import admit
from penstock.resources.caching import LocalModelNodeGroup
from penstock.resources.core import Secret
from penstock.resources.llm import LLMInferenceService, LLMInferenceServiceConfig
from penstock.resources.meta import Resource
from penstock.resources.pod import EnvVar
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.scheme import kind_of
from penstock.resources.serving import InferenceService

DEFAULT_NAMESPACE = "default"
USED = (
    InferenceService,
    LLMInferenceService,
    LLMInferenceServiceConfig,
    ServingRuntime,
    ClusterServingRuntime,
    ClusterStorageContainer,
)
"""What the pods are made of: with them a cluster would make the pods once more."""
CACHES: tuple[type[ModelCache], ...] = get_args(ModelCache)
R = TypeVar("R", bound=Resource)


def run(
    filename: Filenames,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml",
    strict: Annotated[bool, typer.Option("--strict", help="Unknown fields are errors.")] = False,
    gateway_addr: Annotated[
        str, typer.Option(help="HOST:PORT that the service's address will name.")
    ] = "127.0.0.1:8080",
    cluster: Annotated[
        str,
        typer.Option(
            "--for",
            help="For a Kubernetes cluster whose GPUs are given out by: device-plugin or dra.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """The runtimes known are those that come with Penstock and those in the files. Credentials of service accounts are left out."""
    check_output(output, ("yaml", "json"))
    objects = [_admitted(manifest, strict) for manifest in read(filename)]
    asked = [one for llm in _of(objects, LLMInferenceService) for one in _asked(llm, objects)]
    placed = [_located(one, objects) for one in (*_of(objects, InferenceService), *asked)]
    services = [one.service for one in placed]
    if not services and not cluster:
        raise InvalidInput(
            "found no InferenceService or LLMInferenceService in the files, expected at least one"
        )
    bounds = [_bound(service, objects) if cluster else () for service in services]
    made = [
        part
        for one, own in zip(placed, bounds, strict=True)
        for part in _rendered(on_volumes(one.service, own), objects, gateway_addr, one.env)
    ]
    users = [(s.metadata.namespace, one) for s, own in zip(services, bounds, strict=True) for one in own]
    written = _for_cluster(cluster, (*objects, *_volumes(objects, users)), made) if cluster else made
    for number, document in enumerate(map(_document, written)):
        if output == "json":
            print_json(document)
            continue
        if number:
            print("---")
        print_yaml(document)


def _document(written: Resource) -> dict[str, Any]:
    """What it is comes first."""
    document: dict[str, Any] = msgspec.to_builtins(written)
    return {key: document[key] for key in ("apiVersion", "kind", "metadata")} | document


def _for_cluster(cluster: str, objects: Sequence[Resource], made: Sequence[Resource]) -> tuple[Resource, ...]:
    if cluster not in get_args(Style):
        raise InvalidInput(f"--for: found {cluster!r}, expected one of {', '.join(get_args(Style))}")
    kept = [obj for obj in objects if not isinstance(obj, USED)]
    nodes = {node.name: declared_gpus(node) for node in load(os.environ).nodes}
    manifest = cluster_manifest((*kept, *made), cast("Style", cluster), load_gpu_types(), nodes)
    if manifest.failures:
        causes = tuple(Cause(*failure) for failure in manifest.failures.items())
        raise InvalidInput(f"{causes[0].field}: {causes[0].message}", causes=causes)
    for warning in manifest.warnings:
        warn(warning)
    for node, labels in manifest.labels.items():
        pairs = " ".join(f"{key}={value}" for key, value in labels.items())
        warn(
            f"a node chooses its configuration by labels; for one like {node}: kubectl label node NODE {pairs}"
        )
    return manifest.objects


def _asked(llm: LLMInferenceService, objects: Sequence[Resource]) -> tuple[InferenceService, ...]:
    """The services that it is played by, as an API server would take them."""
    namespace = llm.metadata.namespace
    presets = {
        one.metadata.name: one
        for one in _of(objects, LLMInferenceServiceConfig)
        if one.metadata.namespace == namespace
    }
    plan = plan_llm_service(llm, presets, *_runtimes(objects, namespace))
    if plan.missing:
        raise InvalidInput(
            f"{namespace}/{llm.metadata.name}: spec.baseRefs: found no LLMInferenceServiceConfig {', '.join(plan.missing)} in {namespace}",
            hint="give its manifest with a further -f",
        )
    if plan.refusal:
        raise InvalidInput(f"{namespace}/{llm.metadata.name}: {plan.refusal}")
    return tuple(_of([admit(msgspec.to_builtins(one)).object for one in plan.services], InferenceService))


def _runtimes(
    objects: Sequence[Resource], namespace: str
) -> tuple[tuple[ServingRuntime, ...], tuple[ClusterServingRuntime, ...]]:
    """The namespace's and everybody's, which a file can replace."""
    own = tuple(one for one in _of(objects, ServingRuntime) if one.metadata.namespace == namespace)
    given = _of(objects, ClusterServingRuntime)
    names = {runtime.metadata.name for runtime in given}
    return own, (*given, *(one for one in shipped_runtimes() if one.metadata.name not in names))


def _located(service: InferenceService, objects: Sequence[Resource]) -> Located:
    """With the address that its `storage` means, by a Secret of the files."""
    key = service.metadata.namespace, secret_name(service)
    secrets = (one for one in _of(objects, Secret) if (one.metadata.namespace, one.metadata.name) == key)
    found = located(service, next(secrets, None))
    if found.failure:
        raise InvalidInput(
            f"{key[0]}/{service.metadata.name}: {found.failure}",
            hint="give the Secret's manifest with a further -f",
        )
    return found


def _bound(service: InferenceService, objects: Sequence[Resource]) -> tuple[Bound, ...]:
    """To the caches of the files. Which nodes there are is not known, so the service's selectors choose no group."""
    known = Known(_of(objects, CACHES), _of(objects, LocalModelNodeGroup))
    return tuple(one.bound for one in bind(service, known))


def _volumes(objects: Sequence[Resource], users: Sequence[tuple[str, Bound]]) -> tuple[Resource, ...]:
    caches, groups = _of(objects, CACHES), _of(objects, LocalModelNodeGroup)
    names = {group.metadata.name for group in groups}
    for cache in caches:
        for name in cache.spec.node_groups:
            if name not in names:
                warn(
                    f"{cache.kind} {cache.metadata.name}: no volumes are written for node group {name}, which is in none of the files"
                )
    return cache_volumes(caches, groups, users)


def _of(objects: Sequence[Resource], kind: type[R] | tuple[type[R], ...]) -> tuple[R, ...]:
    return tuple(one for one in objects if isinstance(one, kind))


def _rendered(
    service: InferenceService, objects: list[Resource], gateway_addr: str, secret_env: tuple[EnvVar, ...]
) -> list[Resource]:
    namespace = service.metadata.namespace
    own, cluster_runtimes = _runtimes(objects, namespace)
    known = Surroundings(
        gateway_addr=gateway_addr,
        runtimes=own,
        cluster_runtimes=cluster_runtimes,
        storage_containers=tuple(o for o in objects if isinstance(o, ClusterStorageContainer)),
        secret_env=secret_env,
    )
    plan = plan_service(service, known, time.time())
    for part in plan.components:
        if part.workload.failure:
            raise InvalidInput(
                f"{namespace}/{service.metadata.name} {part.name}: {part.workload.failure}",
                code=plan.choice.reason or "InvalidPredictorSpec",
                hint="give the runtime's manifest with a further -f, if it is one of your own",
            )
    return [part.rollout.create for part in plan.components if part.rollout.create]


def _admitted(manifest: Manifest, strict: bool) -> Resource:
    try:
        admitted = admit(manifest.document, strict=strict)
    except PlatformError as error:
        raise type(error)(
            f"{manifest.origin}: {error.message}", hint=error.hint, causes=error.causes
        ) from None
    for warning in admitted.warnings:
        warn(f"{manifest.origin}: {warning}")
    meta = admitted.object.metadata
    if not meta.namespace and kind_of(type(admitted.object)).namespaced:
        meta = msgspec.structs.replace(meta, namespace=DEFAULT_NAMESPACE)
    return msgspec.structs.replace(admitted.object, metadata=meta)
