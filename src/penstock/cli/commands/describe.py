"""Everything about an object: its fields, conditions, pods, and what happened to it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from penstock.cli.api import Api, Document, connect
from penstock.cli.commands.get import Getter
from penstock.cli.console import print_table, yaml_text
from penstock.cli.names import Resource, Wanted, of_kind, parse_arguments
from penstock.cli.options import Context, Kubeconfig, Labels, Namespace
from penstock.decide.workload import SERVICE_LABEL
from penstock.resources.core import Event
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of

PODS_OF = {"InferenceService": SERVICE_LABEL}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HIDDEN = ("managedFields", "uid", "resourceVersion", "selfLink")
CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")


def run(
    what: Annotated[list[str], typer.Argument(help="TYPE, TYPE NAME… or TYPE/NAME…", show_default=False)],
    selector: Labels = "",
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """For a person; scripts read `penstock get -o json`."""
    api = connect(kubeconfig, context)
    place = namespace or api.namespace
    first = True
    for wanted in parse_arguments(api, what):
        if wanted.names:
            documents = [api.get(wanted.resource.path(place, name)) for name in wanted.names]
        else:
            documents = api.get(wanted.resource.path(place), labelSelector=selector).get("items", [])
        for document in documents:
            if not first:
                print("\n")
            first = False
            describe(api, wanted.resource, document)


def describe(api: Api, resource: Resource, document: Document) -> None:
    """One object."""
    meta, status = document["metadata"], dict(document.get("status") or {})
    conditions = status.pop("conditions", ())
    print(f"{resource.kind} {meta['name']}" + (f" in {meta['namespace']}" if meta.get("namespace") else ""))
    _section("Metadata", _metadata(meta))
    for name, value in document.items():
        if name not in ("apiVersion", "kind", "metadata", "status"):
            _section(name[:1].upper() + name[1:], value)
    _section("Status", status)
    print_conditions(conditions)
    if resource.kind in PODS_OF:
        print_pods(api, meta["namespace"], f"{PODS_OF[resource.kind]}={meta['name']}")
    print_events(api, document)


def print_conditions(conditions: Any) -> None:
    """As a table."""
    if conditions:
        print("\nConditions:")
        print_table(CONDITION, [[condition.get(name, "") for name in CONDITION] for condition in conditions])


def print_pods(api: Api, namespace: str, labels: str) -> None:
    """The server's own columns for pods that match."""
    print("\nPods:")
    if not Getter(api, namespace, "wide", labels).show([Wanted(of_kind(kind_of(Pod)))]):
        print("  none")


def print_events(api: Api, document: Document) -> None:
    """What happened, oldest first; `Events: none` if nothing did."""
    events = events_about(api, document)
    print("\nEvents:" + ("" if events else " none"))
    if events:
        rows = [
            (
                e.get("lastTimestamp") or e.get("eventTime"),
                e.get("type"),
                e.get("reason"),
                e.get("count", 1),
                e.get("message"),
            )
            for e in events
        ]
        print_table(("last seen", "type", "reason", "count", "message"), rows)


def events_about(api: Api, document: Document) -> list[Document]:
    """The Events about an object, oldest first."""
    meta = document["metadata"]
    path = of_kind(kind_of(Event)).path(meta.get("namespace") or "default")
    items: list[Document] = api.get(path, fieldSelector=f"involvedObject.uid={meta['uid']}").get("items", [])
    return sorted(items, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")


def _metadata(meta: Document) -> Document:
    kept = {name: value for name, value in meta.items() if name not in (*HIDDEN, "name", "namespace")}
    annotations = {k: v for k, v in (kept.pop("annotations", None) or {}).items() if k != LAST_APPLIED}
    return {**kept, **({"annotations": annotations} if annotations else {})}


def _section(title: str, value: Any) -> None:
    if value not in (None, {}, [], ""):
        text = yaml_text(value).rstrip()
        print(f"{title}:\n" + "\n".join(f"  {line}" for line in text.splitlines()))
