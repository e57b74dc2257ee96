"""Processes are killed while twenty clients stream; nothing that was accepted is lost without a word.

Each test prints what the clients saw; `pytest -s` shows it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from load import Load
from platform_process import Platform, kill, running_platform, service, until

from plain_http import PATIENT

pytestmark = pytest.mark.timeout(180)
SELECTOR = "serving.kserve.io/inferenceservice=quickstart"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With two replicas of the quickstart service."""
    with running_platform(tmp_path_factory.mktemp("home")) as platform:
        platform.kubectl("apply", "-f", "-", stdin=service("quickstart", replicas=2))
        both_ready(platform)
        yield platform


def ready_pods(platform: Platform) -> dict[str, str]:
    """Names and uids of the pods that are ready."""
    return {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in platform.objects("pods", SELECTOR)
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
    }


def both_ready(platform: Platform) -> dict[str, str]:
    """The pods, once both are ready: one whose probe was late is not, for a moment."""
    found: dict[str, str] = until(
        "two replicas are ready", lambda: pods if len(pods := ready_pods(platform)) == 2 else None
    )
    return found


async def completed(load: Load, more_than: int) -> None:
    """Until so many streams have come to their end."""
    await asyncio.to_thread(
        until, f"more than {more_than} streams end well", lambda: load.outcomes["completed"] > more_than
    )


def restarts(platform: Platform) -> int:
    return sum(
        status["restartCount"]
        for pod in platform.objects("pods", SELECTOR)
        for status in pod["status"].get("containerStatuses", ())
    )


def engines(platform: Platform) -> list[psutil.Process]:
    """The engines' HTTP processes, each of which has a child with the pipeline."""
    return platform.children("penstock.engine")


def kill_while_it_answers(engine: psutil.Process) -> None:
    """The engine is faster than twenty clients in one process can read, so most of the time it has nothing to do."""
    address = engine.net_connections("tcp")[0].laddr
    with httpx.Client(base_url=f"http://{address.ip}:8080", **PATIENT) as client:

        def answers_several() -> bool:
            lines = client.get("/metrics").text.splitlines()
            running = next(line for line in lines if line.startswith("vllm:num_requests_running"))
            return float(running.split()[-1]) >= 3

        until("it answers several at once", answers_several)
    engine.kill()


async def test_a_killed_engine_cuts_only_its_own_streams_and_says_so_in_them(platform: Platform) -> None:
    async with Load(platform.url, max_tokens=1000, endless=True) as load:
        await asyncio.sleep(1)
        await asyncio.to_thread(kill_while_it_answers, engines(platform)[0])
        await asyncio.sleep(3)
        await completed(load, 20)
    print(f"\nengine killed: {dict(load.outcomes)}")
    assert 0 < load.outcomes["error_object"] <= 20, "the victim's streams end with an error object"
    assert set(load.failures()) == {"error_object"}, load.details
    both_ready(platform)


async def test_traffic_goes_on_without_the_control_plane_and_pods_are_adopted(platform: Platform) -> None:
    pods, before = both_ready(platform), restarts(platform)
    pids = {p.pid for p in engines(platform)}
    async with Load(platform.url) as load:
        await asyncio.sleep(0.5)
        platform.plane("penstock.app.control_plane").kill()
        await asyncio.sleep(3)
    print(f"\ncontrol plane killed: {dict(load.outcomes)}")
    assert load.failures() == {}, load.details
    until("the API is back", lambda: platform.kubectl("get", "isvc", check=False).returncode == 0)
    until("the two from before are ready", lambda: ready_pods(platform) == pods)
    assert restarts(platform) == before
    assert {p.pid for p in engines(platform)} == pids


async def test_a_killed_gateway_is_soon_back(platform: Platform) -> None:
    async with Load(platform.url) as load:
        await asyncio.sleep(0.5)
        platform.plane("penstock.app.gateway").kill()
        killed = time.monotonic()
        while (await asyncio.to_thread(_answers, platform)) is False:
            await asyncio.sleep(0.01)
        gone_s = time.monotonic() - killed
        await completed(load, 20)
    print(f"\ngateway killed: back after {gone_s:.2f} s, {dict(load.outcomes)}")
    assert gone_s < 20, "the aim is one second; a loaded machine gets some more here, the benchmark measures"
    assert set(load.failures()) <= {"cut", "refused"}, load.details
    assert load.outcomes["cut"] <= 20, "only the streams that were under way"


def _answers(platform: Platform) -> bool:
    try:
        return platform.ask(max_tokens=1).status_code == 200
    except Exception:  # noqa: BLE001  whatever it is, it is no answer
        return False


def test_everything_is_killed_and_the_next_start_finds_the_state_as_it_was(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home") as platform:
        platform.wait_ready("quickstart")
        platform.kubectl("create", "configmap", "kept", "--from-literal=answer=42")
        pods, pids = ready_pods(platform), {p.pid for p in engines(platform)}
        assert platform.process
        doomed = [
            psutil.Process(platform.process.pid),
            platform.plane("penstock.app.control_plane"),
            platform.plane("penstock.app.gateway"),
        ]
        kill(doomed)
        platform.process.wait()
        assert {p.pid for p in engines(platform)} == pids, "engines outlive the platform"
        platform.start()
        platform.wait_ready("quickstart")
        until("it answers", lambda: platform.ask().status_code == 200)
        until("the pod from before is ready", lambda: ready_pods(platform) == pods)
        assert {p.pid for p in engines(platform)} == pids, "adopted, not restarted"
        shown = platform.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.answer}")
        assert shown.stdout == "42"


def test_even_the_engines_are_killed_and_the_service_comes_back(tmp_path: Path) -> None:
    with running_platform(tmp_path / "home") as platform:
        platform.wait_ready("quickstart")
        assert platform.process
        first = psutil.Process(platform.process.pid)
        everyone = [first, *first.children(recursive=True), *engines(platform)]
        for engine in engines(platform):
            everyone += engine.parents()[:1] + engine.children(recursive=True)
        kill(p for p in everyone if p.pid > 1 and p != psutil.Process())
        platform.process.wait()
        platform.start()
        until("it answers", lambda: _answers(platform))


async def test_an_update_under_load_fails_no_request(platform: Platform) -> None:
    before = set(both_ready(platform))
    async with Load(platform.url) as load:
        await asyncio.sleep(0.5)
        change = '{"spec":{"predictor":{"model":{"args":["--max_num_seqs=32"]}}}}'
        await asyncio.to_thread(platform.kubectl, "patch", "isvc", "quickstart", "--type=merge", "-p", change)

        def has_taken_over() -> bool:
            now = set(ready_pods(platform))
            return len(now) == 2 and not now & before

        await asyncio.to_thread(until, "the new revision takes over", has_taken_over, 60)
        await completed(load, load.outcomes["completed"] + 20)
    print(f"\nupdated: {dict(load.outcomes)}")
    assert load.failures() == {}, load.details

    def traffic() -> str:
        path = "jsonpath={.status.components.predictor.traffic}"
        shown = platform.kubectl("get", "isvc", "quickstart", "-o", path).stdout
        return shown if '"percent":100' in shown else ""

    assert "quickstart-predictor-00002" in until("one revision has everything", traffic)
