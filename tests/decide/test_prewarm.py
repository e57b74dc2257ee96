"""What a new endpoint computes before it takes requests."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.decide.prewarm import CACHE_SHARE, Beginning, Spare, plan_prewarm

BLOCK = 64
AMPLE = Spare(prefixes=8, seconds=10.0)


def chain(name, blocks):
    """Two chains of one name share their first blocks."""
    return [hash((name, block)) & (2**63 - 1) for block in range(blocks)]


def plan(beginnings, spare=AMPLE, *, others=1, waiting=0):
    return plan_prewarm(beginnings, BLOCK, spare, others=others, waiting=waiting)


def test_the_hottest_are_computed_first():
    cold, hot = Beginning(chain("a", 10), 0.1), Beginning(chain("b", 10), 2.0)
    assert plan([cold, hot]).places == (1, 0)


def test_no_more_than_the_profile_asks_for_are_computed():
    beginnings = [Beginning(chain(name, 10), rate) for name, rate in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    assert plan(beginnings, Spare(prefixes=2, seconds=10.0)).places == (1, 2)
    assert not plan(beginnings, Spare(prefixes=0, seconds=10.0)).places
    assert not plan(beginnings, Spare(prefixes=2, seconds=0.0)).places


def test_a_beginning_of_a_beginning_is_computed_with_it():
    short, long = Beginning(chain("a", 10), 5.0), Beginning(chain("a", 20), 1.0)
    planned = plan([short, long])
    assert planned.places == (1,)
    assert planned.tokens == 20 * BLOCK


def test_what_goes_on_differently_counts_for_what_it_shares():
    shared = chain("s", 10)
    tails = [Beginning(shared + chain(f"t{i}", 3), 0.5) for i in range(4)]
    beginnings = [Beginning(shared, 0.1), *tails, Beginning(chain("other", 10), 1.0)]
    assert plan(beginnings, Spare(prefixes=1, seconds=10.0)).places[0] in range(5)


def test_no_more_is_begun_than_there_is_time_for():
    beginnings = [Beginning(chain("a", 100), 2.0), Beginning(chain("b", 10), 1.0)]
    slow = Spare(prefixes=8, seconds=1.0, prefill_token_s=1 / 1000)
    assert plan(beginnings, slow).places == (1,)


def test_half_of_the_cache_stays_free():
    beginnings = [Beginning(chain("a", 100), 2.0), Beginning(chain("b", 10), 1.0)]
    small = Spare(prefixes=8, seconds=10.0, kv_tokens=100 * BLOCK)
    assert plan(beginnings, small).places == (1,)


def test_nobody_waits_for_an_endpoint_that_is_the_only_one():
    hot = [Beginning(chain("a", 10), 2.0)]
    assert not plan(hot, others=0, waiting=3).places
    assert plan(hot, others=0, waiting=0).places
    assert plan(hot, others=1, waiting=3).places


def test_short_beginnings_are_not_worth_a_request():
    planned = plan([Beginning(chain("a", 3), 100.0)])
    assert not planned.places
    assert planned.reason


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(4, 40), st.floats(0, 10)), max_size=12),
    st.integers(1, 4),
    st.integers(200, 4000),
)
def test_bounds_hold_whatever_is_hot(given_chains, prefixes, kv_tokens):
    beginnings = [Beginning(chain(name, blocks), rate) for name, blocks, rate in given_chains]
    planned = plan(beginnings, Spare(prefixes=prefixes, seconds=5.0, kv_tokens=kv_tokens))
    assert len(planned.places) <= prefixes
    assert len(set(planned.places)) == len(planned.places)
    computed = {key for place in planned.places for key in beginnings[place].hashes}
    assert len(computed) * BLOCK == planned.tokens <= CACHE_SHARE * kv_tokens
