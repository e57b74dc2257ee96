"""What the client makes of answers: whole, refused, broken off, late, or none at all."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from event_sources import certificate
from free_ports import free_port
from penstock.kit.clock import Clock
from penstock.kit.errors import DeadlineExceeded, InvalidInput, NotFound, Unauthorized, Unavailable
from penstock.testing.load.check import find_model, probe
from penstock.testing.load.client import Client
from penstock.testing.load.outcome import Outcome
from penstock.testing.load.player import Speech
from penstock.testing.load.stream import Stream
from penstock.testing.load.target import key_from, target_of
from penstock.testing.load.text import Writer

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: r-1\r\ntransfer-encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"delta":{"content":"w"}}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":'
    b'{"cached_tokens":4}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def plain(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


@asynccontextmanager
async def serving(
    script: Script, timeout_s: float = 30.0, key: str = "", clock: Clock | None = None
) -> AsyncIterator[Client]:
    """A server that says the same to every request, whatever it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = [
                    int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")
                ]
                await reader.readexactly(sum(length))
                await script(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Client(target_of("--url", f"http://127.0.0.1:{port}/v1", key), timeout_s, clock)
    try:
        yield client
    finally:
        client.close()
        server.close()
        await server.wait_closed()


def says(*parts: bytes, ends: bool = False) -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
        if ends:
            writer.close()

    return script


async def ask(script: Script, timeout_s: float = 30.0) -> Outcome:
    async with serving(script, timeout_s) as client:
        return await client.ask(
            "/v1/chat/completions", b"{}", asyncio.get_running_loop().time(), keeps_text=True
        )


class Steps:
    """Time that passes between what is said: a word is said when the one before it was taken."""

    def __init__(self) -> None:
        self.at = 100.0
        self.looks = 0

    def now(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        self.looks += 1
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("the client waits for answers only")


async def test_a_whole_answer_has_times_tokens_and_its_request_id() -> None:
    clock = Steps()

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(SSE + chunk(b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'))
        for pause_s in (1.0, 2.0, 4.0):
            clock.at += pause_s
            looks = clock.looks
            writer.write(chunk(WORD))
            while clock.looks == looks:
                await asyncio.sleep(0.001)
        clock.at += 8.0
        writer.write(chunk(USAGE) + chunk(DONE) + b"0\r\n\r\n")

    async with serving(script, clock=clock) as client:
        outcome = await client.ask("/v1/chat/completions", b"{}", clock.at, keeps_text=True)
    assert (outcome.error, outcome.status, outcome.text, outcome.request_id) == ("", 200, "www", "r-1")
    assert (outcome.prompt_tokens, outcome.cached_tokens, outcome.output_tokens) == (9, 4, 3)
    assert list(outcome.gaps_s) == [2.0, 4.0]
    assert (outcome.ttft_s, outcome.e2e_s) == (1.0, 15.0)


async def test_a_connection_is_used_again_and_replaced_once_where_it_was_closed_meanwhile() -> None:
    answers = 0

    async def script(writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        answers += 1
        if answers == 2:
            writer.close()
            return
        writer.write(SSE + chunk(WORD + DONE) + b"0\r\n\r\n")

    async with serving(script) as client:
        now = asyncio.get_running_loop().time()
        found = [(await client.ask("/v1/chat/completions", b"{}", now)).error for _ in range(3)]
    assert found == ["", "", ""]
    assert answers == 4


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (says(plain("429 Too Many Requests", b'{"error":{"message":"slow","code":"rate_limit_exceeded"}}')), "http 429 rate_limit_exceeded"),
        (says(plain("503 Service Unavailable", b"busy")), "http 503"),
        (says(plain("200 OK", b"{}")), "malformed"),
        (says(SSE + chunk(WORD), ends=True), "cut off"),
        (says(SSE + chunk(WORD) + b"0\r\n\r\n"), "cut off"),
        (says(SSE + chunk(b"data: {oops\n\n" + DONE) + b"0\r\n\r\n"), "malformed"),
        (says(SSE + chunk(DONE) + b"0\r\n\r\n"), "empty"),
        (says(SSE + chunk(WORD + b'data: {"error":{"message":"no","code":"engine_lost"}}\n\n') + b"0\r\n\r\n"), "in stream engine_lost"),
        (says(ends=True), "no answer"),
        (says(b"SSH-2.0-what\r\n", ends=True), "no answer"),
    ],
)  # fmt: skip
async def test_errors_have_kinds(script: Script, kind: str) -> None:
    assert (await ask(script)).error == kind


async def test_an_answer_that_does_not_come_times_out() -> None:
    outcome = await ask(says(SSE + chunk(WORD)), timeout_s=0.1)
    assert outcome.error == "timeout"
    assert 0.09 < outcome.e2e_s < 20


async def test_nobody_there_is_not_connected() -> None:
    client = Client(target_of("--url", f"http://127.0.0.1:{free_port()}"), 30.0)
    outcome = await client.ask("/", b"", 0.0)
    client.close()
    assert outcome.error == "not connected"


def test_a_stream_may_be_cut_anywhere() -> None:
    whole = WORD * 3 + USAGE + DONE
    for size in range(1, 40):
        stream = Stream(keeps_text=True)
        counted = sum(stream.feed(whole[at : at + size]) for at in range(0, len(whole), size))
        assert (counted, stream.text, stream.is_done) == (3, "www", True)


MODELS = plain("200 OK", b'{"data":[{"id":"qwen"},{"id":"llama"}]}')


async def test_a_wrong_model_is_answered_with_the_nearest_name_unless_it_answers() -> None:
    async with serving(says(MODELS)) as client:
        assert await find_model(client, "qwen") == ("qwen", None)
        model, doubt = await find_model(client, "quen")
        with pytest.raises(NotFound) as refused:
            await probe(client, Speech(model=model), Writer(), doubt)
        assert "did you mean qwen" in refused.value.hint
        with pytest.raises(InvalidInput, match="found 2 models"):
            await find_model(client, "")
    async with serving(says(SSE + chunk(WORD + DONE) + b"0\r\n\r\n")) as client:
        await probe(client, Speech(model=model), Writer(), doubt)


async def test_a_refused_key_is_said_with_where_to_put_one() -> None:
    async with serving(says(plain("401 Unauthorized", b"{}")), key="sk-secret") as client:
        with pytest.raises(Unauthorized) as refused:
            await find_model(client, "m")
    assert "PENSTOCK_API_KEY" in refused.value.hint
    assert "sk-secret" not in f"{refused.value} {client.target}"


async def test_a_server_that_is_down_or_silent_is_said_so() -> None:
    client = Client(target_of("--url", f"http://127.0.0.1:{free_port()}"), 30.0)
    with pytest.raises(Unavailable) as down:
        await find_model(client, "m")
    client.close()
    assert "penstock up" in down.value.hint
    async with serving(says(), timeout_s=0.05) as client:
        with pytest.raises(DeadlineExceeded):
            await find_model(client, "m")


async def test_a_request_that_is_not_taken_ends_the_bench_before_it_begins() -> None:
    refusal = plain("400 Bad Request", b'{"error":{"message":"unknown field ignore_eos"}}')
    async with serving(says(refusal)) as client:
        with pytest.raises(InvalidInput, match="unknown field ignore_eos") as refused:
            await probe(client, Speech(model="m"), Writer())
    assert "--no-ignore-eos" in refused.value.hint


async def test_a_server_with_https_is_asked_if_its_certificate_is_trusted(tmp_path: Path) -> None:
    made = certificate(tmp_path)
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(made.certificate, made.key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SSE + chunk(WORD + DONE) + b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ours)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    outcomes = []
    for trusted in (made.certificate, None):
        client = Client(target_of("--url", url, ca_file=trusted), 30.0)
        outcomes.append(await client.ask("/v1/chat/completions", b"", asyncio.get_running_loop().time()))
        client.close()
    server.close()
    await server.wait_closed()
    assert [one.error for one in outcomes] == ["", "not connected"]
    assert "not trusted" in outcomes[1].message


def test_urls_and_keys_are_checked() -> None:
    assert target_of("--url", "https://h/base/v1/").prefix == "/base"
    assert target_of("--url", "h:81").port == 81
    for url in ("ftp://h", "http://", "http://user:secret@h", "http://h:x"):
        with pytest.raises(InvalidInput) as refused:
            target_of("--url", url)
        assert "secret" not in refused.value.message
    with pytest.raises(InvalidInput, match="printable"):
        target_of("--url", "http://h", "a\r\nb: c")


def test_a_key_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1\nrest\n")
    assert key_from("--api-key-file", file) == "sk-1"
    file.write_text("")
    with pytest.raises(InvalidInput, match="found nothing"):
        key_from("--api-key-file", file)
    with pytest.raises(NotFound):
        key_from("--api-key-file", tmp_path / "none")
