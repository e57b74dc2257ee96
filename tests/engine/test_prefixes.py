"""Equal beginnings share blocks, the mirror follows the library's rules, and nobody computes what another is computing."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.engine.frames import Add, Sampling
from penstock.engine.prefixes import BLOCK_TOKENS, BlockMirror, LeaderGate, Removed, Stored, block_hashes

POOL = 6
tokens = st.lists(st.integers(0, 3), max_size=5).map(
    lambda blocks: [t for block in blocks for t in [block] * BLOCK_TOKENS]
)
"""Few distinct blocks, so that beginnings are shared often."""
prompts = st.tuples(tokens, st.integers(1, BLOCK_TOKENS - 1)).map(lambda two: [*two[0], *[9] * two[1]])


def add(number: int, prompt: Sequence[int]) -> Add:
    return Add(number, list(prompt), Sampling(max_tokens=4))


@given(prompts, prompts)
def test_blocks_are_shared_exactly_as_far_as_tokens_agree(one: list[int], two: list[int]) -> None:
    agree = next(
        (i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two))
    )
    shared = len(set(block_hashes(one)) & set(block_hashes(two)))
    assert shared == agree // BLOCK_TOKENS


@given(st.lists(st.integers(0, 200_000), max_size=300))
def test_only_whole_blocks_have_a_hash(prompt: list[int]) -> None:
    assert len(block_hashes(prompt)) == len(prompt) // BLOCK_TOKENS


def test_an_equal_block_after_another_beginning_is_another_block() -> None:
    one, two = block_hashes([1] * 32 + [5] * 32), block_hashes([2] * 32 + [5] * 32)
    assert not set(one) & set(two)


def test_one_token_at_least_is_always_computed() -> None:
    mirror = BlockMirror(POOL)
    prompt = [1] * 64
    mirror.end(mirror.begin(prompt)[1], prompt)
    assert mirror.cached_tokens(prompt) == 63
    assert mirror.cached_tokens([*prompt, 2]) == 64


def test_an_answer_becomes_part_of_the_next_prompts_beginning() -> None:
    mirror = BlockMirror(POOL)
    _, held = mirror.begin([1] * 40)
    mirror.computed(held)
    events = mirror.end(held, [1] * 64)
    assert mirror.cached_tokens([1] * 70) == 64
    assert events == [Stored(tuple(block_hashes([1] * 64)[1:]), block_hashes([1] * 32)[0], (1,) * 32)]


def test_blocks_go_in_the_order_in_which_they_were_last_found() -> None:
    mirror = BlockMirror(3)
    for prompt in ([1] * 32, [2] * 32, [3] * 32, [1] * 32, [4] * 32):
        mirror.end(mirror.begin(prompt)[1], prompt)
    assert mirror.blocks == {block_hashes([t] * 32)[0] for t in (1, 3, 4)}


def test_a_block_that_is_not_full_takes_room_and_is_not_told() -> None:
    mirror = BlockMirror(2)
    events, held = mirror.begin([1] * 40)
    assert events == [Stored(tuple(block_hashes([1] * 32)), None, (1,) * 32)]
    mirror.end(held, [1] * 40)
    assert mirror.begin([2] * 5)[0] == [Removed(tuple(block_hashes([1] * 32)))]


def test_a_prompt_that_nobody_finished_computing_is_not_cached() -> None:
    mirror = BlockMirror(POOL)
    prompt = [1] * 64
    _, first = mirror.begin(prompt)
    _, second = mirror.begin(prompt)
    assert mirror.abandon(first) == [], "the second still computes it"
    assert mirror.abandon(second) == [Removed(tuple(block_hashes(prompt)))]
    assert mirror.cached_tokens(prompt) == 0


class Traffic(RuleBasedStateMachine):
    """Requests come, get their first token, end, or are given up, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.mirror = BlockMirror(POOL)
        self.told: set[int] = set()
        self.live: list[tuple[list[int], list[int], bool]] = []

    def hear(self, events: Sequence[Stored | Removed]) -> None:
        for event in events:
            if isinstance(event, Stored):
                assert len(event.tokens) == BLOCK_TOKENS * len(event.hashes)
                assert event.parent is None or event.parent in self.told
                assert not self.told & set(event.hashes), "stored twice"
                self.told |= set(event.hashes)
            else:
                assert set(event.hashes) <= self.told, "removed what was never stored"
                self.told -= set(event.hashes)

    @rule(prompt=prompts)
    def begin(self, prompt: list[int]) -> None:
        cached = self.mirror.cached_tokens(prompt)
        assert cached < len(prompt)
        events, held = self.mirror.begin(prompt)
        self.hear(events)
        self.live.append((prompt, held, False))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), more=tokens)
    def end(self, data: st.DataObject, more: list[int]) -> None:
        prompt, held, _ = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        self.mirror.computed(held)
        self.hear(self.mirror.end(held, [*prompt, *more]))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def first_token(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.live) - 1))
        prompt, held, _ = self.live[at]
        self.mirror.computed(held)
        self.live[at] = (prompt, held, True)

    @precondition(lambda self: any(not computed for *_, computed in self.live))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        at = data.draw(st.sampled_from([i for i, one in enumerate(self.live) if not one[2]]))
        _, held, _ = self.live.pop(at)
        self.hear(self.mirror.abandon(held))

    @invariant()
    def whoever_listened_knows_the_mirror(self) -> None:
        assert self.told == self.mirror.blocks

    @invariant()
    def blocks_in_use_are_cached_and_idle_ones_fit_the_pool(self) -> None:
        used = {number for _, held, _ in self.live for number in held}
        assert {number for number in used if number >= 0} <= self.told
        assert len(self.told) <= max(POOL, len(used))


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def test_of_equal_prompts_one_leads_and_the_others_wait() -> None:
    gate = LeaderGate(64)
    assert gate.admit(add(1, [1] * 64))
    assert not gate.admit(add(2, [1] * 64))
    assert gate.admit(add(3, [2] * 64))
    assert gate.released() == []
    gate.computed(1)
    assert [message.id for message in gate.released()] == [2]


def test_a_prompt_shorter_than_a_block_never_waits() -> None:
    gate = LeaderGate(64)
    assert all(gate.admit(add(number, [1] * 31)) for number in range(5))


def test_a_known_beginning_holds_nobody_up() -> None:
    gate = LeaderGate(64)
    gate.admit(add(1, [1] * 64))
    gate.computed(1)
    gate.forget(1)
    assert all(gate.admit(add(number, [1] * 64)) for number in (2, 3))


def test_when_a_leader_gives_up_the_next_leads_and_only_one() -> None:
    gate = LeaderGate(64)
    for number in (1, 2, 3):
        gate.admit(add(number, [1] * 64))
    gate.forget(1)
    assert [message.id for message in gate.released()] == [2]
    gate.forget(2)
    assert [message.id for message in gate.released()] == [3]


def test_a_beginning_that_may_be_evicted_by_now_is_led_again() -> None:
    gate = LeaderGate(2)
    for number, token in ((1, 1), (2, 2)):
        gate.admit(add(number, [token] * 64))
        gate.computed(number)
    assert gate.admit(add(3, [1] * 64))
    assert not gate.admit(add(4, [1] * 64))


def test_whoever_is_held_and_given_up_never_starts() -> None:
    gate = LeaderGate(64)
    gate.admit(add(1, [1] * 64))
    gate.admit(add(2, [1] * 64))
    gate.forget(2)
    gate.computed(1)
    assert gate.released() == []


@given(st.lists(prompts, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_every_block_is_computed_once_and_everyone_gets_a_turn(work: list[list[int]], chance: object) -> None:
    gate = LeaderGate(64)
    running = [add(i, prompt) for i, prompt in enumerate(work)]
    running = [message for message in running if gate.admit(message)]
    started = {message.id for message in running}
    known: set[int] = set()
    computing: list[int] = [h for m in running for h in block_hashes(m.tokens)]
    assert len(computing) == len(set(computing)), "two compute one block"
    while running:
        message = running.pop(chance.randrange(len(running)))  # type: ignore[attr-defined]
        known |= set(block_hashes(message.tokens))
        gate.computed(message.id)
        for fresh in gate.released():
            others = {h for m in running for h in block_hashes(m.tokens)} - known
            assert not others & set(block_hashes(fresh.tokens)), "it computes what another computes"
            started.add(fresh.id)
            running.append(fresh)
    assert started == set(range(len(work)))
