"""Create or update objects from manifests."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import typer

from penstock.cli.api import APPLY_PATCH, Api, Document, connect
from penstock.cli.console import warn
from penstock.cli.manifests import Manifest, read
from penstock.cli.names import Resource, of_document
from penstock.cli.options import Context, Filenames, Kubeconfig, Namespace
from penstock.kit.errors import InvalidInput, NotFound, PlatformError
from penstock.resources.admission import admit

DRY_RUNS = ("none", "client", "server")
MANAGER = "penstock"
BOOKKEEPING = ("resourceVersion", "generation", "managedFields")


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
        self._query = {
            "fieldManager": MANAGER,
            "force": "true",
            "fieldValidation": "Strict" if strict else "Warn",
            "dryRun": "All" if dry_run else "",
        }
        self._suffix = " (server dry run)" if dry_run else ""

    def apply(self, manifest: Manifest) -> None:
        """Create it or change what differs, by server-side apply: fields that an earlier manifest had are removed again."""
        document = copy.deepcopy(manifest.document)
        resource = of_document(self._api, document.get("apiVersion", ""), document.get("kind", ""))
        meta = document.setdefault("metadata", {})
        name = meta.get("name")
        if not name:
            raise InvalidInput("metadata.name: found nothing, expected a name")
        namespace = self._place(resource, meta)
        path = resource.path(namespace, name)
        before = self._current(path)
        answer = self._api.send("PATCH", path, body=document, media=APPLY_PATCH, query=self._query)
        for warning in answer.warnings:
            warn(warning)
        same = before is not None and _content(before) == _content(answer.document)
        outcome = "created" if before is None else "unchanged" if same else "configured"
        print(f"{resource.title}/{name} {outcome}{self._suffix}")

    def _current(self, path: str) -> Document | None:
        try:
            return self._api.get(path)
        except NotFound:
            return None

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


def _content(document: Document) -> Document:
    """The object without what every write touches."""
    meta = {name: value for name, value in document["metadata"].items() if name not in BOOKKEEPING}
    return {**document, "metadata": meta}
