"""Services that are scaled by their requests, on a running platform: real engines, real requests, short windows.

Each test prints what its callers saw; `pytest -s` shows it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from load import Load
from platform_process import Platform, kill, running_platform, service, until

from plain_http import PATIENT

pytestmark = pytest.mark.timeout(180)
SCALE_WITHIN_S = 60.0
FLOOD = 200
WINDOW_S = 6.0
CLUSTER = {"scale-to-zero-grace-period": f"{WINDOW_S:g}s", "allow-zero-initial-scale": "true"}
DEAF = "import time; time.sleep(3600)"
"""A program that never listens."""
UNWILLING = (
    "import os; from http.server import *; "
    "HTTPServer((os.environ['POD_IP'], 8080), BaseHTTPRequestHandler).serve_forever()"
)
"""A program that listens, and answers GET with 501."""
LISTENS = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60}
ANSWERS = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
DEADLINE_S = 4.0
UNVERIFIED = ssl.create_default_context()
UNVERIFIED.check_hostname, UNVERIFIED.verify_mode = False, ssl.CERT_NONE


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("home"), "--no-quickstart") as platform:
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "config-autoscaler", "namespace": "knative-serving"},
            "data": CLUSTER,
        }
        platform.kubectl("create", "namespace", "knative-serving")
        apply(platform, config)
        yield platform


def apply(platform: Platform, document: dict[str, Any]) -> None:
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(document))


def scaled(
    name: str, *, most: int = 1, model: str = "", container: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Begins at zero; a replica for three requests at a time, `most` at most."""
    wish: dict[str, Any] = json.loads(service(name, replicas=0, model=model))
    if container:
        wish["spec"]["predictor"].pop("model")
        wish["spec"]["predictor"]["containers"] = [container]
    wish["metadata"]["annotations"] = {
        "autoscaling.knative.dev/window": f"{WINDOW_S:g}s",
        "autoscaling.knative.dev/initial-scale": "0",
        "autoscaling.knative.dev/target": "3",
        "autoscaling.knative.dev/max-scale": str(most),
    }
    return wish


def program(text: str, cpu: str = "10m", **probes: Any) -> dict[str, Any]:
    """A container that runs this."""
    return {
        "name": "kserve-container",
        "image": "example",
        "command": [sys.executable, "-c", text],
        "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}},
        **probes,
    }


@contextmanager
def applied(platform: Platform, *wishes: dict[str, Any]) -> Iterator[None]:
    """In force within the block, with their routes; gone afterwards."""
    names = [wish["metadata"]["name"] for wish in wishes]
    for wish in wishes:
        apply(platform, wish)
    for name in names:
        until(f"{name} has a deployment", lambda name=name: size(platform, name))
        until(f"{name} is routed", lambda name=name: name in models(platform))
    yield
    platform.kubectl("delete", "isvc", *names, "--wait=true", "--timeout=55s")


def asked(platform: Platform, path: str) -> dict[str, Any]:
    """What the API server says, without a process of its own; empty while it is away or knows of no such thing."""
    headers = {"Authorization": f"Bearer {platform.home.joinpath('token').read_text().strip()}"}
    url = f"https://127.0.0.1:{platform.api_port}{path}"
    with suppress(httpx.TransportError), httpx.Client(**(PATIENT | {"verify": UNVERIFIED})) as client:
        answer = client.get(url, headers=headers)
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return found
    return {}


def models(platform: Platform) -> set[str]:
    """What the gateway answers for, at zero replicas too."""
    return {model["id"] for model in httpx.get(f"{platform.url}/v1/models", **PATIENT).json()["data"]}


def size(platform: Platform, name: str) -> tuple[int, int] | None:
    """Replicas: asked for, ready; None where nobody can say."""
    found = asked(platform, f"/apis/apps/v1/namespaces/default/deployments/{name}-predictor-00001")
    return (found["spec"]["replicas"], found.get("status", {}).get("readyReplicas", 0)) if found else None


def pods(platform: Platform, name: str) -> list[dict[str, Any]]:
    selector = f"labelSelector=serving.kserve.io/inferenceservice={name}"
    found: list[dict[str, Any]] = asked(platform, f"/api/v1/namespaces/default/pods?{selector}")["items"]
    return found


def answered(platform: Platform, name: str) -> int:
    """Requests that this service's engines have ended, by their own count."""
    total = 0.0
    for pod in pods(platform, name):
        text = httpx.get(f"http://{pod['status']['podIP']}:8080/metrics", **PATIENT).text
        total += sum(float(n) for n in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.M))
    return round(total)


class Watch:
    """The sizes (asked for, ready) that a service has had, looked at a few times a second."""

    def __init__(self, platform: Platform, name: str) -> None:
        self._platform, self._name = platform, name
        self.sizes: list[tuple[int, int]] = []

    async def __aenter__(self) -> Watch:
        self._task = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _look(self) -> None:
        while True:
            seen = await asyncio.to_thread(size, self._platform, self._name)
            if seen and self.sizes[-1:] != [seen]:
                self.sizes.append(seen)
            await asyncio.sleep(0.1)

    async def until(self, what: str, true: Callable[[tuple[int, int]], bool]) -> float:
        """Seconds until a size was so."""
        began, seen = time.monotonic(), len(self.sizes)
        while not any(map(true, self.sizes[max(0, seen - 1) :])):
            assert time.monotonic() - began < SCALE_WITHIN_S, f"{what} was not reached: {self.sizes}"
            await asyncio.sleep(0.05)
        return time.monotonic() - began


async def ask(client: httpx.AsyncClient, name: str, number: int) -> httpx.Response:
    messages = [{"role": "user", "content": f"Tell me of the number {number}."}]
    body = {"model": name, "messages": messages, "max_tokens": 8}
    return await client.post("/v1/chat/completions", json=body)


def impatiently(platform: Platform, name: str, code: str) -> httpx.Response:
    """Asked with a deadline, again until what it waited for is this: each phase is reached and heard of in its own time."""
    return until(
        f"{name}: {code}", lambda: found if code in (found := _impatiently(platform, name)).text else None, 60
    )


def _impatiently(platform: Platform, name: str) -> httpx.Response:
    began = time.monotonic()
    body = {"model": name, "messages": [{"role": "user", "content": "Are you there?"}]}
    headers = {"x-request-timeout-ms": f"{1000 * DEADLINE_S:g}"}
    url = f"{platform.url}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, **PATIENT)
    assert DEADLINE_S <= time.monotonic() - began < DEADLINE_S + 20, "at the deadline"
    return answer


async def test_two_hundred_that_come_at_zero_are_each_answered_once(platform: Platform) -> None:
    with applied(platform, scaled("flood")):
        assert size(platform, "flood") == (0, 0)
        limits = httpx.Limits(max_connections=FLOOD)
        began = time.monotonic()
        async with httpx.AsyncClient(
            base_url=platform.url, limits=limits, **(PATIENT | {"timeout": 60})
        ) as client:
            first = asyncio.create_task(ask(client, "flood", 0))
            answers = await asyncio.gather(first, *(ask(client, "flood", n) for n in range(1, FLOOD)))
        print(f"\n{len(answers)} answered {time.monotonic() - began:.1f} s after they came at zero")
        assert Counter(answer.status_code for answer in answers) == {200: FLOOD}
        assert len({answer.json()["id"] for answer in answers}) == FLOOD
        until("the engine has counted them", lambda: answered(platform, "flood") >= FLOOD)
        assert answered(platform, "flood") == FLOOD, "as many as were asked, by the engine's own count"
        assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods(platform, "flood")] == [
            0
        ]


async def test_load_takes_it_from_one_to_four_and_back_to_zero_and_cuts_no_stream(platform: Platform) -> None:
    """Two of the four go while four callers stream; what they have begun, they bring to its end."""
    with applied(platform, scaled("wave", most=4)):
        assert (await asyncio.to_thread(platform.ask, "wave", max_tokens=4)).status_code == 200
        async with Watch(platform, "wave") as watch:
            async with Load(platform.url, "wave", clients=4, max_tokens=1200, endless=True) as few:
                async with Load(platform.url, "wave", clients=12, max_tokens=400, endless=True) as many:
                    up_s = await watch.until("four ready", lambda seen: seen == (4, 4))
                in_s = await watch.until("fewer", lambda seen: 0 < seen[0] < 4)
                await watch.until("fewer pods", lambda seen: 0 < seen[1] < 4)
            down_s = await watch.until("zero", lambda seen: seen == (0, 0))
        print(
            f"\nup to 4 in {up_s:.1f} s, fewer after {in_s:.1f} s, at 0 after {down_s:.1f} s: {watch.sizes}"
        )
        print(f"streams: {dict(many.outcomes)}; over the scale-in: {dict(few.outcomes)}")
        for load, least in ((many, 12), (few, 4)):
            assert load.failures() == {}, load.details
            assert load.outcomes["completed"] >= least
        until("no pod is left", lambda: not pods(platform, "wave"))


async def test_a_control_plane_that_dies_under_load_loses_no_replica(platform: Platform) -> None:
    with applied(platform, scaled("kept", most=3)):
        async with (
            Watch(platform, "kept") as watch,
            Load(platform.url, "kept", clients=12, max_tokens=400, endless=True) as load,
        ):
            await watch.until("three ready", lambda seen: seen == (3, 3))
            uids = {pod["metadata"]["uid"] for pod in await asyncio.to_thread(pods, platform, "kept")}
            killed = await asyncio.to_thread(platform.plane, "penstock.app.control_plane")
            await asyncio.to_thread(kill, [killed])
            await asyncio.to_thread(until, "the API is back", lambda: size(platform, "kept"))
            watch.sizes.clear()
            await asyncio.sleep(WINDOW_S + 2)
            await watch.until("a look", lambda seen: True)
            assert {seen[0] for seen in watch.sizes} == {3}, watch.sizes
        print(f"\nsizes afterwards: {watch.sizes}; streams: {dict(load.outcomes)}")
        assert load.failures() == {}, load.details
        assert {pod["metadata"]["uid"] for pod in pods(platform, "kept")} >= uids


def test_a_start_that_fails_is_told_at_the_deadline_by_its_phase(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers
        silent = f"http://127.0.0.1:{mute.getsockname()[1]}/model.tar"
        wishes = [
            scaled("placing", container=program(UNWILLING, cpu="1000")),
            scaled("downloading", model=silent),
            scaled("loading", container=program(DEAF, startupProbe=LISTENS)),
            scaled("warming", container=program(UNWILLING, startupProbe=LISTENS, readinessProbe=ANSWERS)),
        ]
        codes = {
            "placing": "not_placed_in_time",
            "downloading": "not_downloaded_in_time",
            "loading": "not_loaded_in_time",
            "warming": "not_warm_in_time",
        }
        with applied(platform, *wishes), ThreadPoolExecutor(len(codes)) as pool:
            asked_for = pool.map(lambda named: impatiently(platform, *named), codes.items())
            answers = dict(zip(codes, asked_for, strict=True))
    for name, answer in answers.items():
        print(
            f"\n{name}: {answer.status_code}, Retry-After {answer.headers.get('Retry-After')}, {answer.text}"
        )
    assert {answer.status_code for answer in answers.values()} == {503}
    assert {name: answer.json()["error"]["code"] for name, answer in answers.items()} == codes
    assert all(int(answer.headers["Retry-After"]) >= 5 for answer in answers.values())
