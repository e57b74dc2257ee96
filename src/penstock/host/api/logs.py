"""`GET /api/v1/namespaces/N/pods/P/log`: which container's log, how much of it, and whether to go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from penstock.host.api.body import flag, number
from penstock.host.api.streams import Streams
from penstock.host.api.target import Target
from penstock.host.objects import ObjectStore
from penstock.kit.errors import InvalidInput, Unavailable
from penstock.kit.timestamps import parse_rfc3339
from penstock.resources.pod import Pod

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


class PodLogs(Protocol):
    """Where the output of a pod's containers is. Raises NotFound, InvalidInput before the first byte."""

    def open_log(
        self,
        pod: Pod,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        since_s: float | None,
        timestamps: bool,
        previous: bool,
        limit_bytes: int | None,
    ) -> AsyncIterator[bytes]:
        """The log from `since_s` seconds ago, its last `tail_lines`; with `follow`, also what comes, until the pod is gone."""
        ...


async def pod_log(
    request: Request, target: Target, objects: ObjectStore, logs: PodLogs, streams: Streams
) -> Response:
    """The log as text, sent as it is read."""
    pod = msgspec.convert(objects.get(target.kind, target.scope, target.name), Pod)
    follow = flag(request, "follow")
    chunks = logs.open_log(
        pod,
        _container(pod, request.query_params.get("container", "")),
        follow=follow,
        tail_lines=number(request, "tailLines"),
        since_s=_since_s(request, objects.clock.now()),
        timestamps=flag(request, "timestamps"),
        previous=flag(request, "previous"),
        limit_bytes=number(request, "limitBytes"),
    )
    streams.check()
    if follow:
        return StreamingResponse(_counted(chunks, streams), media_type="text/plain")
    first = await anext(chunks, b"")
    return StreamingResponse(_counted(chunks, streams, first), media_type="text/plain")


async def _counted(
    chunks: AsyncIterator[bytes], streams: Streams, first: bytes = b""
) -> AsyncIterator[bytes]:
    with streams.admitted():
        if first:
            yield first
        async for chunk in chunks:
            yield chunk
            if streams.closed:
                return


def _container(pod: Pod, asked: str) -> str:
    """The container asked for, the only one, or the annotated default. Raises InvalidInput naming them."""
    meta = pod.metadata
    mains = [container.name for container in pod.spec.containers]
    inits = [container.name for container in pod.spec.init_containers]
    if not asked and len(mains) == 1:
        return mains[0]
    asked = asked or meta.annotations.get(DEFAULT_CONTAINER, "")
    if not asked:
        also = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
        raise InvalidInput(
            f"a container name must be specified for pod {meta.name}, choose one of: [{' '.join(mains)}]{also}"
        )
    if asked not in (*mains, *inits):
        raise InvalidInput(
            f"container {asked} is not valid for pod {meta.name}: it has {', '.join((*inits, *mains))}"
        )
    return asked


def _since_s(request: Request, now_s: float) -> float | None:
    seconds, time = number(request, "sinceSeconds"), request.query_params.get("sinceTime", "")
    if seconds is not None and time:
        raise InvalidInput("at most one of sinceTime or sinceSeconds may be specified")
    return max(0.0, now_s - parse_rfc3339(time)) if time else seconds


class NoLogs:
    """Stands where no kubelet runs, as on an API over a store alone."""

    def open_log(self, pod: Pod, container: str, **options: object) -> AsyncIterator[bytes]:
        """Raises Unavailable."""
        raise Unavailable("no kubelet runs here, so there are no logs")
