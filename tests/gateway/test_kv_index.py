"""Which endpoint holds which prefix: against a model that is slow and plain."""

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.decide.kv_trust import DISTRUSTED
from penstock.gateway.kv_blocks import NAMED, EngineBlocks
from penstock.gateway.kv_index import GUESS_S, KvIndex
from penstock.kit.hashing import chain_seed, token_blocks

SIZE = 2
SEED = chain_seed("m")
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=4).map(
    lambda words: [one for one in words for _ in range(SIZE)]
)
CAPACITIES = st.integers(8, 10)
"""Smaller than the 30 beginnings that there are; what an engine may name, 4 times as many, is not."""
NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "sent",
                "sent",
                "stored",
                "stored",
                "removed",
                "restarted",
                "distrust",
                "trust",
                "add",
                "forget",
                "later",
            ]
        ),
        NAMES,
        PROMPTS,
    ),
    max_size=25,
)


def blocks(prompt):
    return token_blocks(prompt, SIZE, SEED)


def engine_names(prompt):
    """An engine's own hashes: anything that tells one beginning from another."""
    return [repr(prompt[: end + SIZE]).encode() for end in range(0, len(prompt), SIZE)]


class Naive:
    """One endpoint by the book."""

    def __init__(self, capacity):
        self.capacity, self.is_followed, self.is_precise = capacity, False, False
        self.held, self.guesses, self.told = OrderedDict(), {}, {}

    def use(self, hashes):
        for key in reversed(hashes[: self.capacity]):
            self.held.pop(key, None)
            self.guesses.pop(key, None)
            self.held[key] = None
        while len(self.held) > self.capacity:
            self.held.popitem(last=False)

    def leading(self, hashes):
        return next(
            (n for n, key in enumerate(hashes) if key not in self.held and key not in self.guesses),
            len(hashes),
        )

    def sent(self, hashes, now):
        if not self.is_precise:
            self.use(hashes)
            return
        known = next((n for n, key in enumerate(hashes) if key not in self.held), len(hashes))
        self.use(hashes[:known])
        new = [key for key in hashes if key not in self.held]
        for key in new[: max(self.capacity - len(self.guesses), 0)]:
            self.guesses[key] = now + GUESS_S

    def stored(self, prompt):
        self.is_precise = self.is_precise or self.is_followed
        self.told.update(zip(engine_names(prompt), blocks(prompt), strict=True))
        self.use(blocks(prompt))

    def removed(self, prompt):
        for name in engine_names(prompt):
            self.held.pop(self.told.pop(name, None), None)

    def expire(self, now):
        self.guesses = {key: at for key, at in self.guesses.items() if at > now}


def apply(step, name, prompt, index, world, capacity, now):
    if step == "add":
        index.add(name, capacity)
        world.setdefault(name, Naive(capacity))
    elif step == "forget":
        index.forget(name)
        world.pop(name, None)
    elif step == "sent":
        index.sent(name, blocks(prompt), now)
    elif step == "stored":
        index.stored(name, None, engine_names(prompt), prompt, SIZE)
    elif step == "removed":
        index.removed(name, engine_names(prompt))
    elif step != "later":
        getattr(index, step)(name)
    one = world.get(name)
    if one is None:
        return
    if step == "sent":
        one.sent(blocks(prompt), now)
    elif step in ("stored", "removed"):
        getattr(one, step)(prompt)
    elif step == "restarted":
        world[name] = Naive(capacity)
        world[name].is_followed = True
    elif step in ("trust", "distrust"):
        one.is_followed = one.is_precise = step == "trust"


@settings(deadline=None)
@given(CAPACITIES, STEPS, st.lists(PROMPTS, min_size=1, max_size=4))
def test_it_says_what_a_plain_model_says_after_any_events(capacity, steps, questions):
    index, world, now = KvIndex(SIZE, "m"), {}, 0.0
    for name in "ab":
        apply("add", name, [], index, world, capacity, now)
    for step, name, prompt in steps:
        now += 0.7 if step == "later" else 0.0
        for one in world.values():
            one.expire(now)
        index.tidy(now, 0)
        apply(step, name, prompt, index, world, capacity, now)
        for asked in [prompt, *questions]:
            expected = {name: one.leading(blocks(asked)) for name, one in world.items()}
            assert index.match(blocks(asked), now) == {
                name: count for name, count in expected.items() if count
            }
        for name, one in world.items():
            known = index.knowledge(name)
            assert (known.blocks, known.guessed_blocks) == (len(one.held), len(one.guesses))
            assert known.blocks <= known.capacity_blocks
    for name in [*world]:
        index.forget(name)
    index.tidy(now + GUESS_S, 10**9)
    assert len(index) == 0


@settings(deadline=None)
@given(
    st.sampled_from([1, 2, 4, 8, 16]),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.lists(st.integers(0, 9), max_size=80),
    st.data(),
)
def test_blocks_of_another_size_are_cut_anew_however_the_events_are_split(ours, theirs, tokens, data):
    tokens = tokens[: len(tokens) - len(tokens) % theirs]
    count, start, parent = len(tokens) // theirs, 0, None
    index = KvIndex(ours, "m")
    index.add("a", 1000)
    while start < count:
        end = data.draw(st.integers(start + 1, count))
        index.stored("a", parent, list(range(start, end)), tokens[start * theirs : end * theirs], theirs)
        start, parent = end, end - 1
    hashes = token_blocks(tokens, ours, SEED)
    assert index.match(hashes, 0.0) == ({"a": len(hashes)} if hashes else {})
    for name in reversed(range(count)):
        index.removed("a", [name])
        assert index.match(hashes, 0.0).get("a", 0) == name * theirs // ours
    assert index.knowledge("a").skipped_blocks == 0


HASHES = st.lists(st.one_of(st.integers(0, 5), st.binary(max_size=1)), max_size=6)
JUNK = (
    st.none()
    | st.text(max_size=2)
    | st.integers()
    | st.lists(st.none() | st.text(max_size=2) | st.integers(), max_size=3)
)
HOSTILE = st.lists(
    st.one_of(
        st.tuples(
            st.just("stored"),
            NAMES,
            st.none() | st.integers(0, 5),
            HASHES,
            st.lists(st.integers(-1, 3) | st.just(1 << 32), max_size=12),
            st.integers(0, 5),
            st.sampled_from(["", "x"]),
            st.lists(JUNK, max_size=3),
        ),
        st.tuples(st.just("removed"), NAMES, HASHES),
        st.tuples(st.sampled_from(["cleared", "restarted", "distrust", "trust", "forget", "add"]), NAMES),
        st.tuples(st.just("sent"), NAMES, st.lists(st.integers(0, 9), max_size=6), st.just(0.0)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(HOSTILE)
def test_hostile_repeated_and_reordered_events_never_crash_it_and_memory_stays_bounded(events):
    index, capacity = KvIndex(SIZE, "m"), 8
    index.add("a", capacity)
    for method, name, *rest in events:
        if method == "add":
            rest = [capacity]
        getattr(index, method)(name, *rest)
        for one in "abc":
            known = index.knowledge(one)
            assert known is None or (known.blocks <= capacity and known.guessed_blocks <= capacity)
    for name in "abc":
        index.forget(name)
    index.tidy(1e9, 10**9)
    assert len(index) == 0


def test_an_engine_that_names_new_blocks_for_ever_fills_no_memory():
    index = KvIndex(1, "m")
    index.add("a", 64)
    for turn in range(2000):
        index.stored("a", turn - 1 if turn else None, [turn], [turn], 1)
    one = index._endpoints["a"]
    assert len(one.told) <= NAMED * 64
    assert len(one.held) <= 64
    assert len(index) <= 64


def told(parent=None, names=(1, 2), tokens=(1, 2, 3, 4), size=SIZE, **more):
    index = KvIndex(SIZE, "m")
    index.add("a", 100)
    index.restarted("a")
    index.stored("a", parent, names, tokens, size, **more)
    return index


def test_blocks_after_an_unknown_parent_are_counted_and_left_out():
    index = told(parent=99)
    assert index.match(blocks([1, 2, 3, 4]), 0) == {}
    assert index.knowledge("a").skipped_blocks == 2


def test_sizes_that_do_not_divide_leave_an_endpoint_approximate_and_say_so():
    index = told(tokens=(1, 2, 3, 4, 5, 6), size=3)
    known = index.knowledge("a")
    assert (known.is_precise, known.unfit_size, known.skipped_blocks) == (False, 3, 2)
    assert index.confidence("a") == DISTRUSTED
    index.sent("a", [7, 8], 0.0)
    assert index.match([7, 8], GUESS_S + 1) == {"a": 2}


def test_an_adapters_blocks_are_not_those_of_the_model_itself():
    index = told(adapter="x", extras=[["x"], ["x"]])
    assert index.match(blocks([1, 2, 3, 4]), 0) == {}
    assert index.match(token_blocks([1, 2, 3, 4], SIZE, chain_seed("m", "x")), 0) == {"a": 2}


def test_a_salt_stands_in_the_first_block_and_goes_into_the_whole_chain():
    index = told(extras=[["pepper"], None])
    index.stored("a", 2, [3], [5, 6], SIZE)
    assert index.match(token_blocks([1, 2, 3, 4, 5, 6], SIZE, chain_seed("m", "", "pepper")), 0) == {"a": 3}


def test_blocks_from_the_first_image_on_are_left_out():
    index = told(extras=[None, [["image", 0]]])
    assert index.match(blocks([1, 2, 3, 4]), 0) == {"a": 1}
    index.stored("a", 2, [3], [5, 6], SIZE)
    assert index.match(blocks([1, 2, 3, 4, 5, 6]), 0) == {"a": 1}


def test_a_guess_holds_for_a_while_and_for_good_once_it_was_told():
    index = told()
    index.sent("a", blocks([1, 2, 3, 4, 5, 6, 7, 8]), 10.0)
    assert index.match(blocks([1, 2, 3, 4, 5, 6, 7, 8]), 9.9 + GUESS_S) == {"a": 4}
    index.stored("a", 2, [3], [5, 6], SIZE)
    assert index.match(blocks([1, 2, 3, 4, 5, 6, 7, 8]), 10.0 + GUESS_S) == {"a": 3}


def test_after_a_gap_it_keeps_what_it_knew_believes_it_less_and_lets_it_age():
    index = told()
    sure = index.confidence("a")
    index.distrust("a")
    assert index.confidence("a") < sure
    assert index.match(blocks([1, 2, 3, 4]), 0) == {"a": 2}
    index.sent("a", list(range(100)), 0.0)
    assert index.match(blocks([1, 2, 3, 4]), 0) == {}


def test_a_restart_of_a_full_cache_is_forgotten_at_once_and_cleaned_up_in_slices():
    index = KvIndex(SIZE, "m")
    index.add("a", 10_000)
    index.add("b", 10_000)
    index.sent("a", list(range(10_000)), 0.0)
    index.sent("b", list(range(5)), 0.0)
    index.restarted("a")
    assert index.match(list(range(10_000)), 0.0) == {"b": 5}
    assert len(index) == 10_000
    assert index.tidy(0.0, 1000) == 9000
    assert index.tidy(0.0, 9000) == 0
    assert len(index) == 5


def test_answers_correct_the_confidence_and_say_how_accurate_it_was():
    index = told()
    before = index.confidence("a")
    for _ in range(5):
        index.answered("a", 4096, 0)
    assert index.confidence("a") < before
    assert index.knowledge("a").trust.accuracy == 0


def test_unknown_endpoints_hold_nothing_and_are_worth_nothing():
    index = KvIndex(SIZE, "m")
    for method, *rest in [
        ("sent", [1], 0.0),
        ("removed", [1]),
        ("cleared",),
        ("trust",),
        ("distrust",),
        ("answered", 1, 1),
    ]:
        getattr(index, method)("z", *rest)
    assert (index.match([1], 0.0), index.knowledge("z"), index.confidence("z"), index.value("z", 0.0)) == (
        {},
        None,
        0,
        0,
    )


def test_the_hottest_prefix_is_the_one_that_most_requests_share_and_its_value_is_the_hits():
    index, now = KvIndex(SIZE, "m"), 0.0
    index.add("a", 10_000)
    for turn in range(3000):
        now += 0.5
        shared = list(range(20)) if turn % 4 else list(range(500, 510))
        index.sent("a", [*shared, 10_000 + turn], now)
    first, second = index.hottest(2, now)
    assert (first.hash, first.blocks, second.hash, second.blocks) == (19, 20, 509, 10)
    assert 1.4 < first.rate < 1.6
    assert 0.45 < second.rate < 0.55
    assert 34 < index.value("a", now) < 36
    assert index.value("a", now + 3000) < 0.01


def test_what_is_forgotten_at_once_is_freed_bit_by_bit_and_never_piles_up():
    index = KvIndex(4, "m")
    index.add("a", 4096)
    for turn in range(12):
        index.restarted("a")
        for block in range(0, 3000, 50):
            names = [(turn, block, n).__hash__() for n in range(50)]
            index.stored("a", None, names, [turn * 3000 + block] * 200, 4)
        assert sum(map(len, index._discarded)) <= 3 * 3000
    while index.tidy(0.0):
        pass
    index.tidy(0.0, 10**6)
    assert not index._discarded


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=8)), max_size=30))
def test_names_are_counted_as_they_come_and_go(steps):
    names = EngineBlocks("m", SIZE, 8)
    for is_stored, hashes in steps:
        if is_stored:
            names.store(None, hashes, [1] * (SIZE * len(hashes)), SIZE)
        else:
            names.remove(hashes)
        assert len(names) == sum(map(len, names._parts)) <= NAMED * 8
    names.clear()
    assert not names
