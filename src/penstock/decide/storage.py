"""How do the model's files get into the pod?

As in KServe: an init container `storage-initializer` with `[uri, path …]` fills an emptyDir that the serving container sees
read-only at /mnt/models; `pvc://` is mounted directly. A container with env STORAGE_URI asks for the same. The init container
is a ClusterStorageContainer's: the one that the service names, else the first whose formats take the URIs, else our own.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

import msgspec

from penstock.contracts.model_bindings import SOURCES, Bound
from penstock.kit.errors import nearest
from penstock.resources.pod import (
    Container,
    EmptyDirVolumeSource,
    EnvVar,
    PersistentVolumeClaimVolumeSource,
    PodSpec,
    Volume,
    VolumeMount,
)
from penstock.resources.runtime import ClusterStorageContainer, SupportedUriFormat
from penstock.resources.serving import StorageUri

MODELS = "/mnt/models"
VOLUME = "kserve-provision-location"
INITIALIZER = "storage-initializer"
INITIALIZER_IMAGE = "penstock/storage-initializer:latest"
OWN_CONTAINER = Container(name=INITIALIZER, image=INITIALIZER_IMAGE)
STORAGE_URI = "STORAGE_URI"


@dataclass(frozen=True, slots=True)
class Source:
    """One model source and the folder in the container that it fills."""

    uri: str
    path: str


@dataclass(frozen=True, slots=True)
class Fetcher:
    """The container that brings the files, or the `failure` that the one which was asked for cannot."""

    container: Container = OWN_CONTAINER
    failure: str = ""


def sources_of(
    storage_uri: str | None, storage_uris: tuple[StorageUri, ...], container: Container
) -> tuple[Source, ...]:
    """Where the component's files come from; admission has seen to it that only one form is used."""
    if storage_uri:
        return (Source(storage_uri, MODELS),)
    if storage_uris:
        return tuple(Source(item.uri, item.mount_path or MODELS) for item in storage_uris)
    named = next((env.value for env in container.env if env.name == STORAGE_URI and env.value), None)
    return (Source(named, MODELS),) if named else ()


def choose_fetcher(
    sources: tuple[Source, ...], containers: tuple[ClusterStorageContainer, ...], named: str | None = None
) -> Fetcher:
    """A container that is `named` may bring any URI; it counts only when there is something to fetch."""
    fetched = tuple(source for source in sources if not _is_claim(source))
    if not fetched:
        return Fetcher()
    if not named:
        fitting = (c for c in containers if not _refusal(c, fetched) and _takes(c, fetched))
        return next((Fetcher(c.spec.container) for c in fitting), Fetcher())
    chosen = next((c for c in containers if c.metadata.name == named), None)
    if chosen is None:
        names = [c.metadata.name for c in containers]
        known = ", ".join(nearest(named, names) or sorted(names)) or "none"
        why = f"is not found (there is {known})"
    else:
        why = _refusal(chosen, fetched)
    if chosen is None or why:
        return Fetcher(failure=f"storageContainerName: ClusterStorageContainer {named!r} {why}")
    return Fetcher(chosen.spec.container)


def with_models(
    pod: PodSpec,
    main: str,
    sources: tuple[Source, ...],
    fetcher: Container,
    *,
    read_only: bool = True,
    secret_env: tuple[EnvVar, ...] = (),
) -> PodSpec:
    """The pod with its models; `main` names the container that needs them, `fetcher` fills their volume, `secret_env` carries credentials."""
    if not sources:
        return pod
    claims = tuple(source for source in sources if _is_claim(source))
    fetched = tuple(source for source in sources if source not in claims)
    mounts: list[VolumeMount] = []
    volumes: list[Volume] = []
    for number, source in enumerate(claims):
        claim, _, folder = source.uri.removeprefix("pvc://").partition("/")
        name = f"kserve-pvc-source-{number}" if number else "kserve-pvc-source"
        volumes.append(
            Volume(name=name, persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=claim))
        )
        mounts.append(
            VolumeMount(name=name, mount_path=source.path, sub_path=folder.strip("/"), read_only=read_only)
        )
    initializers: tuple[Container, ...] = ()
    if fetched:
        root = common_folder(tuple(source.path for source in fetched))
        volumes.append(Volume(name=VOLUME, empty_dir=EmptyDirVolumeSource()))
        mounts.append(VolumeMount(name=VOLUME, mount_path=root, read_only=read_only))
        initializers = (_initializer(fetched, root, fetcher, secret_env),)
    serving = tuple(_mounted(c, tuple(mounts)) if c.name == main else c for c in pod.containers)
    return msgspec.structs.replace(
        pod,
        containers=serving,
        init_containers=(*initializers, *pod.init_containers),
        volumes=(*pod.volumes, *volumes),
    )


def fetched_by(pod: PodSpec) -> tuple[str, ...]:
    """The addresses from which the pod's models are brought."""
    return next((one.args[::2] for one in pod.init_containers if one.name == INITIALIZER), ())


def cached_models(bounds: tuple[Bound, ...]) -> EnvVar:
    """Tells the fetcher which addresses the node's cache answers for."""
    sources = [bound.source for bound in bounds]
    return EnvVar(name=SOURCES, value=msgspec.json.encode(sources).decode())


def common_folder(paths: tuple[str, ...]) -> str:
    """The folder that holds all of them: the only one itself, else their common parent."""
    return paths[0] if len(set(paths)) == 1 else posixpath.commonpath(paths)


def _is_claim(source: Source) -> bool:
    return source.uri.startswith("pvc://")


def _initializer(
    sources: tuple[Source, ...], root: str, base: Container, secret_env: tuple[EnvVar, ...]
) -> Container:
    args = tuple(part for source in sources for part in (source.uri, source.path))
    return msgspec.structs.replace(
        base,
        name=INITIALIZER,
        termination_message_policy="FallbackToLogsOnError",
        args=args,
        env=(*base.env, *secret_env),
        volume_mounts=(*base.volume_mounts, VolumeMount(name=VOLUME, mount_path=root)),
    )


def _refusal(container: ClusterStorageContainer, sources: tuple[Source, ...]) -> str:
    """Why it fills no pod's volume, whatever the URIs, or ""."""
    spec = container.spec
    if container.disabled:
        return "is disabled"
    if spec.workload_type not in ("", "initContainer"):
        return f"is for {spec.workload_type}, not for pods (workloadType initContainer)"
    if len(sources) > 1 and not spec.supports_multi_model_download:
        return f"brings one source, not {len(sources)} (supportsMultiModelDownload)"
    return ""


def _takes(container: ClusterStorageContainer, sources: tuple[Source, ...]) -> bool:
    return all(any(_names(f, s.uri) for f in container.spec.supported_uri_formats) for s in sources)


def _names(format_: SupportedUriFormat, uri: str) -> bool:
    """A pattern that is none names nothing."""
    if format_.prefix and uri.startswith(format_.prefix):
        return True
    try:
        return bool(format_.regex) and re.search(format_.regex, uri) is not None
    except re.error:
        return False


def _mounted(container: Container, mounts: tuple[VolumeMount, ...]) -> Container:
    """KServe rewrites a custom container's STORAGE_URI to where the files are."""
    env = tuple(
        msgspec.structs.replace(item, value=MODELS) if item.name == STORAGE_URI else item
        for item in container.env
    )
    return msgspec.structs.replace(container, env=env, volume_mounts=(*container.volume_mounts, *mounts))
