"""The verbs on resources: get, list, watch, create, update, patch, delete, and their subresources."""

from __future__ import annotations

import base64
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.host.api.body import JSON, flag, media_type, number, read_body, read_object
from penstock.host.api.logs import PodLogs, pod_log
from penstock.host.api.patching import APPLY, patch_of
from penstock.host.api.status import json_response, success
from penstock.host.api.streams import WATCH_S, Streams, WatchStream
from penstock.host.api.table import View, view_of
from penstock.host.api.target import Target, no_such_path
from penstock.host.api.tokens import TokenApi
from penstock.host.deletion import DeleteOptions
from penstock.host.metadata import Document
from penstock.host.objects import Objects, ObjectStore, Stored
from penstock.host.scale import scale_of
from penstock.host.selection import Selection
from penstock.host.watching import ObjectWatch
from penstock.kit.errors import Cause, Expired, Invalid, InvalidInput, PlatformError

PROPAGATIONS = ("Background", "Foreground", "Orphan")
VALIDATIONS = ("", "Ignore", "Warn", "Strict")


class ResourceApi:
    """Requests about objects, answered from one object store."""

    def __init__(self, objects: ObjectStore, logs: PodLogs, streams: Streams, tokens: TokenApi) -> None:
        self._objects = objects
        self._tokens = tokens
        self._logs = logs
        self._streams = streams

    async def answer(self, request: Request, target: Target) -> Response:
        """Do what the method asks for; a change is on disk before it is answered."""
        response = await self._answer(request, target)
        if request.method != "GET":
            await self._objects.store.durable()
        return response

    async def _answer(self, request: Request, target: Target) -> Response:
        method = request.method
        if target.subresource == "log" and target.kind.kind == "Pod" and method == "GET":
            return await pod_log(request, target, self._objects, self._logs, self._streams)
        if target.subresource == "token" and target.kind.kind == "ApiKey":
            return await self._tokens.answer(request, target)
        if target.subresource and target.subresource not in target.kind.subresources:
            raise no_such_path(request.url.path)
        if method == "GET":
            if target.name:
                return self._get(request, target)
            return self._watch(request, target) if flag(request, "watch") else self._list(request, target)
        if method == "POST" and not target.name:
            return await self._create(request, target)
        if method in ("PUT", "PATCH") and target.name:
            return await self._change(request, target)
        if method == "DELETE" and not target.subresource:
            return await (self._delete(request, target) if target.name else self._delete_all(request, target))
        return Response(status_code=405, headers={"Allow": "GET, POST, PUT, PATCH, DELETE"})

    def _get(self, request: Request, target: Target) -> Response:
        document = self._objects.get(target.kind, target.scope, target.name)
        return self._one(request, target, document)

    def _one(self, request: Request, target: Target, document: Document, status: int = 200) -> Response:
        if target.subresource == "scale":
            return json_response(scale_of(document), status)
        return json_response(_view(request, target).one(document, self._objects.clock.now()), status)

    def _list(self, request: Request, target: Target) -> Response:
        found = self._find(request, target)
        meta: Document = {"resourceVersion": found.resource_version}
        if found.more:
            meta["continue"] = _continue_token(found.resource_version, found.more)
        return json_response(_view(request, target).many(found.documents, meta, self._objects.clock.now()))

    def _find(self, request: Request, target: Target) -> Objects:
        """The page that the query asks for. A continued list keeps the version of its first page, so that a
        watch from there misses nothing that happened between the pages.
        """
        since = number(request, "resourceVersion") or 0
        if since > self._objects.store.version:
            raise Expired(f"too large resource version: {since}, current: {self._objects.store.version}")
        limit, token = number(request, "limit") or None, request.query_params.get("continue", "")
        version, after = _continued(token) if token else ("", ("", ""))
        found = self._objects.list(
            target.kind, target.namespace, selection=_selection(request), limit=limit, after=after
        )
        return Objects(found.documents, version or found.resource_version, found.more)

    def _watch(self, request: Request, target: Target) -> Response:
        self._streams.check()
        selection, since = _selection(request), request.query_params.get("resourceVersion", "")
        initial: tuple[Document, ...] = ()
        marked = flag(request, "sendInitialEvents")
        if since in ("", "0") or marked:
            found = self._objects.list(target.kind, target.namespace, selection=selection)
            initial, since = found.documents, found.resource_version
        watch: ObjectWatch | PlatformError
        try:
            watch = self._objects.watch(target.kind, target.namespace, since=since, selection=selection)
        except Expired as error:
            watch = error
        stream = WatchStream(
            self._objects,
            self._streams,
            _view(request, target),
            timeout_s=number(request, "timeoutSeconds") or WATCH_S,
            bookmarks=flag(request, "allowWatchBookmarks"),
        )
        lines = stream.lines(watch, initial, mark_initial=since if marked else "")
        return StreamingResponse(lines, media_type=JSON)

    async def _create(self, request: Request, target: Target) -> Response:
        document = await read_object(request)
        namespace = target.scope
        if target.kind.namespaced and target.namespace is None:
            namespace = (document.get("metadata") or {}).get("namespace") or ""
        stored = self._objects.create(
            target.kind, namespace, document, strict=_is_strict(request), dry_run=_is_dry_run(request)
        )
        return _warned(request, self._one(request, target, stored.document, 201), stored)

    async def _apply(self, request: Request, target: Target) -> Response:
        manager = request.query_params.get("fieldManager", "")
        if not manager:
            problem = "Required value: is required for apply patch"
            raise Invalid(
                f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {problem}',
                causes=(Cause("fieldManager", problem, "FieldValueRequired"),),
            )
        stored, is_new = self._objects.apply(
            target.kind,
            target.scope,
            target.name,
            await read_object(request),
            manager=manager,
            force=flag(request, "force"),
            strict=_is_strict(request),
            dry_run=_is_dry_run(request),
        )
        return _warned(request, self._one(request, target, stored.document, 201 if is_new else 200), stored)

    async def _change(self, request: Request, target: Target) -> Response:
        if request.method == "PATCH" and media_type(request) == APPLY and not target.subresource:
            return await self._apply(request, target)
        if request.method == "PATCH":
            change = patch_of(target.kind, media_type(request), await read_body(request))
        else:
            document = await read_object(request)

            def change(current: Document) -> Document:
                return document

        stored = self._objects.change(
            target.kind,
            target.scope,
            target.name,
            change,
            subresource=target.subresource,
            strict=_is_strict(request),
            dry_run=_is_dry_run(request),
        )
        return _warned(request, self._one(request, target, stored.document), stored)

    async def _delete(self, request: Request, target: Target) -> Response:
        options, dry_run = await _delete_options(request)
        document, gone = self._objects.delete(
            target.kind, target.scope, target.name, options, dry_run=dry_run
        )
        if not gone:
            return self._one(request, target, document)
        return json_response(success(target, target.name, document["metadata"]["uid"]))

    async def _delete_all(self, request: Request, target: Target) -> Response:
        options, dry_run = await _delete_options(request)
        found = self._find(request, target)
        deleted = []
        for document in found.documents:
            meta = document["metadata"]
            last, _ = self._objects.delete(
                target.kind, meta.get("namespace", ""), meta["name"], options, dry_run=dry_run
            )
            deleted.append(last)
        meta = {"resourceVersion": str(self._objects.store.version)}
        return json_response(_view(request, target).many(deleted, meta, self._objects.clock.now()))


def _view(request: Request, target: Target) -> View:
    return view_of(
        target.kind, request.headers.get("accept", ""), request.query_params.get("includeObject", "")
    )


def _selection(request: Request) -> Selection:
    query = request.query_params
    return Selection.parse(query.get("labelSelector", ""), query.get("fieldSelector", ""))


def _is_strict(request: Request) -> bool:
    validation = request.query_params.get("fieldValidation", "")
    if validation not in VALIDATIONS:
        problem = f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        raise Invalid(f"fieldValidation: {problem}")
    return validation == "Strict"


def _is_dry_run(request: Request, body: Document | None = None) -> bool:
    asked = request.query_params.getlist("dryRun") or list((body or {}).get("dryRun") or ())
    if asked and asked != ["All"]:
        raise Invalid(f'dryRun: Unsupported value: "{",".join(asked)}": supported values: "All"')
    return bool(asked)


def _warned(request: Request, response: Response, stored: Stored) -> Response:
    """The response with its warnings as headers (RFC 7234), unless the client ignores them."""
    if request.query_params.get("fieldValidation") != "Ignore":
        for warning in stored.warnings:
            text = warning.replace("\\", "\\\\").replace('"', '\\"')
            ascii_text = text.encode("ascii", "replace").decode()
            response.headers.append("Warning", f'299 - "{ascii_text}"')
    return response


async def _delete_options(request: Request) -> tuple[DeleteOptions, bool]:
    """From the DeleteOptions body, else from the query; and whether it is a dry run."""
    given = await read_object(request)
    query = request.query_params
    propagation: Any = given.get("propagationPolicy") or query.get("propagationPolicy")
    orphan = given.get("orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    if propagation is not None and propagation not in PROPAGATIONS:
        raise Invalid(
            f'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "{propagation}":'
            f" supported values: {', '.join(PROPAGATIONS)}"
        )
    grace_s = given.get("gracePeriodSeconds", number(request, "gracePeriodSeconds"))
    if grace_s is not None and not isinstance(grace_s, int):
        raise InvalidInput(f"gracePeriodSeconds: found {grace_s!r}, expected an integer")
    wanted = given.get("preconditions") or {}
    options = DeleteOptions(propagation, grace_s, wanted.get("uid"), wanted.get("resourceVersion"))
    return options, _is_dry_run(request, given)


def _continue_token(version: str, after: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([version, *after])).decode()


def _continued(token: str) -> tuple[str, tuple[str, str]]:
    try:
        version, namespace, name = orjson.loads(base64.urlsafe_b64decode(token.encode()))
        return str(int(version)), (str(namespace), str(name))
    except (ValueError, TypeError) as error:
        raise InvalidInput("continue: this is not a token that a list returned") from error
