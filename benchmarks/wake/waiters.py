"""Many wait for one replica that starts: how long after it first says that it is ready is the last of them sent to it?

By the notes of the engine itself, a process of its own beside the gateway's and the control plane's (`counting_engine.py`). What its
one loop takes to read the requests counts too.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from pathlib import Path

import httpx
from benchmarks.wake import counting_engine
from benchmarks.wake.platform import LIMIT_S, WINDOW, Object, Platform, until

NAME = "waited-for"
WAITERS = 50
SERVICE: Object = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": NAME,
        "namespace": "default",
        "annotations": {
            "autoscaling.knative.dev/window": WINDOW,
            "autoscaling.knative.dev/initial-scale": "0",
        },
    },
    "spec": {
        "predictor": {
            "minReplicas": 0,
            "maxReplicas": 1,
            "containers": [
                {
                    "name": "kserve-container",
                    "image": "counting-engine",
                    "command": [sys.executable, str(Path(counting_engine.__file__).resolve())],
                    "ports": [{"containerPort": counting_engine.PORT}],
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": counting_engine.PORT},
                        "periodSeconds": 1,
                    },
                }
            ],
        }
    },
}


def last_sent_ms(platform: Platform) -> float:
    """From its first answer that it is ready to the last of those who waited, in milliseconds; it sleeps before and afterwards."""
    platform.sleep()
    notes = asyncio.run(_ask(platform))
    if len(notes["asked"]) != WAITERS:
        raise SystemExit(f"{len(notes['asked'])} requests came, {WAITERS} were made")
    return 1000 * float(max(notes["asked"]) - notes["ready"])


async def _ask(platform: Platform) -> Object:
    body = {"model": NAME, "messages": [{"role": "user", "content": "Are you there?"}]}
    limits = httpx.Limits(max_connections=WAITERS)
    async with httpx.AsyncClient(timeout=LIMIT_S, trust_env=False, limits=limits) as client:
        url = f"{platform.gateway_url}/v1/chat/completions"
        answers = await asyncio.gather(*(client.post(url, json=body) for _ in range(WAITERS)))
        failed = [answer.text for answer in answers if answer.status_code != 200]
        if failed:
            raise SystemExit(f"{len(failed)} of {WAITERS} failed: {failed[0][:200]}")
        address = platform.address(NAME)
        notes: Object = (await client.get(f"http://{address}:{counting_engine.PORT}/notes")).json()
    return notes


def measure(platform: Platform, repeats: int) -> list[float]:
    """Milliseconds of each time; the service is made here."""
    platform.apply(SERVICE)
    until("the service is routed", lambda: platform.knows(NAME))
    taken = [last_sent_ms(platform) for _ in range(repeats)]
    print(
        f"\n{WAITERS} waiters: the last was sent {statistics.median(taken):.0f} ms"
        f" ({min(taken):.0f} to {max(taken):.0f}) after the replica said that it is ready"
    )
    return taken
