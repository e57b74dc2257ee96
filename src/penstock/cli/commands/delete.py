"""Delete objects by name, label or manifest, and wait until they are gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated

import typer

from penstock.cli.api import Api, connect
from penstock.cli.manifests import read
from penstock.cli.names import Resource, of_document, parse_arguments
from penstock.cli.options import Context, Kubeconfig, Labels, Namespace
from penstock.kit.errors import DeadlineExceeded, InvalidInput, NotFound

POLL_S = 0.1


def run(
    what: Annotated[
        list[str] | None, typer.Argument(help="TYPE NAME… or TYPE/NAME…", show_default=False)
    ] = None,
    filename: Annotated[
        list[str] | None, typer.Option("--filename", "-f", help="Delete what these manifests name.")
    ] = None,
    selector: Labels = "",
    every: Annotated[bool, typer.Option("--all", help="All objects of the type in the namespace.")] = False,
    ignore_not_found: Annotated[
        bool, typer.Option("--ignore-not-found", help="What is gone already is no error.")
    ] = False,
    grace_period: Annotated[
        int | None, typer.Option(help="Seconds that pods get to end; 0 kills.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the objects are gone.")] = True,
    timeout: Annotated[float, typer.Option(help="Longest wait in seconds.")] = 120.0,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Owned objects go with their owners."""
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    targets = list(_named(api, what or [], filename or [], place, selector, every))
    query = {
        "gracePeriodSeconds": "" if grace_period is None else str(grace_period),
        "propagationPolicy": "Background",
    }
    sent = []
    for resource, space, name in targets:
        try:
            api.send("DELETE", resource.path(space, name), query=query)
        except NotFound:
            if not ignore_not_found:
                raise
            continue
        sent.append((resource, space, name))
        print(f'{resource.title} "{name}" deleted')
    if wait:
        _wait(api, sent, time.monotonic() + timeout)


def _named(
    api: Api, what: list[str], filenames: list[str], namespace: str, selector: str, every: bool
) -> Iterator[tuple[Resource, str, str]]:
    if filenames:
        for manifest in read(filenames):
            meta = manifest.document.get("metadata") or {}
            resource = of_document(
                api, manifest.document.get("apiVersion", ""), manifest.document.get("kind", "")
            )
            yield resource, meta.get("namespace") or namespace, meta.get("name", "")
        return
    for wanted in parse_arguments(api, what):
        if not wanted.names and not (selector or every):
            raise InvalidInput(
                f"found no name of a {wanted.resource.singular}, expected one",
                hint="or choose by -l LABELS, or --all",
            )
        names = wanted.names or tuple(
            item["metadata"]["name"]
            for item in api.get(wanted.resource.path(namespace), labelSelector=selector).get("items", ())
        )
        yield from ((wanted.resource, namespace, name) for name in names)


def _wait(api: Api, sent: list[tuple[Resource, str, str]], deadline: float) -> None:
    for resource, namespace, name in sent:
        while _exists(api, resource.path(namespace, name)):
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"{resource.title}/{name} is still there",
                    hint="`penstock describe` shows its finalizers and pods; --timeout waits longer",
                )
            time.sleep(POLL_S)


def _exists(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except NotFound:
        return False
    return True
