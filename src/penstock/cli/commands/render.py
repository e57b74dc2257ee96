"""Show what the control plane would create for a manifest, without a cluster."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from penstock.app.runtimes import shipped_runtimes
from penstock.cli.console import check_output, print_json, print_yaml, warn
from penstock.cli.manifests import Manifest, read
from penstock.cli.options import Filenames
from penstock.decide.plan import Surroundings, plan_service
from penstock.kit.errors import InvalidInput, PlatformError
from penstock.resources.admission import admit
from penstock.resources.meta import Resource
from penstock.resources.runtime import ClusterServingRuntime, ClusterStorageContainer, ServingRuntime
from penstock.resources.serving import InferenceService

DEFAULT_NAMESPACE = "default"


def run(
    filename: Filenames,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml",
    strict: Annotated[bool, typer.Option("--strict", help="Unknown fields are errors.")] = False,
    gateway_addr: Annotated[
        str, typer.Option(help="HOST:PORT that the service's address will name.")
    ] = "127.0.0.1:8080",
) -> None:
    """The runtimes known are those that come with Penstock and those in the files. Credentials of service accounts are left out."""
    check_output(output, ("yaml", "json"))
    objects = [_admitted(manifest, strict) for manifest in read(filename)]
    services = [obj for obj in objects if isinstance(obj, InferenceService)]
    if not services:
        raise InvalidInput("found no InferenceService in the files, expected at least one")
    write = print_yaml if output == "yaml" else print_json
    for number, service in enumerate(services):
        for document in _rendered(service, objects, gateway_addr):
            if output == "yaml" and number:
                print("---")
            write(document)


def _rendered(service: InferenceService, objects: list[Resource], gateway_addr: str) -> list[object]:
    namespace = service.metadata.namespace
    own = tuple(o for o in objects if isinstance(o, ServingRuntime) and o.metadata.namespace == namespace)
    given = tuple(o for o in objects if isinstance(o, ClusterServingRuntime))
    names = {runtime.metadata.name for runtime in given}
    known = Surroundings(
        gateway_addr=gateway_addr,
        runtimes=own,
        cluster_runtimes=(*given, *(r for r in shipped_runtimes() if r.metadata.name not in names)),
        storage_containers=tuple(o for o in objects if isinstance(o, ClusterStorageContainer)),
    )
    plan = plan_service(service, known, time.time())
    for part in plan.components:
        if part.workload.failure:
            raise InvalidInput(
                f"{namespace}/{service.metadata.name} {part.name}: {part.workload.failure}",
                code=plan.choice.reason or "InvalidPredictorSpec",
                hint="give the runtime's manifest with a further -f, if it is one of your own",
            )
    return [msgspec.to_builtins(part.rollout.create) for part in plan.components if part.rollout.create]


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
    if not meta.namespace and not isinstance(
        admitted.object, ClusterServingRuntime | ClusterStorageContainer
    ):
        meta = msgspec.structs.replace(meta, namespace=DEFAULT_NAMESPACE)
    return msgspec.structs.replace(admitted.object, metadata=meta)
