"""Create or update objects from manifests."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import orjson
import typer

from penstock.cli.api import MERGE_PATCH, Answer, Api, connect
from penstock.cli.console import warn
from penstock.cli.manifests import Manifest, read
from penstock.cli.names import Resource, of_document
from penstock.cli.options import Context, Filenames, Kubeconfig, Namespace
from penstock.cli.three_way import LAST_APPLIED, three_way
from penstock.kit.errors import InvalidInput, NotFound, PlatformError
from penstock.resources.admission import admit

DRY_RUNS = ("none", "client", "server")


def run(
    filename: Filenames,
    dry_run: Annotated[
        str, typer.Option(help="client checks here; server lets the cluster check; none applies.")
    ] = "none",
    strict: Annotated[
        bool, typer.Option("--strict", help="Unknown fields are errors, not warnings.")
    ] = False,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Every object is tried; the exit code tells of the first that failed."""
    if dry_run not in DRY_RUNS:
        raise InvalidInput(f"--dry-run: found {dry_run!r}, expected one of {', '.join(DRY_RUNS)}")
    manifests = read(filename)
    api = None if dry_run == "client" else connect(kubeconfig, context)
    failures: list[PlatformError] = []
    for manifest in manifests:
        try:
            if api is None:
                _check(manifest, strict)
            else:
                Applier(api, namespace, strict=strict, dry_run=dry_run == "server").apply(manifest)
        except PlatformError as error:
            failures.append(
                type(error)(f"{manifest.origin}: {error.message}", hint=error.hint, causes=error.causes)
            )
    for failure in failures[1:]:
        warn(failure.message)
    if failures:
        raise failures[0]


def _check(manifest: Manifest, strict: bool) -> None:
    admitted = admit(manifest.document, strict=strict)
    for warning in admitted.warnings:
        warn(f"{manifest.origin}: {warning}")
    print(f"{admitted.object.kind.lower()}/{admitted.object.metadata.name} is valid (dry run)")


class Applier:
    """Applies one manifest after another to one server."""

    def __init__(self, api: Api, namespace: str | None, *, strict: bool, dry_run: bool) -> None:
        self._api = api
        self._namespace = namespace
        self._query = {"fieldValidation": "Strict" if strict else "Warn", "dryRun": "All" if dry_run else ""}
        self._suffix = " (server dry run)" if dry_run else ""

    def apply(self, manifest: Manifest) -> None:
        """Create it, or change what differs. Raises PlatformError."""
        document = copy.deepcopy(manifest.document)
        resource = of_document(self._api, document.get("apiVersion", ""), document.get("kind", ""))
        meta = document.setdefault("metadata", {})
        name = meta.get("name")
        if not name:
            raise InvalidInput("metadata.name: found nothing, expected a name")
        namespace = self._place(resource, meta)
        _remember(document)
        try:
            current = self._api.get(resource.path(namespace, name))
        except NotFound:
            answer = self._send("POST", resource.path(namespace), document)
            outcome = "created"
        else:
            answer, outcome = self._change(resource.path(namespace, name), document, current)
        for warning in answer.warnings:
            warn(warning)
        print(f"{resource.title}/{name} {outcome}{self._suffix}")

    def _place(self, resource: Resource, meta: dict[str, Any]) -> str | None:
        if not resource.namespaced:
            return None
        own = meta.get("namespace")
        if own and self._namespace and own != self._namespace:
            raise InvalidInput(
                f"metadata.namespace: found {own!r}, expected {self._namespace!r} as --namespace says"
            )
        meta["namespace"] = own or self._namespace or self._api.namespace
        return str(meta["namespace"])

    def _change(self, path: str, document: dict[str, Any], current: dict[str, Any]) -> tuple[Answer, str]:
        last = orjson.loads((current["metadata"].get("annotations") or {}).get(LAST_APPLIED) or "{}")
        patch = three_way(last, document, current)
        if not patch:
            return Answer(current), "unchanged"
        answer = self._send("PATCH", path, patch, MERGE_PATCH)
        same = answer.document["metadata"].get("resourceVersion") == current["metadata"].get(
            "resourceVersion"
        )
        return answer, "unchanged" if same and not self._query["dryRun"] else "configured"

    def _send(self, method: str, path: str, body: dict[str, Any], media: str = "application/json") -> Answer:
        return self._api.send(method, path, body=body, media=media, query=self._query)


def _remember(document: dict[str, Any]) -> None:
    """Keep the manifest in the annotation, as kubectl does."""
    annotations = document["metadata"].get("annotations") or {}
    annotations.pop(LAST_APPLIED, None)
    document["metadata"]["annotations"] = annotations
    annotations[LAST_APPLIED] = orjson.dumps(document).decode() + "\n"
