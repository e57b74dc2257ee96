"""Who may is told how a request was routed: in a header, and afterwards by any worker; and recordings leave the gateway without words."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from gateway_world import Engine, Gateway, chunk, post, service, until
from routed_calls import call, end, prompt, router, send

from penstock.cli.commands.explain import run as explain
from penstock.cli.recording import record
from penstock.cli.requests import records_of
from penstock.contracts.exchange import KeyHash, KeyRoute, RouteTable, RoutingRoute
from penstock.gateway.explained import EXPLAINED, Explained
from penstock.gateway.peers import Peers
from penstock.kit.api_keys import keyed_hash
from penstock.kit.clock import SystemClock
from penstock.kit.errors import Forbidden, InvalidInput, NotFound

EXPLAIN = b"x-penstock-explain: true"
CLOSE = b"Connection: close"
WORDS = "a secret that must stay " * 60
BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": WORDS}]}).encode()
USAGE = b'{"prompt_tokens":400,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":128}}'
TOKENS = {name: f"psk-{n:012d}-{'s' * 43}".encode() for n, name in enumerate(("plain", "curious", "admin"))}


async def stream(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunk(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
        + chunk(b'data: {"choices":[],"usage":%b}\n\n' % USAGE)
        + chunk(b"data: [DONE]\n\n")
        + b"0\r\n\r\n"
    )


@pytest.fixture
async def engines() -> tuple[Engine, Engine]:
    pair = Engine("e1", stream), Engine("e2", stream)
    for engine in pair:
        await engine.start()
    return pair


def head_of(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def ask(*headers: bytes, request_id: bytes = b"r1") -> bytes:
    return post(BODY, b"/v1/chat/completions", b"x-request-id: " + request_id, CLOSE, *headers)


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((b"GET %s HTTP/1.1" % path, b"Host: x", CLOSE, *headers)) + b"\r\n\r\n"


def read(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_who_asks_is_told_in_a_header_and_finds_the_whole_record(
    tmp_path: Path, engines: tuple[Engine, Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    async with Gateway(tmp_path, service(*engines, routing=RoutingRoute())) as gateway:
        assert "x-penstock-route" not in head_of(await gateway.raw(ask()))
        told = head_of(await gateway.raw(ask(EXPLAIN, request_id=b"r2")))["x-penstock-route"]
        parts = dict(part.split("=") for part in told.split("; "))
        assert parts["endpoint"] in ("e1", "e2")
        assert {parts["endpoint"], parts["runner-up"]} == {"e1", "e2"}
        assert (parts["class"], parts["profile"], parts["of"]) == ("short", "built-in", "2")
        for engine in engines:
            assert not any(b"x-penstock-explain" in head for head, _ in engine.requests)
        (found,) = await asyncio.to_thread(records_of, "r2", gateway.url)
        assert (found.endpoint, found.status, found.streams) == (parts["endpoint"], 200, True)
        assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (400, 128, 3)
        assert found.explanation is not None
        assert len(found.explanation.candidates) == 2
        await asyncio.to_thread(explain, ["request", "r2"], url=gateway.url)
        said = capsys.readouterr().out
        assert f"Sent to: {found.endpoint} (revision m-1)" in said
        assert "128 by the engine" in said
        (short,) = await asyncio.to_thread(records_of, "r1", gateway.url)
        assert short.explanation is None
        with pytest.raises(NotFound, match="no request r3 is remembered"):
            await asyncio.to_thread(records_of, "r3", gateway.url)


async def test_any_worker_finds_what_another_one_routed(
    tmp_path: Path, engines: tuple[Engine, Engine]
) -> None:
    folder, elsewhere, by = tmp_path / "peers", Explained(SystemClock()), router()
    theirs = call("theirs")
    send(elsewhere, by, theirs, prompt())
    end(elsewhere, theirs)
    other = Peers(folder, "other")
    other.answer_about(EXPLAINED, elsewhere.answer)
    await other.open()
    try:
        async with Gateway(tmp_path, service(*engines, routing=RoutingRoute()), peers=folder) as gateway:
            got = read(await gateway.raw(get(b"/penstock/requests/theirs")))
            assert [one["id"] for one in got["requests"]] == ["theirs"]
    finally:
        other.close()


async def test_only_keys_that_may_are_told(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    keys = tuple(
        KeyRoute(
            id=token.decode().split("-")[1],
            namespace="default",
            name=name,
            hashes=(KeyHash(hash=keyed_hash(bytes(32), token).hex()),),
            explain=name == "curious",
            admin=name == "admin",
        )
        for name, token in TOKENS.items()
    )
    gateway = Gateway(tmp_path, require_keys=True)
    table = RouteTable(version=1, services=(service(*engines, routing=RoutingRoute()),), keys=keys)
    (tmp_path / "table.json").write_bytes(msgspec.json.encode(table))
    bearer = {name: b"authorization: Bearer " + token for name, token in TOKENS.items()}
    async with gateway:
        answers = {name: await gateway.raw(ask(EXPLAIN, line)) for name, line in bearer.items()}
        assert {name: answer[9:12] for name, answer in answers.items()} == {
            "plain": b"403",
            "curious": b"200",
            "admin": b"200",
        }
        assert b"explain_not_allowed" in answers["plain"]
        codes = {
            name: (await gateway.raw(get(b"/penstock/requests/r1", line)))[9:12]
            for name, line in bearer.items()
        }
        assert codes == {"plain": b"403", "curious": b"403", "admin": b"200"}
        assert (await gateway.raw(get(b"/penstock/requests/r1")))[9:12] == b"401"
        fetch = post(b'{"id":"%b"}' % (b"0" * 32), b"/penstock/recording", CLOSE, bearer["curious"])
        assert (await gateway.raw(fetch))[9:12] == b"403"


async def test_an_unready_endpoint_is_told_of_even_where_the_answer_is_an_error(tmp_path: Path) -> None:
    async def refuse(engine: Engine, head: bytes, reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.close()

    engine = Engine("e1", refuse)
    await engine.start()
    async with Gateway(tmp_path, service(engine, routing=RoutingRoute())) as gateway:
        answer = await gateway.raw(ask(EXPLAIN))
        assert answer[9:12] == b"503"
        assert "endpoint=e1" in head_of(answer)["x-penstock-route"]
        (found,) = read(await gateway.raw(get(b"/penstock/requests/r1")))["requests"]
        assert found["error"] == "no_endpoint_answered"


class Told:
    """The time of a recording, which passes when it is told to."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self._at = 0.0

    def monotonic(self) -> float:
        return self._at

    def sleep(self, seconds: float) -> None:
        self.has_begun.set()
        self.may_end.wait(30)
        self._at += seconds


async def test_a_recording_has_the_columns_of_a_trace_and_no_words(
    tmp_path: Path, engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, told = tmp_path / "own.jsonl", Told()
    monkeypatch.setattr("penstock.cli.recording.time", told)
    async with Gateway(tmp_path, service(*engines, routing=RoutingRoute())) as gateway:
        await gateway.raw(ask(request_id=b"before"))
        recording = asyncio.create_task(asyncio.to_thread(record, path, "default/m", 1.5, gateway.url))
        await until(told.has_begun.is_set)
        for number in range(3):
            await gateway.raw(ask(request_id=b"r%d" % number))
        told.may_end.set()
        done = await recording
    assert (len(done.lines), done.dropped, done.workers) == (3, 0, 1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
    assert lines[0]["timestamp"] == 0
    assert lines[0]["hash_ids"] == list(range(len(lines[0]["hash_ids"]))) == lines[2]["hash_ids"]
    assert len(lines[0]["hash_ids"]) >= 5
    assert (lines[0]["input_length"], lines[0]["output_length"], lines[0]["cached"]) == (400, 3, 128)
    assert lines[0]["endpoint"] in ("e1", "e2")
    assert "secret" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.part")) == []


async def test_a_recording_is_refused_in_words(tmp_path: Path, engines: tuple[Engine, Engine]) -> None:
    path = tmp_path / "own.jsonl"
    async with Gateway(tmp_path, service(*engines, routing=RoutingRoute())) as gateway:
        with pytest.raises(NotFound, match="nobody"):
            await asyncio.to_thread(record, path, "default/nobody", 1.0, gateway.url)
        path.write_text("mine")
        with pytest.raises(InvalidInput, match="is there already"):
            await asyncio.to_thread(record, path, "", 1.0, gateway.url)
    assert path.read_text() == "mine"


async def test_a_key_of_no_admin_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: tuple[Engine, Engine]
) -> None:
    token = TOKENS["curious"].decode()
    key = KeyRoute(
        id=token.split("-")[1],
        namespace="default",
        name="curious",
        explain=True,
        hashes=(KeyHash(hash=keyed_hash(bytes(32), token.encode()).hex()),),
    )
    gateway = Gateway(tmp_path, require_keys=True)
    table = RouteTable(version=1, services=(service(*engines, routing=RoutingRoute()),), keys=(key,))
    (tmp_path / "table.json").write_bytes(msgspec.json.encode(table))
    monkeypatch.setenv("PENSTOCK_API_KEY", token)
    async with gateway:
        with pytest.raises(Forbidden, match="admin"):
            await asyncio.to_thread(record, tmp_path / "own.jsonl", "", 1.0, gateway.url)
    assert list(tmp_path.glob("own*")) == []
