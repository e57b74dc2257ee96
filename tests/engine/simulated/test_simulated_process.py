"""The simulated engine as a process: OpenAI's client, a raw ZMQ subscriber, and its faults."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import msgspec
import openai
import pytest
import zmq
from sim_process import sim_process

from free_ports import free_port
from plain_http import PLAIN

PROMPT = "a prompt whose blocks of sixteen tokens of four bytes each are full, four of them or so; " * 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("sim") / "log"
    with sim_process(log, "--allow-faults", "--max-loras=2") as client:
        yield client


@pytest.fixture
def client(engine: httpx.Client) -> Iterator[openai.OpenAI]:
    http = httpx.Client(**PLAIN)
    with openai.OpenAI(base_url=f"{engine.base_url}/v1", api_key="-", http_client=http, max_retries=0) as one:
        yield one


def metric(engine: httpx.Client, name: str) -> float:
    found = re.findall(rf"^vllm:{name}(?:{{.*}})? (\S+)$", engine.get("/metrics").text, re.M)
    assert found, f"no series vllm:{name}"
    return sum(map(float, found))


def ask(engine: httpx.Client, fault: str = "", **fields: object) -> httpx.Response:
    headers = {"x-penstock-fault": fault} if fault else {}
    body = {"model": "sim", "prompt": "hello", "max_tokens": 2, **fields}
    return engine.post("/v1/completions", json=body, headers=headers)


def test_openais_client_is_answered_with_the_tokens_it_asked_for(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="sim", messages=[{"role": "user", "content": "hello"}], max_completion_tokens=7
    )
    assert answer.usage
    assert answer.usage.completion_tokens == 7
    assert len((answer.choices[0].message.content or "").split()) == 7
    assert [model.id for model in client.models.list()] == ["sim"]


def test_a_stream_brings_the_same_words(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="sim", prompt="same words", max_tokens=9)
    stream = client.completions.create(
        model="sim", prompt="same words", max_tokens=9, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 9


def test_the_next_turn_finds_the_last_one_with_its_answer(
    client: openai.OpenAI, engine: httpx.Client
) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    queries, hits = metric(engine, "prefix_cache_queries_total"), metric(engine, "prefix_cache_hits_total")
    first = client.chat.completions.create(model="sim", messages=messages, max_tokens=64)  # type: ignore[call-overload]
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "and then?"},
    ]
    second = client.chat.completions.create(model="sim", messages=messages, max_tokens=2)  # type: ignore[call-overload]
    found = second.usage.prompt_tokens_details.cached_tokens
    computed = first.usage.total_tokens - 1
    assert found == computed // 16 * 16
    assert metric(engine, "prefix_cache_hits_total") - hits == found
    asked = first.usage.prompt_tokens + second.usage.prompt_tokens
    assert metric(engine, "prefix_cache_queries_total") - queries == asked


def test_what_vllm_says_of_itself_is_there(engine: httpx.Client) -> None:
    text = engine.get("/metrics").text
    assert 'vllm:cache_config_info{block_size="16",model_name="sim",num_gpu_blocks="28562"} 1.0' in text
    wait_until(lambda: metric(engine, "num_requests_running") == metric(engine, "num_requests_waiting") == 0)
    tokens = engine.post("/tokenize", json={"model": "sim", "prompt": "12345"}).json()
    assert tokens["count"] == 2


def test_an_adapter_is_a_model_until_it_is_unloaded(engine: httpx.Client) -> None:
    assert ask(engine, model="poet").status_code == 404
    assert engine.post("/v1/load_lora_adapter", json={"lora_name": "poet", "lora_path": "/x"}).is_success
    assert ask(engine, model="poet", prompt=PROMPT).json()["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 0
    }
    again = ask(engine, model="poet", prompt=PROMPT).json()["usage"]["prompt_tokens_details"]
    assert again["cached_tokens"] > 0
    assert [model["id"] for model in engine.get("/v1/models").json()["data"]] == ["sim", "poet"]
    assert 'max_lora="2"' in engine.get("/metrics").text
    assert engine.post("/v1/unload_lora_adapter", json={"lora_name": "poet"}).is_success
    assert ask(engine, model="poet").status_code == 404


@pytest.mark.parametrize(
    ("fault", "status"), [("refuse", 503), ("error", 500), ("delay=0.01", 200), ("cute=1", 400)]
)
def test_a_fault_on_demand(engine: httpx.Client, fault: str, status: int) -> None:
    answer = ask(engine, fault)
    assert answer.status_code == status
    if status == 400:
        assert "did you mean cut?" in answer.text
    assert ask(engine).status_code == 200, "the next one is whole again"


def test_a_stream_is_cut_after_so_many_events(engine: httpx.Client) -> None:
    seen = []
    with (
        pytest.raises(httpx.TransportError),
        engine.stream(
            "POST",
            "/v1/completions",
            json={"model": "sim", "prompt": "hello", "max_tokens": 400, "stream": True},
            headers={"x-penstock-fault": "cut=2"},
        ) as answer,
    ):
        seen += [line for line in answer.iter_lines() if line.startswith("data:")]
    with pytest.raises(httpx.TransportError):
        ask(engine, "cut")
    assert metric(engine, "num_requests_running") in (0, 1)
    assert ask(engine).status_code == 200


def test_a_request_that_hangs_ends_when_its_client_does(engine: httpx.Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        engine.post(
            "/v1/completions",
            json={"model": "sim", "prompt": "x"},
            headers={"x-penstock-fault": "hang"},
            timeout=0.2,
        )
    assert ask(engine).status_code == 200


def test_a_prompt_computed_by_one_engine_goes_on_at_another(engine: httpx.Client, tmp_path: Path) -> None:
    given: dict[str, object] = {}
    prompt = ""

    def hand_over() -> None:
        nonlocal given, prompt
        prompt = f"{time.monotonic():010.3f}" + "handed over " * 2000
        asked = {"do_remote_decode": True, "do_remote_prefill": False}
        given = ask(engine, prompt=prompt, max_tokens=1, kv_transfer_params=asked).json()[
            "kv_transfer_params"
        ]
        assert (given["do_remote_prefill"], len(given["remote_block_ids"])) == (True, 376)

    def is_kept() -> bool:
        """A second later it is not."""
        hand_over()
        return metric(engine, "kv_cache_usage_perc") == pytest.approx(376 / 28562)

    wait_until(is_kept)
    with sim_process(tmp_path / "log", "--time-scale=1") as other:

        def is_quicker() -> bool:
            """6,000 tokens take 0.4 s to compute."""
            hand_over()
            alone = ask(other, prompt="x" + prompt, max_tokens=1).elapsed.total_seconds()
            answer = ask(other, prompt=prompt, max_tokens=2, kv_transfer_params=given)
            assert answer.json()["usage"]["completion_tokens"] == 2
            return answer.elapsed.total_seconds() < alone / 2

        wait_until(is_quicker)
    wait_until(lambda: metric(engine, "kv_cache_usage_perc") == 0)
    del given["remote_port"]
    refused = ask(engine, kv_transfer_params=given)
    assert (refused.status_code, "kv_transfer_params.remote_port" in refused.text) == (400, True)


def wait_until(true: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def test_a_forgotten_cache_finds_nothing(engine: httpx.Client) -> None:
    prompt = "forget me, though I am long enough to be cached, " * 4
    ask(engine, prompt=prompt)
    assert ask(engine, prompt=prompt).json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert ask(engine, "forget", prompt=prompt).json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_faults_by_option_happen_to_their_share_and_none_on_demand(tmp_path: Path) -> None:
    with sim_process(tmp_path / "log", "--fault=error:1") as engine:
        assert ask(engine).status_code == 500
        refused = ask(engine, "delay=1")
        assert (refused.status_code, "--allow-faults" in refused.text) == (400, True)


def test_what_never_fits_is_refused_and_the_longest_that_fits_is_answered(tmp_path: Path) -> None:
    with sim_process(tmp_path / "log", "--kv-blocks=10", "--block-size=24") as engine:
        assert ask(engine, prompt="x" * 4 * 223, max_tokens=2).status_code == 400
        assert ask(engine, prompt="x" * 4 * 222, max_tokens=2).json()["usage"]["total_tokens"] == 224


def test_kv_events_say_what_became_cached_and_a_replay_what_was_lost(tmp_path: Path) -> None:
    live, again = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    context = zmq.Context.instance()
    options = (
        f"--kv_events_endpoint={live}",
        f"--kv_events_replay_endpoint={again}",
        "--kv_events_topic=kv@x",
    )
    subscriber, question = context.socket(zmq.SUB), context.socket(zmq.DEALER)
    try:
        with sim_process(tmp_path / "log", "--allow-faults", "--block-size=8", *options) as engine:
            subscriber.setsockopt(zmq.SUBSCRIBE, b"kv@")
            subscriber.connect(live)
            turn = 0
            while not subscriber.poll(50):  # a subscription needs a moment
                ask(engine, prompt=f"{turn:04} warm up, with as many bytes as a block has, or more")
                turn += 1
            topic, number, payload = subscriber.recv_multipart()
            (name, hashes, parent, tokens, size, lora, medium), *_ = msgspec.msgpack.decode(payload)[1]
            assert (topic, name, parent, size, lora, medium) == (b"kv@x", "BlockStored", None, 8, None, "GPU")
            assert len(tokens) == 8 * len(hashes)
            last = int.from_bytes(number, "big")
            ask(engine, "drop-events=1", prompt="lost " * 40)
            ask(engine, prompt="not lost " * 40)
            assert subscriber.poll(30_000)
            while (number := int.from_bytes(subscriber.recv_multipart()[1], "big")) == last + 1:
                last = number
                assert subscriber.poll(30_000), "what came after the lost one"
            assert number == last + 2
            question.connect(again)
            question.send_multipart([b"", (last + 1).to_bytes(8, "big")])
            assert question.poll(30_000)
            assert int.from_bytes(question.recv_multipart()[1], "big") == last + 1
    finally:
        subscriber.close(0)
        question.close(0)
