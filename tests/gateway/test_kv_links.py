"""Which block follows which."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.gateway.kv_links import Links

WORDS = st.text("ab", min_size=1, max_size=5)
STEPS = st.lists(st.tuples(st.booleans(), WORDS), max_size=30)


def beginnings(word):
    return [hash(word[: end + 1]) & (2**64 - 1) for end in range(len(word))]


@given(STEPS)
def test_it_says_when_a_block_goes_while_one_that_follows_on_it_stays(steps):
    links, held = Links(), {}
    for is_added, word in steps:
        chain = beginnings(word)
        if is_added:
            links.add(0, chain, [key for key in chain if key not in held])
            held.update(zip(chain, [0, *chain], strict=False))
        elif chain[-1] in held:
            del held[chain[-1]]
            follows = chain[-1] in held.values()
            assert links.remove(chain[-1:]) == follows
            if follows:
                return
    everything = [*held]
    assert not links.remove(everything)
    assert not any(links._before)
    assert not any(links._followers)
