"""A process that hosts a kubelet, to be killed by a test: `crash_host.py HOME POD_JSON`.

Its cluster lives in HOME/store.sqlite. It creates the pod if it is not there, and prints the pod's status, one JSON
document a line, whenever it changes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Events, Mirror  # noqa: E402 - found through the line above

from penstock.contracts.controller import key_of  # noqa: E402
from penstock.host.kubelet.kubelet import Kubelet  # noqa: E402
from penstock.kit.clock import SystemClock  # noqa: E402
from penstock.kit.errors import AlreadyExists  # noqa: E402
from penstock.resources.pod import Pod  # noqa: E402
from penstock.testing.factories import disk_cluster  # noqa: E402


async def main(home: Path, wanted: Pod) -> None:
    home.mkdir(parents=True, exist_ok=True)
    cluster, mirror = disk_cluster(home / "store.sqlite"), Mirror()
    try:
        await cluster.create(wanted)
    except AlreadyExists:
        pass
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
