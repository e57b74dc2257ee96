"""Run by tests: the API over a store in memory, on a free loopback port, until standard input closes.

Writes a kubeconfig into the folder given as argument, then prints the port. Pods' logs are three lines of their own,
and they all use the same.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from penstock.contracts.controller import Key
from penstock.decide.usage import Usage
from penstock.host.api.app import build_api
from penstock.host.api.certificate import ensure_certificate
from penstock.host.api.kubeconfig import ensure_token, write_kubeconfig
from penstock.host.api.server import serve_api
from penstock.host.garbage import GarbageCollector, uids
from penstock.host.namespaces import NamespaceController
from penstock.resources.core import Namespace
from penstock.resources.pod import Pod
from penstock.resources.scheme import KINDS
from penstock.testing.factories import disk_cluster


class Idle:
    """Every container uses a quarter of a core and 100 MiB."""

    def of(self, pod: Pod) -> dict[str, Usage]:
        amounts = {"cpu": 0.25, "memory": float(100 << 20)}
        return {container.name: Usage(time.time(), 15, amounts) for container in pod.spec.containers}


class ThreeLines:
    async def open_log(
        self, pod: Pod, container: str, *, follow: bool, tail_lines: int | None, **_: Any
    ) -> AsyncIterator[bytes]:
        lines = [f"{pod.metadata.name}/{container} line {index}\n".encode() for index in range(3)]
        for line in lines[-tail_lines:] if tail_lines is not None else lines:
            yield line
        if follow:
            await asyncio.sleep(0.2)
            yield b"and one more\n"


async def main() -> None:
    home = Path(sys.argv[1])
    cluster = disk_cluster(home / "store.sqlite")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    token = ensure_token(home / "token")
    certificate = ensure_certificate(home, now_s=time.time())
    server_url = f"https://127.0.0.1:{port}"
    write_kubeconfig(home / "kubeconfig", server=server_url, token=token, certificate=certificate.certificate)
    app = build_api(
        cluster.objects, token=token, pepper=bytes(32), version="0", logs=ThreeLines(), usages=Idle()
    )
    stop = asyncio.Event()
    serving = asyncio.create_task(serve_api(app, listener, stop, certificate=certificate))
    collecting = asyncio.create_task(collect(cluster))
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    await serving
    collecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await collecting
    cluster.objects.store.close()


async def collect(cluster: Any) -> None:
    """Stands for the manager: garbage collection and namespaces, every 50 ms over everything."""
    garbage, namespaces = GarbageCollector(cluster.objects), NamespaceController(cluster.objects)
    seen: set[Key] = set()
    while True:
        for kind in KINDS:
            for obj in (await cluster.list(kind.type)).items:
                seen.update(uids(obj))
        for key in tuple(seen):
            await garbage.reconcile(key)
        for namespace in (await cluster.list(Namespace)).items:
            await namespaces.reconcile(Key("", namespace.metadata.name))
        await asyncio.sleep(0.05)


asyncio.run(main())
