"""The Kubernetes-shaped API as a Starlette application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from penstock.host.api import discovery, openapi
from penstock.host.api.body import read_object
from penstock.host.api.guard import Guard
from penstock.host.api.logs import NoLogs, PodLogs
from penstock.host.api.resources import ResourceApi
from penstock.host.api.status import error_response, json_response
from penstock.host.api.streams import MAX_STREAMS, Streams
from penstock.host.api.target import Target, no_such_path, parse_target
from penstock.host.api.tokens import TokenApi
from penstock.host.api.usage import NoUsages, UsageApi
from penstock.host.metrics.readings import Usages
from penstock.host.objects import ObjectStore
from penstock.kit.errors import Internal, PlatformError

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
Endpoint = Callable[[Request], Awaitable[Response]]
Metrics = Callable[[], Awaitable[bytes]]
"""Metrics in Prometheus' text format."""


def build_api(
    objects: ObjectStore,
    *,
    token: str,
    pepper: bytes,
    version: str,
    logs: PodLogs | None = None,
    usages: Usages | None = None,
    devices: Metrics | None = None,
    hosts: tuple[str, ...] = (),
    max_streams: int = MAX_STREAMS,
) -> Starlette:
    """An ASGI application over `objects`.

    `token` is the bearer token that every request but health and version must carry; `hosts` are names besides the loopback
    ones under which it may be addressed; `usages` is what `kubectl top` shows, `devices` what /metrics tells of GPUs; `pepper` keys the hashes of API keys; `version` is Penstock's own. Before a server stops it calls `app.state.streams.close()`,
    which ends watches and followed logs, so that it need not wait for them.
    """
    streams = Streams(max_streams)
    resources = ResourceApi(objects, logs or NoLogs(), streams, TokenApi(objects, pepper))

    async def answer(request: Request) -> Response:
        target: Target | None = None
        try:
            target = parse_target(request.url.path)
            return await resources.answer(request, target)
        except PlatformError as error:
            return error_response(error, target)

    app = Starlette(
        routes=[
            *(Route(path, _health) for path in ("/healthz", "/livez", "/readyz")),
            Route("/metrics", _metrics(devices)),
            Route("/version", _reads(lambda: discovery.version_info(version))),
            Route("/api", _core),
            Route("/apis", _groups),
            Route("/api/{version}", _reads(lambda version: discovery.resource_list("", version))),
            Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _review, methods=["POST"]),
            Route("/apis/{group}", _reads(discovery.api_group)),
            Route("/apis/{group}/{version}", _reads(discovery.resource_list)),
            *UsageApi(objects, usages or NoUsages()).routes(),
            Route("/openapi/v2", _openapi_v2),
            Route("/openapi/v3", _reads(openapi.index)),
            Route("/openapi/v3/{path:path}", _reads(openapi.document_of)),
            Route("/api/{rest:path}", answer, methods=METHODS),
            Route("/apis/{rest:path}", answer, methods=METHODS),
        ],
        middleware=[Middleware(Guard, token=token, hosts=hosts)],
        exception_handlers={404: _not_found, PlatformError: _platform_error, Exception: _our_fault},
    )
    app.state.streams = streams
    return app


def _reads(make: Callable[..., Any]) -> Endpoint:
    """An endpoint that answers what `make` makes of the parts of the path."""

    async def endpoint(request: Request) -> Response:
        try:
            return json_response(make(**request.path_params))
        except PlatformError as error:
            return error_response(error)

    return endpoint


async def _openapi_v2(request: Request) -> Response:
    if "protobuf" in request.headers.get("accept", ""):
        return Response(openapi.EMPTY_V2, media_type=openapi.PROTOBUF_V2)
    return json_response(openapi.document_v2())


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


def _metrics(devices: Metrics | None) -> Endpoint:
    """The process's own metrics, then the devices'."""

    async def endpoint(request: Request) -> Response:
        told = await devices() if devices is not None else b""
        return Response(generate_latest() + told, media_type=CONTENT_TYPE_LATEST)

    return endpoint


async def _core(request: Request) -> Response:
    return _discovered(request, core=True)


async def _groups(request: Request) -> Response:
    return _discovered(request, core=False)


def _discovered(request: Request, *, core: bool) -> Response:
    """Plain or aggregated discovery, whichever the client prefers."""
    if discovery.wants_aggregated(request.headers.get("accept", "")):
        response = json_response(discovery.aggregated(core))
        response.headers["Content-Type"] = discovery.AGGREGATED
        return response
    return json_response(discovery.api_versions() if core else discovery.api_group_list())


async def _review(request: Request) -> Response:
    """`kubectl auth can-i`: the token's holder may do everything."""
    try:
        review = await read_object(request)
    except PlatformError as error:
        return error_response(error)
    return json_response(
        {**review, "status": {"allowed": True, "reason": "the token grants everything"}}, 201
    )


async def _not_found(request: Request, error: Exception) -> Response:
    return error_response(no_such_path(request.url.path))


async def _platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)
    return error_response(error)


async def _our_fault(request: Request, error: Exception) -> Response:
    """What is not foreseen: the client learns that it is our fault, the log (by re-raising) everything else."""
    return error_response(Internal("Internal error occurred", hint="the control plane's log says more"))
