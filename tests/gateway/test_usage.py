"""Usage is read from every shape of answer, and a stream loses nothing but the event that the gateway asked for."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.usage import MAX_USAGE_BYTES, StreamUsage, WholeUsage, ask_for_usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
END = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\n\n"])


def chunk(text: str, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}}
    return b"data: " + json.dumps({"id": "c", "choices": [choice], **more}).encode()


USAGE_EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":'
    + json.dumps(USAGE).encode()
    + b"}"
)
OTHERS = st.one_of(
    st.text(max_size=20).map(chunk),
    st.sampled_from(['"choices":[]', '"usage":{"prompt_tokens":1}', "data: [DONE]\n\n", "\\"]).map(chunk),
    st.just(chunk("a", usage=None)),
    st.just(chunk("a" * MAX_USAGE_BYTES)),
    st.just(b'data: {"choices":[],"usage":null}'),
    st.just(b'data: {"choices": [ ] ,"prompt_filter_results":[{}]}'),
    st.just(b": comment"),
    st.just(b"event: ping\ndata: {}"),
    st.just(b'data: {"error":{"message":"no"}}'),
    st.just(b""),
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks) if a != b]


def passed(reader: StreamUsage | WholeUsage, pieces: list[bytes]) -> bytes:
    return b"".join([*map(reader.feed, pieces), reader.finish()])


@given(st.data(), st.lists(st.tuples(OTHERS, END), max_size=6), st.lists(st.tuples(OTHERS, END), max_size=3))
def test_of_a_stream_only_the_event_of_usage_is_missing_however_it_is_cut(
    data: st.DataObject, before: list[tuple[bytes, bytes]], after: list[tuple[bytes, bytes]]
) -> None:
    head = b"".join(e + end for e, end in before)
    tail = b"".join(e + end for e, end in after) + data.draw(
        st.sampled_from([b"", b"data: [DONE]\n\n", b"data: {"])
    )
    stream = head + USAGE_EVENT + data.draw(END) + tail
    reader = StreamUsage(strip=True)
    pieces = cut(stream, data.draw(st.lists(st.integers(0, 1 << 16), max_size=30)))
    assert passed(reader, pieces) == head + tail
    assert reader.stripped == 1
    assert (reader.prompt_tokens, reader.completion_tokens) == (9, 4)


@given(
    st.binary(max_size=200) | st.lists(OTHERS).map(b"\n\n".join),
    st.lists(st.integers(0, 1 << 16), max_size=20),
)
def test_what_is_no_event_of_usage_passes_whole(stream: bytes, places: list[int]) -> None:
    assert passed(StreamUsage(strip=True), cut(stream, places)) == stream


@given(st.lists(st.integers(0, 1 << 16), max_size=30))
def test_without_stripping_every_piece_passes_at_once(places: list[int]) -> None:
    stream = chunk("a") + b"\n\n" + USAGE_EVENT + b"\n\ndata: [DONE]\n\n"
    reader = StreamUsage()
    for piece in cut(stream, places):
        assert reader.feed(piece) == piece
    assert reader.prompt_tokens == 9
    assert reader.done
    assert reader.finish() == b""


def test_an_ordinary_piece_is_passed_on_as_the_same_object() -> None:
    piece = chunk("hello") + b"\n\n"
    assert StreamUsage(strip=True).feed(piece) is piece


@given(st.lists(st.integers(0, 1 << 16), max_size=30), END)
def test_a_whole_event_is_never_held_and_what_is_held_is_bounded(places: list[int], end: bytes) -> None:
    stream = b"".join(chunk(text) + end for text in ("a", "b" * 9000, "c")) + b"data: " + b"x" * 9000
    reader, seen, out = StreamUsage(strip=True), b"", b""
    for piece in cut(stream, places):
        seen += piece
        out += reader.feed(piece)
        held = seen[len(out) :]
        assert end not in held
        assert len(held) <= MAX_USAGE_BYTES


def test_the_beginning_of_an_event_with_a_choice_is_not_held() -> None:
    start = chunk("hello")[:-4]
    assert StreamUsage(strip=True).feed(start) == start


@pytest.mark.parametrize("strip", [False, True])
def test_a_blank_line_too_many_is_passed_on_and_leaves_the_stream_at_a_boundary(strip: bool) -> None:
    reader = StreamUsage(strip=strip)
    assert reader.feed(b": comment\n\n") + reader.feed(b"\n") == b": comment\n\n\n"
    assert reader.at_boundary


def test_the_end_of_a_long_event_is_not_taken_for_an_event() -> None:
    second = b'\ndata: {"choices":[],"usage":{"prompt_tokens":1}'
    second += b" " * (MAX_USAGE_BYTES - len(second) - 2) + b"}\n"
    pieces = [b"data: " + b"y" * 100 + second, b"\n"]
    reader = StreamUsage(strip=True)
    assert [reader.feed(piece) for piece in pieces] == pieces


@given(st.lists(st.integers(0, 1 << 16), max_size=30), END)
def test_at_boundary_tells_whether_an_event_may_follow_what_was_passed_on(
    places: list[int], end: bytes
) -> None:
    reader, out = StreamUsage(strip=True), b""
    for piece in cut(chunk("a") + end + USAGE_EVENT + end + chunk("b") + end, places):
        out += reader.feed(piece)
        assert reader.at_boundary == (not out or out.endswith(end) or not out.strip(b"\r\n"))


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("done", [b"data: [DONE]", b"data:[DONE]"])
def test_the_end_of_the_stream_is_seen_also_in_single_bytes(done: bytes, end: bytes) -> None:
    whole, bytewise = StreamUsage(), StreamUsage()
    whole.feed(done + end)
    passed(bytewise, [bytes([byte]) for byte in chunk("a") + end + done + end])
    assert whole.done
    assert bytewise.done


def test_text_that_only_says_done_is_not_the_end() -> None:
    reader = StreamUsage()
    reader.feed(b"data: they said [DONE]\n\n")
    assert not reader.done


def test_anthropics_stream_tells_input_first_and_output_last() -> None:
    reader = StreamUsage()
    reader.feed(
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5,'
        b'"cache_read_input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":1}}}\n\n'
    )
    reader.feed(b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":15}}\n\n')
    assert (reader.prompt_tokens, reader.cached_tokens, reader.completion_tokens) == (14, 7, 15)


WHOLE = [
    ({"choices": [], "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 3}}}, (9, 3, 4)),
    ({"usage": {"prompt_tokens": 8, "total_tokens": 8}, "data": [{"embedding": [0.5] * 3}]}, (8, -1, 0)),
    ({"usage": {"total_tokens": 6}, "results": []}, (6, -1, 0)),
    ({"usage": {"input_tokens": 4, "output_tokens": 2, "cache_read_input_tokens": 1}}, (5, 1, 2)),
    (
        {"usage": {"input_tokens": 4, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}},
        (4, 1, 2),
    ),
    ({"usage": None}, (-1, -1, -1)),
    ({"usage": {"prompt_tokens": "many"}}, (-1, -1, -1)),
    ({"content": '"usage":{"prompt_tokens":1}'}, (-1, -1, -1)),
]


@pytest.mark.parametrize(("answer", "counts"), WHOLE)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_answer_tells_its_usage_in_pieces_of_any_size(
    answer: dict[str, object], counts: tuple[int, ...], size: int, indent: int | None
) -> None:
    data = json.dumps(answer, indent=indent).encode()
    reader = WholeUsage()
    assert passed(reader, [data[i : i + size] for i in range(0, len(data), size)]) == data
    assert (reader.prompt_tokens, reader.cached_tokens, reader.completion_tokens) == counts


@pytest.mark.parametrize("size", [3, 1000])
def test_ollama_tells_counts_beside_each_other(size: int) -> None:
    data = b'{"response":"eval_count\\": 9"}\n{"done":true,"prompt_eval_count": 26,"eval_count":290,"eval_duration":1}\n'
    reader = WholeUsage(ollama=True)
    passed(reader, [data[i : i + size] for i in range(0, len(data), size)])
    assert (reader.prompt_tokens, reader.completion_tokens) == (26, 290)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["messages", "stream_options", "include_usage", "x", 'a"b{'])


@given(
    st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=3), max_size=4),
    st.sampled_from([None, 1]),
)
def test_usage_is_asked_for_and_nothing_else_is_changed(more: dict[str, object], indent: int | None) -> None:
    body = {"stream": True, **more}
    asked = ask_for_usage(json.dumps(body, indent=indent).encode())
    options = body.get("stream_options") if body.get("stream_options") is not None else {}
    if not isinstance(options, dict) or options.get("include_usage") is True:
        assert asked is None
    else:
        assert asked is not None
        assert json.loads(asked) == {**body, "stream_options": {**options, "include_usage": True}}


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"stream": true }\n', b'{"stream": true ,"stream_options":{"include_usage":true}}\n'),
        (b'{"stream_options": {}, "a":1}', b'{"stream_options": {"include_usage":true}, "a":1}'),
        (
            b'{"stream_options":{ "x" : 1 , "include_usage" : false }}',
            b'{"stream_options":{ "x" : 1 , "include_usage" : true }}',
        ),
        (b'{"stream_options":null}', b'{"stream_options":{"include_usage":true}}'),
        (
            b'{"a":["stream_options"],"stream":true}',
            b'{"a":["stream_options"],"stream":true,"stream_options":{"include_usage":true}}',
        ),
    ],
)
def test_white_space_and_order_stay(body: bytes, asked: bytes) -> None:
    assert ask_for_usage(body) == asked
