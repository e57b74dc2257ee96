"""How the network cuts a stream changes nothing; how it ends is always told."""

import json

import pytest
from dialect_world import INFO, cut, delta, of, sse, told, tool_piece, usage_chunk
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.dialects.dialect import Translated
from penstock.gateway.dialects.stream import MAX_EVENT_BYTES

ASKED = [
    Translated(asked="/v1/messages", path="/v1/chat/completions", model="tiny", body=b"", streams=True),
    Translated(asked="/api/chat", path="/v1/chat/completions", model="tiny", body=b"", streams=True),
    Translated(asked="/api/generate", path="/v1/completions", model="tiny", body=b"", streams=True),
]
ERROR_WORDS = {"/v1/messages": b"event: error\n", "/api/chat": b'{"error":', "/api/generate": b'{"error":'}
LAST_WORDS = {"/v1/messages": b'"message_stop"', "/api/chat": b'"done":true', "/api/generate": b'"done":true'}

texts = st.text(max_size=8)
deltas = st.one_of(
    st.builds(lambda text: delta(content=text), texts),
    st.builds(lambda text: delta(reasoning_content=text), texts),
    st.builds(
        lambda i, text: delta(tool_calls=[tool_piece(i, json.dumps({"a": text}), name="f")]),
        st.integers(0, 3),
        texts,
    ),
    st.builds(lambda reason: delta(finish=reason), st.sampled_from(["stop", "length", "tool_calls", "odd"])),
    st.builds(usage_chunk, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    st.just({"error": {"message": "no", "code": 429}}),
    st.sampled_from(["", "{", "[1]", '{"choices":[{"delta":{"content":3}}]}', "null"]),
)
streams = st.builds(lambda events, done: sse(*events, done=done), st.lists(deltas, max_size=8), st.booleans())


def tell(asked: Translated, *pieces: bytes) -> bytes:
    return told(of(asked.asked), asked, list(pieces))


@given(
    st.sampled_from(ASKED),
    streams,
    st.lists(st.integers(0, 1 << 20), max_size=9),
    st.sampled_from(["\n", "\r\n"]),
)
def test_where_a_stream_is_cut_changes_nothing(
    asked: Translated, stream: bytes, places: list[int], newline: str
) -> None:
    whole = tell(asked, stream)
    stream = stream.replace(b"\n", newline.encode())
    assert tell(asked, *cut(stream, places)) == whole
    assert tell(asked, *cut(stream, list(range(len(stream))))) == whole


@given(st.sampled_from(ASKED), streams)
def test_a_stream_ends_well_or_with_one_error(asked: Translated, stream: bytes) -> None:
    answer = tell(asked, stream)
    assert answer.count(ERROR_WORDS[asked.asked]) + answer.count(LAST_WORDS[asked.asked]) == 1
    assert answer.endswith(b"\n")


@given(st.sampled_from(ASKED), streams)
def test_each_event_is_told_as_soon_as_it_is_whole(asked: Translated, stream: bytes) -> None:
    running = of(asked.asked).stream(asked, INFO)
    so_far, seen = b"", b""
    for event in stream.split(b"\n\n")[:-1]:
        so_far += running.feed(event + b"\n\n")
        seen += event + b"\n\n"
        fresh = of(asked.asked).stream(asked, INFO)
        assert fresh.feed(seen) == so_far


@given(streams)
def test_blocks_of_a_message_open_and_close_in_turn(stream: bytes) -> None:
    events = [
        json.loads(line[6:]) for line in tell(ASKED[0], stream).split(b"\n") if line.startswith(b"data: ")
    ]
    opened: int | None = None
    number = 0
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert opened is None and event["index"] == number
                opened, number = number, number + 1
            case "content_block_delta":
                assert event["index"] == opened
            case "content_block_stop":
                assert event["index"] == opened
                opened = None
            case "message_delta" | "message_stop":
                assert opened is None


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.asked)
class TestEnds:
    def test_without_done_it_is_an_error(self, asked: Translated) -> None:
        answer = tell(asked, sse(delta(content="so"), delta(finish="stop"), done=False))
        assert b"ended before its answer was complete" in answer

    def test_without_a_reason_it_is_an_error(self, asked: Translated) -> None:
        assert b"without saying why" in tell(asked, sse(delta(content="so")))

    def test_an_empty_stream_is_an_error(self, asked: Translated) -> None:
        assert tell(asked).count(ERROR_WORDS[asked.asked]) == 1

    def test_after_an_error_nothing_more_is_said(self, asked: Translated) -> None:
        running = of(asked.asked).stream(asked, INFO)
        assert b"gone" in running.fail(503, "the engine is gone")
        assert running.over
        assert running.feed(sse(delta(content="so"))) + running.fail(503, "again") + running.end() == b""

    def test_what_follows_done_is_dropped(self, asked: Translated) -> None:
        stream = sse(delta(content="so"), delta(finish="stop"))
        assert tell(asked, stream + sse(delta(content="more"))) == tell(asked, stream)

    def test_what_comes_after_the_reason_still_counts(self, asked: Translated) -> None:
        answer = tell(asked, sse(delta(finish="stop"), delta(content="late")))
        assert b"late" in answer
        assert LAST_WORDS[asked.asked] in answer

    @pytest.mark.parametrize("piece", [1 << 16, 3 << 20])
    def test_an_event_beyond_the_bound_is_an_error(self, asked: Translated, piece: int) -> None:
        stream = sse(delta(content="so"), delta(content="x" * MAX_EVENT_BYTES))
        answer = tell(asked, *cut(stream, list(range(0, len(stream), piece))))
        assert b"event of more than" in answer
        assert answer.count(ERROR_WORDS[asked.asked]) == 1
        assert len(answer) < 2000

    def test_comments_and_other_fields_are_skipped(self, asked: Translated) -> None:
        stream = sse(delta(content="so"), delta(finish="stop"))
        noisy = b": ping\n\nevent: x\nid: 3\nretry: 9\n" + stream.replace(b"data: ", b"data:")
        assert tell(asked, noisy) == tell(asked, stream)


@pytest.mark.parametrize("error", ["no", ["no"], {"detail": "no"}])
def test_an_error_in_a_stream_may_have_any_shape(error: object) -> None:
    for asked in ASKED:
        answer = tell(asked, sse({"error": error}, done=False))
        assert b"no" in answer
        assert answer.count(ERROR_WORDS[asked.asked]) == 1


def test_a_completion_streams_text() -> None:
    chunks = [
        {"id": "cmpl-1", "choices": [{"index": 0, "text": t, "finish_reason": f}]}
        for t, f in (("a", None), ("b", "stop"))
    ]
    lines = [json.loads(line) for line in tell(ASKED[2], sse(*chunks)).splitlines()]
    assert [line["response"] for line in lines] == ["a", "b", ""]
    assert lines[-1]["done_reason"] == "stop"


def test_a_tool_call_that_another_interrupts_is_an_error() -> None:
    pieces = [tool_piece(0, "{", name="f"), tool_piece(1, "{}", name="g"), tool_piece(0, "}")]
    assert b"after it had begun another" in tell(ASKED[0], sse(delta(tool_calls=pieces)))


def test_tool_calls_that_interrupt_each_other_are_put_together() -> None:
    pieces = [tool_piece(0, "{", name="f"), tool_piece(1, "{}", name="g"), tool_piece(0, "}")]
    answer = tell(ASKED[1], sse(delta(tool_calls=pieces), delta(finish="tool_calls")))
    calls = json.loads(answer.split(b"\n")[0])["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": n, "arguments": {}} for n in "fg"]


@pytest.mark.parametrize("asked", ASKED[:2], ids=lambda asked: asked.asked)
def test_a_tool_call_that_the_limit_cut_says_so(asked: Translated) -> None:
    stream = sse(delta(tool_calls=[tool_piece(0, '{"a":', name="f")]), delta(finish="length"))
    assert (b'"max_tokens"' if asked is ASKED[0] else b'"length"') in tell(asked, stream)


@pytest.mark.parametrize(
    "pieces",
    [
        [tool_piece(0, "x" * (MAX_EVENT_BYTES // 2), name="f"), tool_piece(0, "x" * (MAX_EVENT_BYTES // 2))],
        [tool_piece(i, "", name="f") for i in range(1025)],
        [tool_piece(0, "[1]", name="f")],
    ],
    ids=["too long", "too many", "no object"],
)
def test_tool_calls_that_cannot_be_told_whole_are_an_error(pieces: list[dict[str, object]]) -> None:
    stream = sse(*[delta(tool_calls=[piece]) for piece in pieces], delta(finish="tool_calls"))
    assert tell(ASKED[1], stream).startswith(b'{"error":"the engine\'s ')


@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])
def test_the_stop_sequence_is_told_where_the_engine_says_it(field: str) -> None:
    last = delta(finish="stop")
    last["choices"][0][field] = "END"
    answer = tell(ASKED[0], sse(delta(content="so"), last))
    assert b'"stop_reason":"stop_sequence","stop_sequence":"END"' in answer


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (429, "rate_limit_error"),
        ("overloaded", "api_error"),
        (None, "api_error"),
        (400, "invalid_request_error"),
    ],
)
def test_an_error_in_a_stream_keeps_its_kind(code: object, kind: str) -> None:
    answer = tell(ASKED[0], sse({"error": {"message": "no", "code": code}}, done=False))
    error = json.loads(answer.split(b"data: ")[1])
    assert error == {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req-1"}
