"""Can models be brought from these places to these paths? (KServe's rules 7 and 10)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import commonpath, normpath

from penstock.resources.serving import (
    Component,
    ExplainerSpec,
    InferenceService,
    PredictorSpec,
    StorageUri,
)
from penstock.resources.validation import Denial

SCHEMES = (
    "gs://", "s3://", "pvc://", "file://", "https://", "http://", "hdfs://", "webhdfs://", "oci://", "oci+native://",
    "oci+fetch://", "hf://", "modelscope://",
)  # fmt: skip
DEFAULT_MOUNT = "/mnt/models"
STORAGE_URI = "STORAGE_URI"
_AZURE = re.compile(r"https://(.+?)\.(blob|file)\.core\.windows\.net/(.+)")


def components(service: InferenceService) -> Iterator[tuple[str, Component]]:
    """The components that a service has, with their paths, in the order in which they are checked."""
    spec = service.spec
    for name, component in (
        ("predictor", spec.predictor),
        ("transformer", spec.transformer),
        ("explainer", spec.explainer),
    ):
        if component is not None:
            yield f"spec.{name}", component


def storage_uri_of(component: Component) -> str | None:
    """Where the component's own model is: of a model, an explainer, or STORAGE_URI of a custom container."""
    if isinstance(component, PredictorSpec) and component.model is not None:
        return component.model.storage_uri
    if isinstance(component, ExplainerSpec) and component.art is not None:
        return component.art.storage_uri or None
    for container in component.containers:
        for variable in container.env:
            if variable.name == STORAGE_URI:
                return variable.value
    return None


def deny_storage_uris(service: InferenceService) -> Denial | None:
    """Rule 7: one source or a list of them, at paths that fit together."""
    for path, component in sorted(components(service), key=lambda item: item[0] == "spec.predictor"):
        if not component.storage_uris:
            continue
        if storage_uri_of(component) is not None:
            return Denial(
                f"{path}.storageUris",
                "Setting both StorageURI and StorageURIs is not supported.",
                "move storageUri into the list",
            )
        denial = _deny_paths(path, component.storage_uris)
        if denial is not None:
            return denial
    return None


def _deny_paths(path: str, uris: tuple[StorageUri, ...]) -> Denial | None:
    for i, item in enumerate(uris):
        text = _deny_path(item)
        if text:
            return Denial(f"{path}.storageUris[{i}]", text)
    claims = [mount_of(item) for item in uris if item.uri.startswith("pvc://")]
    if len(set(claims)) < len(claims):
        return Denial(f"{path}.storageUris", "PVC storage paths must be unique")
    others = [mount_of(item) for item in uris if not item.uri.startswith("pvc://")]
    if len(others) > 1 and commonpath(map(normpath, others)) == "/":
        shown = " ".join(others)
        return Denial(
            f"{path}.storageUris",
            f"storage paths must have a common parent directory. Current paths: [{shown}] have no common parent beyond"
            " root",
        )
    return None


def _deny_path(item: StorageUri) -> str:
    mount = mount_of(item)
    if not item.uri:
        return "storage URI cannot be empty"
    if mount in ("", "/"):
        return "storage path cannot be empty"
    if not mount.startswith("/"):
        return f"storage path must be absolute: {mount}"
    if ".." in mount:
        return f"storage path cannot contain '..' for security reasons: {mount}"
    return ""


def mount_of(item: StorageUri) -> str:
    """Where one of several sources is mounted."""
    return DEFAULT_MOUNT if item.mount_path is None else item.mount_path


def deny_scheme(path: str, component: Component) -> Denial | None:
    """Rule 10: a scheme that some storage container brings; a container chosen by name may bring any."""
    if isinstance(component, PredictorSpec) and component.storage_container_name:
        return None
    uris = [item.uri for item in component.storage_uris]
    own = storage_uri_of(component)
    for uri in [own, *uris] if own else uris:
        if not is_supported(uri):
            return Denial(
                f"{path}.storageUri",
                f"storageUri, must be one of: [{', '.join(SCHEMES)}] or match"
                " https://{}.blob.core.windows.net/{}/{} or be an absolute or relative local path."
                f" StorageUri [{uri}] is not supported",
                "for a scheme of your own, name a ClusterStorageContainer in predictor.storageContainerName",
            )
    return None


def is_supported(uri: str) -> bool:
    """Whether models can be brought from there; without a scheme it is a local path."""
    return "://" not in uri or uri.startswith(SCHEMES) or _AZURE.match(uri) is not None
