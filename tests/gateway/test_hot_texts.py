"""Which requests stand for the hottest beginnings, and what is sent in their place."""

import orjson

from penstock.contracts.scheduling import Prompt
from penstock.gateway.hot_texts import MOST_TEXT_BYTES, MOST_TEXTS, HotText, HotTexts, warming_request
from penstock.gateway.kv_index import KvIndex

BLOCK = 64
CHAT = "/v1/chat/completions"


def prompt(*hashes):
    return Prompt(draw=1, tokens=len(hashes) * BLOCK + 10, hashes=hashes, block_tokens=BLOCK)


class World:
    def __init__(self):
        self.index, self.texts, self.now = KvIndex(BLOCK), HotTexts(), 0.0
        self.index.add("a")

    def ask(self, asked, body=b"{}", path=CHAT):
        shared = self.index.sent("a", asked.hashes, self.now)
        self.texts.saw(asked, shared, path, body, self.index, self.now)

    def hottest(self):
        beginnings, texts = self.texts.hottest(self.index, self.now)
        return [(one.hashes, text.body) for one, text in zip(beginnings, texts, strict=True)]


def test_what_several_requests_begin_with_is_remembered_by_one_of_them():
    world = World()
    for tail in range(3, 9):
        world.ask(prompt(1, 2, tail), body=b"%d" % tail)
    assert world.hottest() == [((1, 2), b"4")], "the first time nobody held it"


def test_the_hottest_come_first():
    world = World()
    for number in range(12):
        world.ask(prompt(1, 100 + number))
        if number % 3 == 0:
            world.ask(prompt(2, 200 + number))
    assert [hashes for hashes, _ in world.hottest()] == [(1,), (2,)]


def test_embeddings_and_huge_requests_are_not_remembered():
    world = World()
    for tail in range(3):
        world.ask(prompt(1, tail + 10), path="/v1/embeddings")
        world.ask(prompt(2, tail + 20), body=b"x" * (MOST_TEXT_BYTES + 1))
    assert not world.hottest()


def test_memory_is_bounded_and_the_hottest_stay():
    world = World()
    for number in range(3 * MOST_TEXTS):
        world.ask(prompt(1, 10**6 + number))
        for _ in range(2):
            world.ask(prompt(10 + number))
    assert len(world.texts._texts) <= MOST_TEXTS + 1
    assert world.hottest()[0][0] == (1,)


def test_many_bytes_are_too_much_as_well():
    world = World()
    for number in range(200):
        for _ in range(2):
            world.ask(prompt(10 + number), body=b"x" * 100_000)
    assert world.texts._bytes <= 9 << 20
    assert world.texts._bytes == sum(len(one.body) for one in world.texts._texts.values())


def warmed(body, blocks, tokens, path=CHAT):
    text = HotText(tuple(range(blocks)), tokens, BLOCK, path, orjson.dumps(body))
    made = warming_request(text)
    return None if made is None else orjson.loads(made)


def test_it_ends_where_the_beginning_does_and_wants_one_token():
    messages = [{"role": "system", "content": "s" * 600}, {"role": "user", "content": "u" * 400}]
    body = {
        "model": "m",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 500,
        "n": 4,
        "cache_salt": "tenant",
        "user": "somebody",
    }
    made = warmed(body, blocks=3, tokens=256)
    assert made == {
        "model": "m",
        "cache_salt": "tenant",
        "max_tokens": 1,
        "stream": False,
        "messages": [messages[0], {"role": "user", "content": "u" * 150}],
    }


def test_prompts_of_text_and_of_tokens_are_cut_alike():
    assert warmed({"prompt": "x" * 1000}, 2, 256)["prompt"] == "x" * 500
    assert warmed({"prompt": list(range(256))}, 2, 256)["prompt"] == list(range(128))


def test_text_is_not_cut_within_a_character():
    assert warmed({"prompt": "é" * 11}, 1, 128)["prompt"] == "é" * 5


def test_messages_in_parts_stay_whole():
    parts = [{"type": "text", "text": "t" * 100}, {"type": "image_url", "image_url": {"url": "u"}}]
    messages = [{"role": "user", "content": parts}, {"role": "user", "content": "more" * 100}]
    assert warmed({"messages": messages}, 1, 320)["messages"] == [messages[0]]


def test_what_cannot_be_cut_is_not_sent():
    assert warming_request(HotText((1,), 64, BLOCK, CHAT, b"no json")) is None
    assert warmed(["a"], 1, 64) is None
    assert warmed({"model": "m"}, 1, 64) is None
    assert warmed({"prompt": ["several", "prompts"]}, 1, 64) is None
