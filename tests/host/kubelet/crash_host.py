"""A process that hosts a kubelet, to be killed by a test: `crash_host.py HOME POD_JSON`.

Its cluster lives in HOME/store.sqlite. It creates the pod if it is not there, and prints the pod's status, one JSON
document a line, whenever it changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec
from kubelet_world import Events, Mirror

from penstock.contracts.controller import key_of
from penstock.host.kubelet.kubelet import Kubelet
from penstock.kit.clock import SystemClock
from penstock.kit.errors import AlreadyExists
from penstock.resources.pod import Pod
from penstock.testing.factories import disk_cluster


async def main(home: Path, wanted: Pod) -> None:
    home.mkdir(parents=True, exist_ok=True)
    cluster, mirror = disk_cluster(home / "store.sqlite"), Mirror()
    with contextlib.suppress(AlreadyExists):
        await cluster.create(wanted)
    nodes = frozenset({wanted.spec.node_name})
    kubelet = Kubelet(cluster, mirror, Events(), SystemClock(), home=home, nodes=nodes)
    await kubelet.start()
    listing = await cluster.list(Pod)
    changes = cluster.watch(Pod, since=listing.resource_version)
    pods = list(listing.items)
    while True:
        for pod in pods:
            mirror.objects["Pod", pod.metadata.namespace, pod.metadata.name] = pod
            await kubelet.reconcile(key_of(pod))
            document = {"uid": pod.metadata.uid, "status": pod.status}
            print(msgspec.json.encode(document).decode(), flush=True)
        pods = [(await anext(changes)).object]


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Pod)))
