"""A small world for the kubelet: a cluster in memory, what feeds the kubelet from it, and pods to run in it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penstock.contracts.cluster import Cluster
from penstock.contracts.controller import key_of
from penstock.host.kubelet.attempts import attempts
from penstock.host.kubelet.kubelet import Kubelet
from penstock.host.kubelet.layout import Layout
from penstock.host.kubelet.logfile import Format
from penstock.kit.clock import SystemClock
from penstock.kit.errors import NotFound
from penstock.resources.meta import ObjectMeta, Resource
from penstock.resources.pod import Container, ContainerPort, ContainerStatus, Pod, PodSpec
from penstock.testing.factories import memory_cluster

NODE = "n1"
FOREVER = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.05; done"
SERVER = """
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.path != "/bad" and not os.path.exists("sick")
        if self.path == "/moved":
            self.send_response(302); self.send_header("Location", "/ok"); self.end_headers(); return
        self.send_response(200 if ok else 500); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.HTTPServer((os.environ["POD_IP"], int(sys.argv[1])), H).serve_forever()
"""


class Mirror:
    """A `Cache` that the feeding task below fills."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Resource] = {}

    def get(self, kind: type[Any], name: str, namespace: str = "") -> Any:
        return self.objects.get((kind.__name__, namespace, name))

    def list(self, kind: type[Any], namespace: str | None = None, *, labels: str = "") -> tuple[Any, ...]:
        return tuple(value for (name, _, _), value in self.objects.items() if name == kind.__name__)


class Events:
    """A `Recorder` that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def event(self, about: Resource, type: str, reason: str, message: str) -> None:
        self.seen.append((type, reason, message))

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.seen]


class World:
    """One cluster and one data folder, and the kubelet that is up at the moment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cluster: Cluster = memory_cluster()
        self.events = Events()
        self.clock = SystemClock()
        self.kubelet: Kubelet | None = None
        self._feeding: asyncio.Task[None] | None = None

    def at_once(self, argv: Sequence[str]) -> Sequence[str] | None:
        """What is done without a process: whatever echoes something that begins with `at once`."""
        return argv[1:] if argv[1:] and argv[1].startswith("at once") else None

    async def up(self) -> Kubelet:
        mirror = Mirror()
        self.kubelet = Kubelet(
            self.cluster,
            mirror,
            self.events,
            self.clock,
            home=self.home,
            nodes=frozenset({NODE}),
            at_once=self.at_once,
        )
        await self.kubelet.start()
        self._feeding = asyncio.ensure_future(self._feed(self.kubelet, mirror))
        return self.kubelet

    async def down(self, *, stop: bool = False) -> None:
        """Let go of the pods, or (`stop`) end them first; the cluster stays."""
        if self.kubelet:
            await (self.kubelet.stop_all() if stop else self.kubelet.close())
            self.kubelet = None
        if self._feeding:
            self._feeding.cancel()
            await asyncio.wait([self._feeding])
            self._feeding = None

    async def _feed(self, kubelet: Kubelet, mirror: Mirror) -> None:
        listing = await self.cluster.list(Pod)
        for pod in listing.items:
            mirror.objects["Pod", pod.metadata.namespace, pod.metadata.name] = pod
            await kubelet.reconcile(key_of(pod))
        async for change in self.cluster.watch(Pod, since=listing.resource_version):
            pod = change.object
            where = ("Pod", pod.metadata.namespace, pod.metadata.name)
            if change.type == "DELETED":
                mirror.objects.pop(where, None)
            else:
                mirror.objects[where] = pod
            await kubelet.reconcile(key_of(pod))

    async def create(self, name: str, *containers: Container, **spec: Any) -> Pod:
        meta = ObjectMeta(name=name, namespace="default", annotations=spec.pop("annotations", {}))
        defaults = {"node_name": NODE, "termination_grace_period_seconds": 5}
        return await self.cluster.create(
            Pod(metadata=meta, spec=PodSpec(containers=containers, **{**defaults, **spec}))
        )

    async def pod(self, name: str) -> Pod | None:
        try:
            return await self.cluster.get(Pod, name, "default")
        except NotFound:
            return None

    async def until(self, name: str, holds: Callable[[Pod], object], limit_s: float = 30.0) -> Pod:
        deadline = time.monotonic() + limit_s
        while True:
            pod = await self.pod(name)
            if pod is not None and holds(pod):
                return pod
            assert time.monotonic() < deadline, f"did not happen in time: {pod and pod.status}"
            await asyncio.sleep(0.02)

    async def gone(self, name: str, limit_s: float = 30.0) -> None:
        deadline = time.monotonic() + limit_s
        while await self.pod(name) is not None:
            assert time.monotonic() < deadline, "the pod is still there"
            await asyncio.sleep(0.02)

    def log(self, pod: Pod, container: str = "main") -> str:
        """The text of the container's newest attempt, without the end of its last line."""
        kept = attempts(Layout(self.home).pod(NODE, pod.metadata.uid).container(container))
        if not kept or not kept[-1].log.exists():
            return ""
        return Format().text(kept[-1].log.read_bytes()).decode().removesuffix("\n")

    async def until_logged(self, pod: Pod, text: str, container: str = "main", limit_s: float = 30.0) -> str:
        deadline = time.monotonic() + limit_s
        while text not in self.log(pod, container):
            assert time.monotonic() < deadline, f"never logged {text!r}: {self.log(pod, container)!r}"
            await asyncio.sleep(0.02)
        return self.log(pod, container)


def sh(script: str, name: str = "main", **fields: object) -> Container:
    return Container(name=name, command=("/bin/sh", "-c", script), **fields)  # type: ignore[arg-type]


def serve(port: int = 18080, **fields: object) -> Container:
    return Container(
        name="main",
        command=(sys.executable, "-c", SERVER, str(port)),
        ports=(ContainerPort(name="http", container_port=port),),
        **fields,  # type: ignore[arg-type]
    )


def condition(pod: Pod, type_: str) -> str:
    return next((each.status for each in pod.status.conditions if each.type == type_), "")


def is_ready(pod: Pod) -> bool:
    return condition(pod, "Ready") == "True"


def main_status(pod: Pod) -> ContainerStatus:
    return next(status for status in pod.status.container_statuses if status.name == "main")


def waiting_reason(pod: Pod) -> str:
    if not pod.status.container_statuses:
        return ""
    waiting = main_status(pod).state.waiting
    return waiting.reason if waiting else ""
