"""Canaries under a policy on a running platform: real processes, real requests through the gateway, nobody who watches."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from platform_process import Platform, running_platform, service, until

from plain_http import PATIENT

pytestmark = pytest.mark.timeout(300)
ENGINE = Path(__file__).parent / "failing_engine.py"
POLICY = {
    "penstock.dev/rollout-steps": "30,60",
    "penstock.dev/rollout-wait": "6s",
    "penstock.dev/rollout-min-requests": "30",
}
ROLLOUT_WITHIN_S = 120.0


def wish(
    name: str,
    failure_rate: float,
    delay_s: float = 0.0,
    *,
    cpu: str = "10m",
    engine: Path = ENGINE,
    policy: dict[str, str] = POLICY,
) -> str:
    container = {
        "name": "kserve-container",
        "image": "example",
        "command": [sys.executable, str(engine), str(failure_rate), str(delay_s)],
        "resources": {"requests": {"cpu": cpu, "memory": "64Mi"}, "limits": {"cpu": cpu, "memory": "512Mi"}},
    }
    return json.dumps(
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": policy},
            "spec": {"predictor": {"containers": [container]}},
        }
    )


class Requests:
    """A prediction, or a chat, every 20 ms from each of two callers, until the block ends; `seen` counts the answers by status."""

    def __init__(self, platform: Platform, name: str, *, chat: bool = False) -> None:
        self._url = f"{platform.url}/serving/default/{name}/v1/models/{name}:predict"
        self._body: dict[str, Any] = {"instances": [1]}
        if chat:
            self._url = f"{platform.url}/v1/chat/completions"
            turn = {"role": "user", "content": "What is Penstock?"}
            self._body = {"model": name, "messages": [turn], "max_tokens": 4}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        self.seen: Counter[int] = Counter()
        self.said: set[str] = set()

    def __enter__(self) -> Requests:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(**(PATIENT | {"timeout": 120})) as client:
            while not self._stop.wait(0.02):
                answer = client.post(self._url, json=self._body)
                self.seen[answer.status_code] += 1
                if answer.status_code != 200:
                    self.said.add(answer.text)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("home"), "--no-quickstart") as platform:
        yield platform


def apply(platform: Platform, document: str) -> None:
    platform.kubectl("apply", "-f", "-", stdin=document)


def rollout(platform: Platform, name: str) -> dict[str, Any]:
    done = platform.kubectl("get", "rollout", f"{name}-predictor", "-o", "json", check=False)
    status: dict[str, Any] = json.loads(done.stdout).get("status", {}) if done.returncode == 0 else {}
    return status


def phase(platform: Platform, name: str, wanted: str, revision: str) -> dict[str, Any]:
    def reached() -> dict[str, Any]:
        status = rollout(platform, name)
        about = revision in (status.get("canary"), status.get("stable"))
        return status if status.get("phase") == wanted and about else {}

    status: dict[str, Any] = until(f"{name} is {wanted}", reached, ROLLOUT_WITHIN_S)
    return status


def shares(platform: Platform, name: str) -> dict[str, int]:
    [service] = [s for s in platform.objects("isvc") if s["metadata"]["name"] == name]
    traffic = service["status"]["components"]["predictor"]["traffic"]
    return {target["revisionName"][-1]: target["percent"] for target in traffic}


def test_a_canary_that_fails_on_purpose_is_rolled_back_without_a_human(platform: Platform) -> None:
    apply(platform, wish("bad", 0.0))
    platform.wait_ready("bad")
    with Requests(platform, "bad") as requests:
        apply(platform, wish("bad", 0.5))
        status = phase(platform, "bad", "RolledBack", "bad-predictor-00002")
        until("the stable one has everything", lambda: shares(platform, "bad") == {"1": 100})
    print(f"\n{status['message']}\nanswers: {dict(requests.seen)}")
    assert status["evidence"][0]["closed"]
    assert any("RolledBack" in e["reason"] for e in platform.objects("events"))
    watched = platform.penstock("rollout", "status", "bad", "--watch")
    assert watched.returncode == 1
    assert "RolledBack" in watched.stdout


def test_a_canary_that_is_slow_is_rolled_back_and_a_good_one_promoted(platform: Platform) -> None:
    apply(platform, wish("slow", 0.0, 0.01))
    platform.wait_ready("slow")
    with Requests(platform, "slow") as requests:
        apply(platform, wish("slow", 0.0, 0.15))
        status = phase(platform, "slow", "RolledBack", "slow-predictor-00002")
        print(f"\n{status['message']}")
        assert "ttft" in status["message"]
        apply(platform, wish("slow", 0.0, 0.011))
        status = phase(platform, "slow", "Promoted", "slow-predictor-00003")
        until("the new one has everything", lambda: shares(platform, "slow") == {"3": 100})
        print(f"{status['message']}\nanswers: {dict(requests.seen)}")
    assert set(requests.seen) == {200}, "nobody saw an error while versions changed"
    undone = platform.penstock("rollout", "undo", "slow", "--to-revision", "1")
    assert undone.returncode == 0, undone.stderr
    until("the first has everything again", lambda: shares(platform, "slow") == {"1": 100})


def test_a_real_engine_takes_over_from_another_and_never_for_long_from_what_fails(platform: Platform) -> None:
    def engine(*args: str) -> str:
        document = json.loads(service("chat"))
        document["metadata"]["annotations"] = POLICY
        document["spec"]["predictor"]["model"]["args"] = list(args)
        return json.dumps(document)

    apply(platform, engine())
    platform.wait_ready("chat", 60)
    with Requests(platform, "chat", chat=True) as requests:
        apply(platform, wish("chat", 0.7))
        status = phase(platform, "chat", "RolledBack", "chat-predictor-00002")
        print(f"\n{status['message']}")
        until("the gateway follows", lambda: nothing_fails(requests))
        before = requests.seen[500]
        apply(platform, engine("--max_num_seqs=4"))
        status = phase(platform, "chat", "Promoted", "chat-predictor-00003")
        until("the new engine has everything", lambda: shares(platform, "chat") == {"3": 100})
        print(f"{status['decisions'][-1]['reasons'][0]}\nanswers: {dict(requests.seen)}")
        assert requests.seen[500] - before <= 2, (
            "nothing goes to what was rolled back, but what was under way"
        )


def test_where_there_is_room_for_one_the_old_one_sleeps_and_no_request_is_lost(platform: Platform) -> None:
    """Two thirds of the machine's cores stand for its only device."""
    [node] = platform.objects("nodes")
    most = f"{int(float(node['status']['allocatable']['cpu']) * 1000 * 2 / 3)}m"
    apply(platform, wish("one", 0.0, cpu=most, policy={}))
    platform.wait_ready("one")
    with Requests(platform, "one") as requests:
        apply(platform, wish("one", 0.0, 0.001, cpu=most, policy={}))
        until("the new one has everything", lambda: shares(platform, "one") == {"2": 100}, 90)
        apply(platform, wish("one", 0.0, 0.002, cpu=most, engine=Path("there-is-no-such-file"), policy={}))
        until("it failed", lambda: "HandoverFailed" in events(platform), 120)
        until("the one before answers", lambda: requests_go_on(requests), 60)
        assert shares(platform, "one") == {"2": 100}
    print(f"\n{[m for r, m in told(platform) if r.startswith('Handover')]}\nanswers: {dict(requests.seen)}")
    assert set(requests.seen) == {200}, f"those that came meanwhile waited: {requests.said}"


def told(platform: Platform) -> list[tuple[str, str]]:
    return [(event["reason"], event["message"]) for event in platform.objects("events")]


def events(platform: Platform) -> set[str]:
    return {reason for reason, _ in told(platform)}


def nothing_fails(requests: Requests) -> bool:
    """Of the next forty, of which some do while a third goes to what fails."""
    failed, answered = requests.seen[500], requests.seen[200]
    until("requests are answered", lambda: requests.seen[500] > failed or requests.seen[200] > answered + 40)
    return requests.seen[500] == failed


def requests_go_on(requests: Requests) -> bool:
    before = requests.seen[200]
    time.sleep(0.5)
    return requests.seen[200] > before
