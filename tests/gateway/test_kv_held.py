"""What an endpoint is taken to hold."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.kv_held import GIVEN_UP_BLOCKS, Held

CHAINS = st.lists(st.integers(0, 30), unique=True, max_size=12)
STEPS = st.lists(
    st.tuples(st.sampled_from(["use", "use", "use", "drop", "drain", "resize"]), CHAINS), max_size=40
)


class Naive:
    """Least recently used first, by the book."""

    def __init__(self, capacity):
        self.capacity, self.order = capacity, OrderedDict()

    def use(self, hashes):
        for key in reversed(hashes[: self.capacity]):
            self.order.pop(key, None)
            self.order[key] = None
        self.fit()

    def fit(self):
        while len(self.order) > self.capacity:
            self.order.popitem(last=False)


@given(st.integers(1, 20), STEPS)
def test_it_gives_up_what_a_plain_lru_would_and_says_what_changed(capacity, steps):
    held, naive, owned = Held(capacity), Naive(capacity), set()
    for step, hashes in steps:
        if step == "use":
            fresh, gone = held.use(hashes)
            naive.use(hashes)
            assert not owned & set(fresh)
            owned = (owned | set(fresh)) - set(gone)
        elif step == "drop":
            owned -= set(held.drop(hashes))
            for key in hashes:
                naive.order.pop(key, None)
        elif step == "drain":
            owned -= set(held.drain(len(hashes)))
            for _ in range(min(len(hashes), len(naive.order))):
                naive.order.popitem(last=False)
        else:
            owned -= set(held.resize(1 + len(hashes)))
            naive.capacity = 1 + len(hashes)
            naive.fit()
        assert list(held) == list(naive.order)
        assert set(held) == owned
        assert len(held) == len(owned) <= held.capacity


def test_a_cache_that_turns_out_greater_or_smaller_keeps_what_it_held_in_order():
    held = Held(100)
    held.use(range(40))
    held.use(range(100, 160))
    before = list(held)
    for capacity in (1 << 20, 200, 9_000):
        assert held.resize(capacity) == []
        assert list(held) == before
        assert held.leading([*range(100, 160)]) == 60
    assert 39 in held
    assert 40 not in held


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=30))
def test_of_every_chain_a_head_outlives_its_tail(capacity, prompts):
    """Chains that are only ever used whole stay without holes: what is held of each is held from its start."""
    held = Held(capacity)
    for family, length in prompts:
        held.use([family * 100 + place for place in range(length)])
        for one in range(4):
            chain = [one * 100 + place for place in range(9)]
            assert sum(key in held for key in chain) == held.leading(chain)


def test_using_the_same_again_and_again_takes_no_more_memory():
    held = Held(1000)
    for turn in range(500):
        held.use([*range(100), 1000 + turn])
    kept = sum(len(run.hashes) for run in held._runs.values())
    assert kept <= 2 * len(held)


def test_a_cache_that_turns_out_to_be_much_smaller_is_fitted_step_by_step():
    held = Held(100_000)
    for start in range(0, 100_000, 500):
        held.use(range(start, start + 500))
    gone = held.resize(10)
    assert len(gone) == GIVEN_UP_BLOCKS
    key, steps = 100_000, 0
    while len(held) > 10:
        key, steps = key + 1, steps + 1
        gone = held.use([key])[1]
        assert len(gone) <= GIVEN_UP_BLOCKS + 1
    assert steps <= 100_000 // GIVEN_UP_BLOCKS + 1
    assert key in held
