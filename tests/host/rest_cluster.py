"""A `Cluster` over the REST API, and the API on a loopback port: so that one suite proves both."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import msgspec
import orjson

from penstock.contracts.cluster import Change, Listing, Preconditions
from penstock.host.api.app import build_api
from penstock.host.api.server import serve_api
from penstock.kit import errors
from penstock.kit.errors import Cause, PlatformError
from penstock.resources.scheme import kind_of
from plain_http import PLAIN

TOKEN = "test-token"
PEPPER = b"p" * 32
ERRORS = {
    kind.reason: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PlatformError) and kind is not PlatformError
}


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind a real server on a free loopback port, and a client that may do everything."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    stop = asyncio.Event()
    task = asyncio.create_task(serve_api(app, listener, stop, certificate=None))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, **PLAIN
        ) as client:
            yield client
    finally:
        stop.set()
        await task
        listener.close()


def api(cluster: Any, **options: Any) -> Any:
    return build_api(cluster.objects, token=TOKEN, pepper=PEPPER, version="0", **options)


class RestCluster:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, kind: Any, name: str, namespace: str = "") -> Any:
        return msgspec.convert(await self._ask("GET", path(kind, namespace, name)), kind, strict=False)

    async def list(
        self,
        kind: Any,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        owner: str = "",
    ) -> Any:
        query = {"labelSelector": labels, "fieldSelector": fields}
        found = await self._ask("GET", path(kind, namespace), query=query)
        items = tuple(msgspec.convert(item, kind, strict=False) for item in found["items"])
        kept = tuple(item for item in items if owner in ("", *_controllers(item)))
        return Listing(kept, found["metadata"]["resourceVersion"])

    async def watch(
        self, kind: Any, namespace: str | None = None, *, since: str, labels: str = "", fields: str = ""
    ) -> AsyncIterator[Any]:
        query = {"watch": "true", "resourceVersion": since, "labelSelector": labels, "fieldSelector": fields}
        async with self.client.stream("GET", path(kind, namespace), params=query) as response:
            async for line in response.aiter_lines():
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise error_of(event["object"])
                yield Change(event["type"], msgspec.convert(event["object"], kind, strict=False))

    async def create(self, obj: Any, *, dry_run: bool = False) -> Any:
        url = path(type(obj), obj.metadata.namespace)
        return await self._write("POST", url, type(obj), msgspec.to_builtins(obj), dry_run)

    async def replace(self, obj: Any, *, subresource: str = "", dry_run: bool = False) -> Any:
        url = path(type(obj), obj.metadata.namespace, obj.metadata.name, subresource)
        return await self._write("PUT", url, type(obj), msgspec.to_builtins(obj), dry_run)

    async def patch(
        self,
        kind: Any,
        name: str,
        namespace: str,
        patch: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Any:
        media = "merge-patch" if isinstance(patch, Mapping) else "json-patch"
        url = path(kind, namespace, name, subresource)
        if subresource != "scale":
            return await self._write("PATCH", url, kind, patch, dry_run, f"application/{media}+json")
        await self._ask(
            "PATCH", url, patch, {"dryRun": "All"} if dry_run else {}, f"application/{media}+json"
        )
        return await self.get(kind, name, namespace)

    async def delete(
        self,
        kind: Any,
        name: str,
        namespace: str = "",
        *,
        propagation: str = "Background",
        grace_period_s: int | None = None,
        preconditions: Preconditions | None = None,
    ) -> None:
        wanted = preconditions or Preconditions()
        body = {
            "propagationPolicy": propagation,
            "gracePeriodSeconds": grace_period_s,
            "preconditions": {"uid": wanted.uid, "resourceVersion": wanted.resource_version},
        }
        await self._ask("DELETE", path(kind, namespace, name), body)

    async def _write(
        self, method: str, url: str, kind: Any, body: Any, dry_run: bool, media: str = "application/json"
    ) -> Any:
        answer = await self._ask(method, url, body, {"dryRun": "All"} if dry_run else {}, media)
        return msgspec.convert(answer, kind, strict=False)

    async def _ask(
        self,
        method: str,
        url: str,
        body: Any = None,
        query: dict[str, str] | None = None,
        media: str = "application/json",
    ) -> Any:
        content = None if body is None else orjson.dumps(body)
        response = await self.client.request(
            method, url, params=query, content=content, headers={"Content-Type": media}
        )
        answer = response.json()
        if response.status_code >= 400:
            assert answer["code"] == response.status_code
            raise error_of(answer)
        return answer


def _controllers(item: Any) -> list[str]:
    return [owner.uid for owner in item.metadata.owner_references if owner.controller]


def path(kind: Any, namespace: str | None, name: str = "", subresource: str = "") -> str:
    found = kind_of(kind)
    root = f"/apis/{found.api_version}" if "/" in found.api_version else f"/api/{found.api_version}"
    scope = f"/namespaces/{namespace}" if namespace and found.namespaced else ""
    tail = "".join(f"/{part}" for part in (name, subresource) if part)
    return f"{root}{scope}/{found.plural}{tail}"


def error_of(status: dict[str, Any]) -> PlatformError:
    causes = status.get("details", {}).get("causes", [])
    return ERRORS[status["reason"]](
        status["message"],
        causes=tuple(Cause(cause["field"], cause["message"], cause["reason"]) for cause in causes),
    )
