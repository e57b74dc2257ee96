"""`metrics.k8s.io/v1beta1`: what pods and nodes use, as `kubectl top` and Kubernetes' own autoscalers ask for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.decide.hpa_pods import lasting_containers
from penstock.decide.usage import STALE_S, Usage
from penstock.host.api.discovery import METRICS_GROUP, METRICS_VERSION
from penstock.host.api.status import error_response, json_response
from penstock.host.metadata import Document
from penstock.host.metrics.readings import Usages
from penstock.host.objects import ObjectStore
from penstock.host.selection import Selection
from penstock.kit.errors import NotFound, PlatformError
from penstock.kit.quantity import format_quantity
from penstock.kit.timestamps import rfc3339
from penstock.resources.core import Node
from penstock.resources.pod import Pod
from penstock.resources.scheme import kind_of

ROOT = f"/apis/{METRICS_GROUP}/{METRICS_VERSION}"
API_VERSION = f"{METRICS_GROUP}/{METRICS_VERSION}"


class NoUsages:
    """Where nothing is measured."""

    def of(self, pod: Pod) -> Mapping[str, Usage]:
        """Nothing."""
        return {}


class UsageApi:
    """Usage by pod; a node's is that of its pods, since declared nodes share one machine."""

    def __init__(self, objects: ObjectStore, usages: Usages) -> None:
        self._objects = objects
        self._usages = usages

    def routes(self) -> list[Route]:
        """To be tried before those of stored objects."""
        return [
            Route(f"{ROOT}/pods", _answering(self._pods)),
            Route(f"{ROOT}/namespaces/{{namespace}}/pods", _answering(self._pods)),
            Route(f"{ROOT}/namespaces/{{namespace}}/pods/{{name}}", _answering(self._pod)),
            Route(f"{ROOT}/nodes", _answering(self._nodes)),
            Route(f"{ROOT}/nodes/{{name}}", _answering(self._node)),
        ]

    def _pods(self, request: Request) -> Document:
        namespace = request.path_params.get("namespace")
        found = self._objects.list(kind_of(Pod), namespace, selection=_selection(request)).documents
        shown = (self._of_pod(document) for document in found)
        return _listed("PodMetrics", [document for document in shown if document is not None])

    def _pod(self, request: Request) -> Document:
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        shown = self._of_pod(self._objects.get(kind_of(Pod), namespace, name))
        if shown is None:
            raise NotFound(f'podmetrics.{METRICS_GROUP} "{namespace}/{name}" not found')
        return shown

    def _nodes(self, request: Request) -> Document:
        found = self._objects.list(kind_of(Node), None, selection=_selection(request)).documents
        usage = self._by_node()
        nodes = [self._of_node(document, usage) for document in found]
        return _listed("NodeMetrics", nodes)

    def _node(self, request: Request) -> Document:
        document = self._objects.get(kind_of(Node), "", request.path_params["name"])
        return self._of_node(document, self._by_node())

    def _of_pod(self, document: Document) -> Document | None:
        """None while any part of the pod is unknown: it would look smaller than it is."""
        pod = msgspec.convert(document, Pod)
        known = self._known(pod)
        wanted = [container.name for container in lasting_containers(pod)]
        if not wanted or any(name not in known for name in wanted):
            return None
        return {
            "kind": "PodMetrics",
            "apiVersion": API_VERSION,
            "metadata": _metadata(document),
            "timestamp": rfc3339(min(seen.at for seen in known.values())),
            "window": f"{max(seen.window_s for seen in known.values()):.3f}s",
            "containers": [{"name": name, "usage": _quantities(known[name].amounts)} for name in wanted],
        }

    def _of_node(self, document: Document, usage: Mapping[str, list[Usage]]) -> Document:
        seen = usage.get(document["metadata"]["name"], [])
        total = {name: sum(one.amounts.get(name, 0.0) for one in seen) for name in ("cpu", "memory")}
        now = self._objects.clock.now()
        return {
            "kind": "NodeMetrics",
            "apiVersion": API_VERSION,
            "metadata": _metadata(document),
            "timestamp": rfc3339(min((one.at for one in seen), default=now)),
            "window": f"{max((one.window_s for one in seen), default=0.0):.3f}s",
            "usage": _quantities(total),
        }

    def _by_node(self) -> dict[str, list[Usage]]:
        found: dict[str, list[Usage]] = {}
        for document in self._objects.list(kind_of(Pod), None).documents:
            pod = msgspec.convert(document, Pod)
            found.setdefault(pod.spec.node_name, []).extend(self._known(pod).values())
        return found

    def _known(self, pod: Pod) -> dict[str, Usage]:
        oldest = self._objects.clock.now() - STALE_S
        return {name: seen for name, seen in self._usages.of(pod).items() if seen.at >= oldest}


def _answering(make: Callable[[Request], Document]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return json_response(make(request))
        except PlatformError as error:
            return error_response(error)

    return endpoint


def _selection(request: Request) -> Selection:
    query = request.query_params
    return Selection.parse(query.get("labelSelector", ""), query.get("fieldSelector", ""))


def _listed(kind: str, items: list[Document]) -> Document:
    return {"kind": f"{kind}List", "apiVersion": API_VERSION, "metadata": {}, "items": items}


def _metadata(document: Document) -> Document:
    shown = ("name", "namespace", "creationTimestamp", "labels")
    return {field: document["metadata"][field] for field in shown if field in document["metadata"]}


def _quantities(amounts: Mapping[str, float]) -> dict[str, Any]:
    """CPU in billionths of a core, memory in KiB, as Kubernetes' metrics server writes them."""
    shown = {name: format_quantity(Decimal(repr(round(amount, 3)))) for name, amount in amounts.items()}
    if "cpu" in amounts:
        shown["cpu"] = f"{round(amounts['cpu'] * 1e9)}n"
    if "memory" in amounts:
        shown["memory"] = f"{int(amounts['memory']) >> 10}Ki"
    return shown
