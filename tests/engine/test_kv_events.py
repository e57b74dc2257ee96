"""KV events over ZeroMQ: whoever listens, or asks for what was missed, knows exactly what is cached."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq

from free_ports import free_port
from penstock.engine.kv_events import BUFFERED, END, Publisher
from penstock.engine.prefixes import BLOCK_TOKENS, BlockMirror, Removed, Stored, block_hashes
from penstock.kit.errors import Unavailable


def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


class Listener:
    """A router's index, written from the description of the format alone."""

    def __init__(self) -> None:
        self.blocks: dict[int, tuple[int | None, tuple[int, ...]]] = {}

    def take(self, payload: bytes) -> None:
        moment, events = msgspec.msgpack.decode(payload)
        assert isinstance(moment, float)
        for kind, *fields in events:
            if kind == "BlockStored":
                hashes, parent, tokens, size, lora, medium = fields
                assert (size, lora, medium) == (BLOCK_TOKENS, None, "CPU")
                assert len(tokens) == size * len(hashes)
                for i, number in enumerate(hashes):
                    self.blocks[number] = (parent, tuple(tokens[i * size : (i + 1) * size]))
                    parent = number
            else:
                assert kind == "BlockRemoved"
                for number in fields[0]:
                    del self.blocks[number]

    def find(self, tokens: list[int]) -> int:
        """Tokens of the longest beginning that is known, walking from block to block."""
        parent, found = None, 0
        while found + BLOCK_TOKENS <= len(tokens):
            block = (parent, tuple(tokens[found : found + BLOCK_TOKENS]))
            parent = next((number for number, known in self.blocks.items() if known == block), None)
            if parent is None:
                break
            found += BLOCK_TOKENS
        return found


@pytest.fixture
def sockets() -> Iterator[list[Any]]:
    opened: list[Any] = []
    yield opened
    for one in opened:
        one.close(0) if isinstance(one, zmq.Socket) else one.close()


def work(mirror: BlockMirror, publisher: Publisher, prompts: int) -> None:
    chance = random.Random(11)
    for _ in range(prompts):
        prompt = [t for _ in range(chance.randrange(6)) for t in [chance.randrange(3)] * BLOCK_TOKENS] + [9]
        events, held = mirror.begin(prompt)
        publisher.publish(events)
        publisher.publish(mirror.end(held, [*prompt, *[7] * chance.randrange(40)]))


def test_a_subscribers_state_is_the_mirrors(sockets: list[Any]) -> None:
    endpoint = free_endpoint()
    publisher = Publisher(endpoint)
    subscriber = zmq.Context.instance().socket(zmq.SUB)
    sockets += [subscriber, publisher]
    subscriber.setsockopt(zmq.SUBSCRIBE, b"")
    subscriber.connect(endpoint)
    mirror, listener = BlockMirror(12), Listener()
    while not subscriber.poll(20):  # a subscription needs a moment; what was sent before it is gone
        publisher.publish([Stored((1,), None, (0,) * BLOCK_TOKENS), Removed((1,))])
    work(mirror, publisher, 60)
    last, expected = publisher._sent[-1][0], -1
    while expected <= last:
        assert subscriber.poll(30_000), f"{expected} did not come"
        topic, number, payload = subscriber.recv_multipart()
        expected = int.from_bytes(number, "big") if expected < 0 else expected
        assert (topic, int.from_bytes(number, "big")) == (b"", expected)
        expected += 1
        listener.take(payload)
    assert set(listener.blocks) == mirror.blocks
    assert mirror.blocks, "nothing cached would prove nothing"


def ask(question: Any, start: int) -> list[tuple[int, bytes]]:
    question.send_multipart([b"", start.to_bytes(8, "big")])
    found = []
    while question.poll(30_000):
        empty, number, payload = question.recv_multipart()
        assert empty == b""
        if number == END:
            return found
        found.append((int.from_bytes(number, "big"), payload))
    pytest.fail("the replay did not end")


async def test_whoever_comes_late_learns_everything_by_a_replay(sockets: list[Any]) -> None:
    replay = free_endpoint()
    publisher = Publisher(free_endpoint(), replay)
    question = zmq.Context.instance().socket(zmq.DEALER)
    sockets += [question, publisher]
    mirror, listener = BlockMirror(12), Listener()
    work(mirror, publisher, 40)
    publisher.listen(asyncio.get_running_loop())
    question.connect(replay)
    everything = await asyncio.to_thread(ask, question, 0)
    assert [number for number, _ in everything] == list(range(len(everything)))
    for _, payload in everything:
        listener.take(payload)
    assert set(listener.blocks) == mirror.blocks
    prompt = [t for t in (0, 1, 2) for _ in range(BLOCK_TOKENS)]
    assert listener.find(prompt) == mirror.cached_tokens([*prompt, 9])
    later = await asyncio.to_thread(ask, question, len(everything) - 3)
    assert later == everything[-3:]
    assert await asyncio.to_thread(ask, question, 10**6) == []


async def test_a_question_that_is_none_is_passed_over(sockets: list[Any]) -> None:
    replay = free_endpoint()
    publisher = Publisher(free_endpoint(), replay)
    question = zmq.Context.instance().socket(zmq.DEALER)
    sockets += [question, publisher]
    publisher.publish([Stored((1,), None, (0,) * BLOCK_TOKENS)])
    publisher.listen(asyncio.get_running_loop())
    question.connect(replay)
    for strange in ([b"hello"], [b"", b"1"], [b"x", bytes(8)], [b"", bytes(8), b""]):
        question.send_multipart(strange)
    assert len(await asyncio.to_thread(ask, question, 0)) == 1


def test_what_is_kept_for_replays_is_bounded(sockets: list[Any]) -> None:
    publisher = Publisher(free_endpoint())
    sockets.append(publisher)
    for number in range(BUFFERED + 10):
        publisher.publish([Removed((number,))])
    assert len(publisher._sent) == BUFFERED
    assert publisher._sent[0][0] == 10


def test_no_events_send_nothing(sockets: list[Any]) -> None:
    publisher = Publisher(free_endpoint())
    sockets.append(publisher)
    publisher.publish([])
    assert not publisher._sent


@pytest.mark.parametrize("where", ["taken", "tcp://256.0.0.1:1", "nonsense"])
def test_an_endpoint_that_cannot_be_had_is_named(sockets: list[Any], where: str) -> None:
    endpoint = free_endpoint() if where == "taken" else where
    if where == "taken":
        sockets.append(Publisher(endpoint))
    with pytest.raises(Unavailable, match="cannot publish KV events at") as refused:
        Publisher(endpoint)
    assert endpoint in refused.value.message


def test_parents_tell_equal_blocks_after_different_beginnings_apart() -> None:
    listener, mirror = Listener(), BlockMirror(12)
    for head in (1, 2):
        prompt = [head] * 32 + [5] * 32
        events, held = mirror.begin(prompt)
        for event in events:
            assert isinstance(event, Stored)
            parent = event.parent
            for i, number in enumerate(event.hashes):
                listener.blocks[number] = (parent, event.tokens[i * 32 : i * 32 + 32])
                parent = number
        mirror.end(held, prompt)
    assert set(block_hashes([2] * 32 + [5] * 32)) <= set(listener.blocks)
    assert len(listener.blocks) == 4
