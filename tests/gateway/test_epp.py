"""The endpoint picker keeps to the endpoint picker protocol, and learns from answers as the gateway does."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from certificates import Authority
from epp_world import ADDRESSES, BUFFERED, DUPLEX, EVENTS, OK, Exchange, chat, picked, picker, pool
from ext_proc_messages import header_map, headers_of, kind, request
from grpc import StatusCode, aio

from free_ports import free_port
from penstock.app.registry import open_profile
from penstock.contracts.exchange import FlowRoute, RouteTable, RoutingRoute, ServiceRoute
from penstock.gateway.epp.health import CHECK
from penstock.gateway.epp.messages import CHUNK_BYTES, Mode
from penstock.gateway.epp.server import EppSettings, serve
from penstock.gateway.grpc import handover
from penstock.gateway.wire.message import Limits
from penstock.kit.errors import Unavailable

LONG = "a beginning that many share, " * 200
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def hint(*addresses: str) -> dict[str, Any]:
    return {"envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": list(addresses)}}


@pytest.mark.conformance("destination")
async def test_a_request_goes_on_with_its_endpoints_in_order_and_its_body_as_it_was() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange, body = Exchange(channel), chat()
        head = await exchange.asked(body)
        assert kind(head) == "request_headers"
        assert len(picked(head)) == len(set(picked(head))) == 3
        assert set(picked(head)) <= set(ADDRESSES)
        piece = (await exchange.read()).request_body.response.body_mutation.streamed_response
        assert (piece.body, piece.end_of_stream) == (body, True)


@pytest.mark.conformance("ext-proc", "streaming")
async def test_a_long_body_comes_in_pieces_and_goes_in_pieces() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange, body = Exchange(channel), chat("x" * 200_000)
        await exchange.head()
        for start in range(0, len(body), 16_000):
            await exchange.body(body[start : start + 16_000], ends=start + 16_000 >= len(body))
        picked(await exchange.read())
        sent, ended = b"", False
        while not ended:
            piece = (await exchange.read()).request_body.response.body_mutation.streamed_response
            assert len(piece.body) <= CHUNK_BYTES
            sent, ended = sent + piece.body, piece.end_of_stream
        assert sent == body


@pytest.mark.conformance("ext-proc")
async def test_a_body_that_trailers_end_goes_on_before_them() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange, body = Exchange(channel), chat()
        await exchange.head()
        await exchange.body(body, ends=False)
        await exchange.call.write(request(request_trailers={"trailers": header_map({"x-t": "1"})}))
        picked(await exchange.read())
        piece = (await exchange.read()).request_body.response.body_mutation.streamed_response
        assert (piece.body, piece.end_of_stream) == (body, False)
        assert kind(await exchange.read()) == "request_trailers"


@pytest.mark.conformance("ext-proc")
async def test_a_buffered_body_is_answered_once_and_left_as_it_was() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel, BUFFERED)
        await exchange.head()
        assert kind(await exchange.read()) == "request_headers"
        await exchange.body(chat())
        answer = await exchange.read()
        assert kind(answer) == "request_body"
        assert len(picked(answer)) == 3
        assert not answer.request_body.response.HasField("body_mutation")


@pytest.mark.conformance("ext-proc")
@pytest.mark.parametrize("mode", [Mode.NONE, Mode.STREAMED, Mode.BUFFERED_PARTIAL])
async def test_where_the_head_goes_first_it_is_all_there_is_to_pick_by(mode: Mode) -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel, (mode, Mode.NONE))
        await exchange.head()
        assert picked(await exchange.read())


@pytest.mark.conformance("ext-proc")
async def test_a_request_without_a_body_is_picked_by_its_head() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        await exchange.head({":method": "GET", ":path": "/whatever"}, ends=True)
        assert picked(await exchange.read())


@pytest.mark.conformance("prefix")
async def test_prompts_that_begin_alike_go_where_the_first_went() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        chosen = []
        for number in range(6):
            exchange = Exchange(channel)
            chosen.append(picked(await exchange.asked(chat(LONG + str(number))))[0])
            await exchange.read()
            await exchange.answered(json.dumps({"usage": USAGE}).encode())
        assert len(set(chosen)) == 1


@pytest.mark.conformance("subset")
@pytest.mark.parametrize("number", range(4))
async def test_only_the_subset_is_picked_from(number: int) -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        only = ADDRESSES[number]
        assert picked(await Exchange(channel).asked(chat(), metadata=hint(only, "10.9.9.9:1"))) == [only]
        by_header = {"x-gateway-destination-endpoint-subset": f"{only}, 10.9.9.9:1"}
        assert picked(await Exchange(channel).asked(chat(), by_header)) == [only]


@pytest.mark.conformance("subset-empty")
@pytest.mark.parametrize("subset", [(), ("10.9.9.9:1",)])
async def test_a_subset_without_an_endpoint_is_answered_503(subset: tuple[str, ...]) -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        answer = (await exchange.asked(chat(), metadata=hint(*subset))).immediate_response
        assert answer.status.code == 503
        assert json.loads(answer.body)["error"]["code"] == "no_endpoint"
        assert headers_of(answer.headers)["content-type"] == "application/json"
        assert await exchange.ended()


@pytest.mark.conformance("no-endpoint")
async def test_a_service_that_cannot_serve_is_answered_503() -> None:
    failed = pool(phase="Failed", message="its model is broken")
    async with picker(failed) as channel:
        answer = (await Exchange(channel).asked(chat())).immediate_response
        assert answer.status.code == 503
        assert "its model is broken" in json.loads(answer.body)["error"]["message"]


BATCH = {"x-llm-d-inference-objective": "later"}


def narrow(**flow: Any) -> ServiceRoute:
    """One endpoint that is full with two long prompts; its room is as `flow` says."""
    routing = RoutingRoute(flow=FlowRoute(prefill_s=0.01, **flow))
    return pool(ADDRESSES[0], routing=routing, objectives=(("later", -1),))


@asynccontextmanager
async def filled(channel: aio.Channel) -> AsyncIterator[Exchange]:
    """All endpoints are full; one of the exchanges that fill them."""
    running = [Exchange(channel) for _ in range(2)]
    for number, exchange in enumerate(running):
        picked(await exchange.asked(chat(f"{number} {LONG}")))
        await exchange.read()
    yield running[0]
    for exchange in running:
        exchange.call.cancel()


@pytest.mark.conformance("shed", "dropped-reason")
async def test_a_request_that_finds_no_place_is_shed_with_429_and_a_reason() -> None:
    async with picker(narrow(max_requests=0)) as channel, filled(channel):
        refused = (await Exchange(channel).asked(chat())).immediate_response
        assert refused.status.code == 429
        headers = headers_of(refused.headers)
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert int(headers["retry-after"]) >= 1
        assert json.loads(refused.body)["error"]["type"] == "rate_limit_error"


@pytest.mark.conformance("shed", "dropped-reason")
async def test_a_request_that_waited_too_long_is_shed_with_429() -> None:
    async with picker(narrow(ttl_s=0.05)) as channel, filled(channel):
        refused = (await Exchange(channel).asked(chat())).immediate_response
        assert refused.status.code == 429
        headers = headers_of(refused.headers)
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-ttl-expired"


@pytest.mark.conformance("objective")
async def test_who_has_less_priority_gives_up_its_place() -> None:
    async with picker(narrow(max_requests=1)) as channel, filled(channel) as running:
        first, second = Exchange(channel), Exchange(channel)
        low = asyncio.create_task(first.asked(chat(), BATCH))
        await asyncio.sleep(0.05)
        assert not low.done()
        waiting = asyncio.create_task(second.asked(chat()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await running.answered(b"{}")
        assert picked(await waiting)
        low.cancel()


@pytest.mark.conformance("bounds")
async def test_a_body_beyond_the_limit_is_answered_413_and_room_that_is_full_429() -> None:
    limits = Limits(max_body_bytes=1000, max_buffered_bytes=900)
    async with picker(pool(*ADDRESSES), limits=limits) as channel:
        exchange = Exchange(channel)
        await exchange.head()
        await exchange.body(bytes(800), ends=False)
        other = Exchange(channel)
        await other.head()
        await other.body(bytes(200), ends=False)
        assert (await other.read()).immediate_response.status.code == 429
        await exchange.body(bytes(300), ends=False)
        assert (await exchange.read()).immediate_response.status.code == 413


@pytest.mark.conformance("streaming")
async def test_an_answer_passes_piece_by_piece_as_it_comes() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        first = picked(await exchange.asked(chat(stream=True)))[0]
        await exchange.read()
        head = await exchange.answer_head(EVENTS, served=first)
        assert (
            headers_of(head.response_headers.response.header_mutation)["x-penstock-endpoint"]
            == f"pod-{first}"
        )
        for number in range(3):
            piece = b'data: {"choices": [{"n": %d}]}\n\n' % number
            await exchange.answer_body(piece, ends=False)
            assert (
                await exchange.read()
            ).response_body.response.body_mutation.streamed_response.body == piece
        await exchange.answer_body(b"", ends=True)
        last = (await exchange.read()).response_body.response.body_mutation.streamed_response
        assert (last.body, last.end_of_stream) == (b"", True)


@pytest.mark.conformance("identity")
async def test_usage_that_only_we_asked_for_does_not_reach_the_caller() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        picked(await exchange.asked(chat(stream=True)))
        sent = (await exchange.read()).request_body.response.body_mutation.streamed_response.body
        assert json.loads(sent)["stream_options"] == {"include_usage": True}
        await exchange.answer_head(EVENTS)
        told = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
        await exchange.answer_body(told, ends=False)
        assert not (await exchange.read()).response_body.response.body_mutation.streamed_response.body


@pytest.mark.conformance("identity")
async def test_usage_is_not_asked_for_where_it_could_not_be_taken_out_again() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel, (DUPLEX[0], Mode.NONE))
        body = chat(stream=True)
        picked(await exchange.asked(body))
        assert (await exchange.read()).request_body.response.body_mutation.streamed_response.body == body


@pytest.mark.conformance("served")
async def test_an_endpoint_that_failed_before_another_served_is_set_aside() -> None:
    async with picker(pool(*ADDRESSES[:2])) as channel:
        dead, firsts = ADDRESSES[0], []
        for number in range(60):
            exchange = Exchange(channel)
            found = picked(await exchange.asked(chat(f"{number} {LONG}")))
            await exchange.read()
            firsts.append(found[0])
            await exchange.answered(b"{}", served=found[1] if found[0] == dead else found[0])
        assert 1 <= firsts.count(dead) <= 12, (
            "half of them, if nothing were learned; it is asked again now and then"
        )


@pytest.mark.conformance("gone")
async def test_a_caller_that_goes_leaves_nothing_counted() -> None:
    async with picker(narrow()) as channel, filled(channel) as running:
        waiting = asyncio.create_task(Exchange(channel).asked(chat()))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        running.call.cancel()
        assert picked(await waiting)


@pytest.mark.conformance("gone")
async def test_a_caller_that_goes_while_it_waits_leaves_its_place() -> None:
    async with picker(narrow(max_requests=1)) as channel, filled(channel):
        gone = Exchange(channel)
        await gone.head()
        await gone.body(chat())
        await asyncio.sleep(0.05)
        assert (await Exchange(channel).asked(chat())).immediate_response.status.code == 429
        gone.call.cancel()
        async with asyncio.timeout(30):
            while (waiting := await placed(channel)).done():
                assert waiting.result().immediate_response.status.code == 429
        waiting.cancel()


async def placed(channel: aio.Channel) -> asyncio.Task[Any]:
    """One that asks for the only place; it is done where it was refused. The next one does not get the place either way."""
    first = asyncio.create_task(Exchange(channel).asked(chat()))
    await asyncio.sleep(0.05)
    assert (await Exchange(channel).asked(chat())).immediate_response.status.code == 429
    return first


@pytest.mark.conformance("models")
async def test_models_name_their_services_where_there_are_several(tmp_path: Path) -> None:
    services = (
        pool(ADDRESSES[0], name="one", engine_model="one"),
        pool(ADDRESSES[1], name="two", engine_model="served-as-two", uid="2"),
    )
    state = tmp_path / "table.json"
    state.write_bytes(msgspec.json.encode(RouteTable(version=1, services=services)))
    async with picker(feed_socket=tmp_path / "none.sock", state_file=state) as channel:
        exchange = Exchange(channel)
        assert picked(await exchange.asked(chat(model="one"))) == [ADDRESSES[0]]
        exchange = Exchange(channel)
        assert picked(await exchange.asked(chat(model="two"))) == [ADDRESSES[1]]
        sent = (await exchange.read()).request_body.response.body_mutation.streamed_response.body
        assert json.loads(sent)["model"] == "served-as-two"
        buffered = Exchange(channel, BUFFERED)
        await buffered.head()
        await buffered.read()
        await buffered.body(chat(model="two"))
        common = (await buffered.read()).request_body.response
        assert headers_of(common.header_mutation)["content-length"] == str(len(common.body_mutation.body))
        for model, status in (("three", 404), ("", 400)):
            answer = (await Exchange(channel).asked(chat(model=model))).immediate_response
            assert answer.status.code == status
        by_path = {":path": "/serving/default/two/v1/chat/completions?x=1"}
        head = await Exchange(channel).asked(chat(model="any"), by_path)
        assert picked(head) == [ADDRESSES[1]]
        mutation = headers_of(head.request_headers.response.header_mutation)
        assert mutation[":path"] == "/v1/chat/completions?x=1"


@pytest.mark.parametrize(
    ("service", "status"),
    [("", 1), ("liveness", 1), ("readiness", 1), ("envoy.service.ext_proc.v3.ExternalProcessor", 1)],
)
@pytest.mark.conformance("health")
async def test_health_is_told_for_the_services_of_the_protocol(service: str, status: int) -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"\x0a" + bytes([len(service)]) + service.encode()) == bytes([8, status])


@pytest.mark.conformance("health")
async def test_it_lives_but_is_not_ready_before_it_knows_any_endpoint(tmp_path: Path) -> None:
    files = {"feed_socket": tmp_path / "none.sock", "state_file": tmp_path / "none.json"}
    async with picker(**files) as channel:
        check = channel.unary_unary(CHECK)
        assert await check(b"") == bytes([8, 2])
        assert await check(b"\x0a\x08liveness") == bytes([8, 1])
        with pytest.raises(aio.AioRpcError) as caught:
            await check(b"\x0a\x05other")
        assert caught.value.code() is StatusCode.NOT_FOUND


@pytest.mark.conformance("ext-proc")
async def test_what_is_no_message_is_refused_and_the_picker_goes_on() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        await exchange.call.write(b"\x0b\xff")
        assert (await exchange.read()).immediate_response.status.code == 400
        assert picked(await Exchange(channel).asked(chat()))


async def test_an_answer_that_nobody_was_asked_for_passes() -> None:
    async with picker(pool(*ADDRESSES)) as channel:
        exchange = Exchange(channel)
        assert kind(await exchange.answer_head(OK)) == "response_headers"
        await exchange.answer_body(b"{}")
        assert (await exchange.read()).response_body.response.body_mutation.streamed_response.body == b"{}"


@pytest.mark.conformance("bounds")
async def test_it_speaks_tls_where_it_has_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "own")
    trusts = authority.file.read_bytes()
    async with picker(pool(*ADDRESSES), tls=authority.issue("picker"), trusts=trusts) as channel:
        assert picked(await Exchange(channel).asked(chat()))


@pytest.mark.conformance("bounds")
async def test_a_port_that_is_taken_is_refused_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = EppSettings(listen=taken.getsockname(), service=pool(*ADDRESSES))
        with pytest.raises(Unavailable, match="cannot listen"):
            await serve(settings, asyncio.Event(), open_profile=open_profile)


async def test_a_conversation_that_runs_may_end_while_the_picker_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "AGE_S", 0.5)
    stop, ready = asyncio.Event(), asyncio.Event()
    port = free_port()
    settings = EppSettings(listen=("127.0.0.1", port), service=pool(*ADDRESSES), drain_s=30.0)
    serving = asyncio.create_task(serve(settings, stop, open_profile=open_profile, on_ready=ready.set))
    await ready.wait()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        exchange = Exchange(channel)
        assert picked(await exchange.asked(chat()))
        await exchange.read()
        stop.set()
        await asyncio.sleep(0.05)
        await exchange.answered(b"{}")
        await asyncio.wait_for(serving, 30)
