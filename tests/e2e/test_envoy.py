"""The endpoint picker behind a real Envoy: what the Gateway API Inference Extension's endpoint picker protocol asks of both, case by case.

Each test is a row of the table: `pytest tests/e2e/test_envoy.py -v` prints it. The configuration is that of docs/howto/envoy.md, once with
both bodies streamed, once with the request's buffered, and once with a cluster that takes the address from the header.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from envoy_world import BY, HINTED_BY, MODEL, SUBSET, Engines, World, running_engines, running_world
from platform_process import running_platform, until

from plain_http import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
SHARED = "what many prompts have in common, "
LONG_TOKENS = 6000
KINDS = {
    "streamed": ("FULL_DUPLEX_STREAMED", "override_host"),
    "buffered": ("BUFFERED", "override_host"),
    "by-header": ("FULL_DUPLEX_STREAMED", "ORIGINAL_DST"),
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    with running_engines(tmp_path_factory.mktemp("engines")) as engines:
        yield engines


@pytest.fixture(scope="module", params=list(KINDS))
def world(
    request: pytest.FixtureRequest, engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("envoy"), engines, *KINDS[request.param]) as world:
        yield world


def served_by(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers[BY]


def shed(world: World) -> httpx.Response | None:
    answer = world.ask("y" * 400)
    return answer if answer.status_code == 429 else None


@pytest.mark.conformance("prefix")
def test_prompts_that_begin_alike_go_to_one_endpoint_and_find_their_cache(world: World) -> None:
    answers = [world.ask(SHARED * 100 + f"and {number}") for number in range(5)]
    assert len({served_by(answer) for answer in answers}) == 1
    cached = [answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers]
    assert cached[0] == 0
    assert all(count > 500 for count in cached[1:])


@pytest.mark.conformance("prefix", "whole-pool")
def test_prompts_that_have_nothing_in_common_are_spread(world: World) -> None:
    with ThreadPoolExecutor(9) as threads:
        served = set(threads.map(lambda n: served_by(world.ask(f"{n} " * 2000, max_tokens=20)), range(9)))
    assert served == set(world.addresses)


@pytest.mark.conformance("subset")
@pytest.mark.parametrize("header", [SUBSET, HINTED_BY])
@pytest.mark.parametrize("number", range(3))
def test_only_the_subset_is_picked_from(world: World, number: int, header: str) -> None:
    only = world.addresses[number]
    assert served_by(world.ask("any", {header: only})) == only


@pytest.mark.conformance("subset-empty")
@pytest.mark.parametrize("header", [SUBSET, HINTED_BY])
def test_a_subset_without_a_ready_endpoint_is_503(world: World, header: str) -> None:
    answer = world.ask("any", {header: "127.0.0.1:1"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_endpoint"


@pytest.mark.conformance("whole-pool")
def test_a_caller_cannot_choose_the_endpoint_itself(world: World) -> None:
    answer = world.ask("any", {"x-gateway-destination-endpoint": "127.0.0.1:1"})
    assert served_by(answer) in world.addresses


@pytest.mark.conformance("shed", "dropped-reason")
def test_a_request_that_is_shed_is_429_with_a_reason_and_when_to_come_again(world: World) -> None:
    def at_once() -> tuple[httpx.Response, list[int]] | None:
        """One that came while as many hung as can be, unless none did."""
        with ThreadPoolExecutor(9) as threads:
            prompts = [f"{number} {'x' * 4 * LONG_TOKENS}" for number in range(9)]
            hanging = {"x-penstock-fault": "delay=3"}
            running = [threads.submit(world.ask, prompt, hanging) for prompt in prompts]
            refused = None
            while refused is None and not all(one.done() for one in running):
                refused = shed(world)
            statuses = [one.result().status_code for one in running]
        return (refused, statuses) if refused is not None else None

    refused, statuses = until("one comes while the pool is full", at_once)
    assert refused.headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert statuses.count(200) >= 6
    until("it is taken again", lambda: world.ask("y" * 400).status_code == 200)


@pytest.mark.conformance("identity")
def test_the_openai_client_is_told_of_refusals_in_its_own_words(world: World) -> None:
    with world.client() as client, pytest.raises(openai.InternalServerError) as caught:
        client.completions.create(model=MODEL, prompt="x", extra_headers={SUBSET: "127.0.0.1:1"})
    assert caught.value.status_code == 503
    assert caught.value.code == "no_endpoint"


@pytest.mark.conformance("streaming", "identity")
def test_a_stream_comes_token_by_token_and_only_with_what_was_asked_for(world: World) -> None:
    with world.client() as client:

        def one_by_one() -> list[Any]:
            """The chunks, unless all had come before the first was read, as when the reader stood still."""
            stream = client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "count"}], max_tokens=100, stream=True
            )
            times, chunks = [], []
            for chunk in stream:
                times.append(time.monotonic())
                chunks.append(chunk)
            assert len(chunks) >= 60
            return chunks if times[-1] - times[0] > 0.1 else []

        chunks = until("they come one by one", one_by_one)
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.conformance("identity")
def test_usage_that_the_caller_asks_for_comes(world: World) -> None:
    with world.client() as client:
        chunks = list(
            client.completions.create(
                model=MODEL,
                prompt="count",
                max_tokens=3,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 3


@pytest.mark.conformance("ext-proc")
def test_a_long_prompt_arrives_whole(world: World) -> None:
    prompt = "0123456789abcdef" * 12_000
    answer = world.ask(prompt)
    assert served_by(answer) in world.addresses
    assert answer.json()["usage"]["prompt_tokens"] >= len(prompt) // 4


@pytest.mark.conformance("gone")
def test_a_caller_that_goes_ends_the_request_in_the_engine(world: World) -> None:
    body = {"model": MODEL, "prompt": "go on", "max_tokens": 5000, "stream": True}
    with (
        httpx.Client(**PATIENT) as client,
        client.stream("POST", f"{world.url}/v1/completions", json=body) as answer,
    ):
        served = answer.headers[BY]
        pieces = answer.iter_raw()
        next(pieces)
        assert world.running(served) == 1
        pieces.close()
    until("the engine has stopped", lambda: world.running(served) == 0, within_s=20)


@pytest.mark.conformance("identity")
def test_what_the_engine_refuses_passes_as_it_is(world: World) -> None:
    answer = world.ask("x", max_tokens=-1)
    assert answer.status_code == 400
    assert "max_tokens" in answer.text


@pytest.mark.conformance("ext-proc")
def test_a_request_without_a_body_goes_to_any_endpoint(world: World) -> None:
    answer = httpx.get(f"{world.url}/v1/models", **PATIENT)
    assert answer.status_code == 200
    assert answer.json()["data"][0]["id"] == MODEL


@pytest.mark.conformance("identity")
def test_what_is_answered_is_the_engines_own(world: World) -> None:
    body = {"model": MODEL, "prompt": "same", "max_tokens": 5, "seed": 1, "temperature": 0}
    direct = httpx.post(f"http://{world.addresses[0]}/v1/completions", json=body, **PATIENT)
    through = world.ask("same", {SUBSET: world.addresses[0]}, max_tokens=5, seed=1, temperature=0)
    ours, theirs = (json.loads(one.content) for one in (through, direct))
    assert ours["choices"] == theirs["choices"]
    assert ours.keys() == theirs.keys()


@pytest.mark.conformance("fallbacks", "served")
def test_a_dead_endpoint_is_passed_over_for_the_next_in_the_list(tmp_path: Path) -> None:
    with running_engines(tmp_path) as engines, running_world(tmp_path, engines) as world:
        prompt = SHARED * 100
        home = served_by(world.ask(prompt))
        assert served_by(world.ask(prompt)) == home
        engines[home].kill()
        engines[home].wait()
        others = [served_by(world.ask(f"{prompt} again {number}")) for number in range(6)]
        assert home not in others
        retried = world.statistic("cluster.engines.upstream_rq_retry")
        assert 1 <= retried <= 5, "it is set aside after it has failed some"


@pytest.mark.conformance("failure-mode")
@pytest.mark.parametrize("mode", ["FULL_DUPLEX_STREAMED", "BUFFERED"])
@pytest.mark.parametrize("fails_open", [False, True])
def test_without_a_picker_the_failure_mode_decides(
    engines: Engines, tmp_path: Path, mode: str, fails_open: bool
) -> None:
    with running_world(tmp_path, engines, mode, fails_open=fails_open) as world:
        assert world.picker is not None
        world.picker.terminate()
        assert world.picker.wait(30) == 0
        answers = [world.ask("any") for _ in range(6)]
        assert not any(BY in answer.headers for answer in answers)
        refused = [answer.status_code for answer in answers if answer.status_code != 200]
        assert set(refused) <= {500, 503, 504}
        if not fails_open:
            assert len(refused) == 6
        elif mode == "BUFFERED":
            assert refused == []
        else:
            until(
                "only those are refused whose body was on its way",
                lambda: world.ask("any").status_code == 200,
            )
        world.start_picker()
        until("the new picker is asked", lambda: BY in world.ask("any").headers)


@pytest.mark.conformance("no-endpoint", "models")
def test_a_service_of_the_platform_wakes_for_a_request_that_comes_through_envoy(tmp_path: Path) -> None:
    model = {
        "modelFormat": {"name": "simulated"},
        "runtime": "penstock-sim",
        "args": ["--time-scale=20"],
    }
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "pretend"},
        "spec": {"predictor": {"minReplicas": 0, "model": model}},
    }
    with (
        running_platform(tmp_path / "home", "--no-quickstart") as platform,
        running_world(tmp_path, {}, cluster="ORIGINAL_DST", home=platform.home) as world,
    ):
        applied = platform.penstock("apply", "-f", "-", stdin=json.dumps(service))
        assert applied.returncode == 0, applied.stderr
        until("the picker knows the service", lambda: world.ask("x", model="pretend").status_code != 404)
        answer = world.ask("x", model="pretend")
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "pretend"
        assert served_by(answer).startswith("pretend-")
        assert world.ask("x", model="other").status_code == 404
