"""Anthropic's own client understands what is told it."""

import anthropic
import pytest
from dialect_world import World, completion, delta, sent, served, sse, tool_piece, usage_chunk

from penstock.gateway.dialects.anthropic.dialect import Anthropic
from penstock.gateway.dialects.dialect import Translated
from plain_http import PLAIN

TOOL = {
    "name": "weather",
    "description": "of a town",
    "input_schema": {"type": "object", "properties": {"town": {"type": "string"}}},
}
HELLO = [{"role": "user", "content": "hello"}]


def client(url: str) -> anthropic.AsyncAnthropic:
    http = anthropic.DefaultAsyncHttpxClient(**PLAIN)
    return anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0, http_client=http)


async def test_a_message_comes_whole() -> None:
    world = World(Anthropic(), lambda _: (200, completion(content="Hi.", reasoning_content="greet")))
    async with served(world) as url, client(url) as api:
        message = await api.messages.create(model="tiny", max_tokens=9, system="be brief", messages=HELLO)
    assert (message.id, message.model, message.role) == ("msg_9", "tiny", "assistant")
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert (message.content[0].thinking, message.content[1].text) == ("greet", "Hi.")
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 4)
    assert message.usage.output_tokens == 5
    assert sent(world.asked[0]) == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "be brief"}, *HELLO],
        "max_tokens": 9,
    }


async def test_a_tool_is_called_and_its_result_goes_back() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"town":"Ulm"}'},
    }
    world = World(Anthropic(), lambda _: (200, completion("tool_calls", tool_calls=[call])))
    async with served(world) as url, client(url) as api:
        message = await api.messages.create(model="tiny", max_tokens=9, tools=[TOOL], messages=HELLO)
        use = message.content[0]
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
        turns = [
            *HELLO,
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        await api.messages.create(model="tiny", max_tokens=9, tools=[TOOL], messages=turns)
    assert message.stop_reason == "tool_use"
    assert (use.type, use.name, use.input) == ("tool_use", "weather", {"town": "Ulm"})
    assert sent(world.asked[1])["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]


async def test_a_message_streams_thoughts_text_and_tool_calls() -> None:
    stream = sse(
        delta(role="assistant", content=""),
        delta(reasoning_content="let me "),
        delta(reasoning_content="see"),
        delta(content="Loo"),
        delta(content="king."),
        delta(tool_calls=[tool_piece(0, "", id="call_1", name="weather")]),
        delta(tool_calls=[tool_piece(0, '{"town":')]),
        delta(tool_calls=[tool_piece(0, '"Ulm"}'), tool_piece(1, "{}", id="call_2", name="weather")]),
        delta(finish="tool_calls"),
        usage_chunk(20, 7, cached=16),
    )
    world = World(Anthropic(), lambda _: (200, stream))
    async with (
        served(world) as url,
        client(url) as api,
        api.messages.stream(model="tiny", max_tokens=9, tools=[TOOL], messages=HELLO) as events,
    ):
        kinds = [event.type async for event in events]
        message = await events.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert (message.content[0].thinking, message.content[1].text) == ("let me see", "Looking.")
    assert [block.input for block in message.content[2:]] == [{"town": "Ulm"}, {}]
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (4, 16)
    assert message.usage.output_tokens == 7
    assert sent(world.asked[0])["stream_options"] == {"include_usage": True}


async def test_an_error_in_a_stream_is_raised() -> None:
    stream = sse(delta(content="so"), {"error": {"message": "out of memory", "code": 503}}, done=False)
    async with served(World(Anthropic(), lambda _: (200, stream))) as url, client(url) as api:
        with pytest.raises(anthropic.APIStatusError, match="out of memory"):
            async with api.messages.stream(model="tiny", max_tokens=9, messages=HELLO) as events:
                await events.get_final_message()


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (413, anthropic.RequestTooLargeError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (503, anthropic.ServiceUnavailableError),
    ],
)
async def test_an_engines_error_keeps_its_status(status: int, raised: type[anthropic.APIStatusError]) -> None:
    body = b'{"error":{"message":"no","type":"x","param":null,"code":null}}'
    async with served(World(Anthropic(), lambda _: (status, body))) as url, client(url) as api:
        with pytest.raises(raised) as caught:
            await api.messages.create(model="tiny", max_tokens=9, messages=HELLO)
    assert caught.value.body["error"]["message"] == "no"


async def test_tokens_are_counted_by_the_engine() -> None:
    def engine(asked: Translated) -> tuple[int, bytes]:
        assert asked.path == "/tokenize"
        return 200, b'{"count": 17, "tokens": [1], "max_model_len": 4096}'

    world = World(Anthropic(), engine)
    async with served(world) as url, client(url) as api:
        found = await api.messages.count_tokens(model="tiny", system="s", tools=[TOOL], messages=HELLO)
    assert found.input_tokens == 17
    assert sent(world.asked[0]).keys() == {"model", "messages", "tools"}


async def test_an_engine_that_counts_no_tokens_is_named() -> None:
    world = World(Anthropic(), lambda _: (404, b'{"detail":"Not Found"}'))
    async with served(world) as url, client(url) as api:
        with pytest.raises(anthropic.NotFoundError, match="'tiny' does not offer the counting of tokens"):
            await api.messages.count_tokens(model="tiny", messages=HELLO)
