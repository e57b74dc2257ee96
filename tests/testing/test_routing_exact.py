"""What must not change however fast the routing simulator gets: peers' decisions, to the last bit, and what they are summed up from."""

from __future__ import annotations

from fractions import Fraction
from statistics import pstdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.engine.simulated.profile import load_profile
from penstock.testing.routing.holders import Holders
from penstock.testing.routing.policies.aibrix_vtc import Range
from penstock.testing.routing.registry import policy_module, policy_names
from penstock.testing.routing.shared_prefix import OpenLoop, Shape
from penstock.testing.routing.world import World

PINNED = {
    "aibrix-preble": (491776, 0.6185431566975227),
    "aibrix-prefix": (433856, 0.7634696196965284),
    "aibrix-vtc": (299072, 9.898514737433775),
    "dynamo": (395968, 0.8305947264082375),
    "dynamo-approximate": (400192, 0.7879726677404121),
    "kthena-kv-aware": (429632, 0.7457379357910158),
    "kthena-least-request": (254336, 2.007306460857064),
    "kthena-prefix": (425280, 0.807016800529648),
    "least-request": (210816, 2.54397635998394),
    "llm-d-default": (491776, 0.6084094241217658),
    "llm-d-precise": (466816, 0.6853791196452058),
    "llm-d-sticky": (491776, 0.6371482471973388),
    "oracle": (479296, 0.6240007645224512),
    "power-of-two": (251264, 2.1760164365877905),
    "production-stack-prefix": (491776, 0.6537832548861198),
    "production-stack-session": (226368, 2.354719007055062),
    "random": (225344, 2.526106660424398),
    "ray-prefix": (491776, 0.6215371442034703),
    "round-robin": (225728, 2.3464653463306053),
    "sglang-cache-aware": (491776, 0.6148971945707591),
    "sglang-cache-aware-cli": (491776, 0.6148971945707591),
    "smg-least-load": (210816, 2.54397635998394),
    "smg-prefix-hash": (332544, 1.2791778544663173),
    "vllm-router-kv-aware": (491776, 0.6148971945707591),
    "vllm-router-smetric": (246912, 2.168924577439825),
}
"""By peer: tokens found in caches, and the mean time of an answer in s."""


@pytest.mark.parametrize("name", sorted(PINNED))
def test_a_peers_figures_stay_the_same_to_the_last_bit(name: str) -> None:
    engine = replace(load_profile("llama-8b-h100"), block_tokens=64, kv_tokens=60_000)
    shape = Shape(groups=24, prompts=4, shared_tokens=4096, own_tokens=128, output_tokens=64, block_tokens=64)
    world = World(engine, 5, policy_module(name).open_policy, seed=1)
    figures = world.run(OpenLoop("pinned", shape, [10.0, 40.0], 3.0, 1))
    assert (figures.hit_tokens, figures.e2e_mean_s) == PINNED[name]


def test_all_peers_are_pinned() -> None:
    assert {name for name in policy_names() if not name.startswith("penstock")} == set(PINNED)


HELD = st.lists(st.tuples(st.booleans(), st.integers(0, 70), st.integers(0, 6), st.integers(0, 6)))


@given(HELD)
def test_holders_are_those_of_each_block_from_the_start(changes: list[tuple[bool, int, int, int]]) -> None:
    holders, plain = Holders(), dict[int, set[int]]()
    for gives, replica, first, count in changes:
        has = plain.setdefault(replica, set())
        if gives:
            holders.give(replica, range(first, first + count))
            has.update(range(first, first + count))
        else:
            gone = [key for key in range(first, first + count) if key in has]
            holders.take(replica, gone)
            has.difference_update(gone)
    for chain in ([0, 1, 2, 3, 4, 5], [3, 4], [9], []):
        expected = {
            replica: next((n for n, key in enumerate(chain) if key not in has), len(chain))
            for replica, has in plain.items()
        }
        assert holders.leading(chain) == {replica: n for replica, n in expected.items() if n}


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9))))
def test_a_range_is_that_of_what_its_numbers_are_now(changes: list[tuple[int, int]]) -> None:
    numbers, spread = dict[int, int](), Range()
    for which, after in changes:
        spread.change(numbers.get(which), after)
        numbers[which] = after
        assert (spread.least(), spread.most()) == (min(numbers.values()), max(numbers.values()))
    assert numbers or (spread.least(), spread.most()) == (0, 0)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=64))
def test_aibrix_is_too_busy_beyond_the_exact_deviation(busy: list[int]) -> None:
    policy = policy_module("aibrix-prefix")
    most = policy.usual(busy)  # type: ignore[attr-defined]
    mean = Fraction(sum(busy), len(busy))
    variance = sum((one - mean) ** 2 for one in busy) / len(busy)
    for one in range(max(busy) + 2):
        assert (one <= most) == (one <= mean or (one - mean) ** 2 <= variance)
    assert most == pytest.approx(float(mean) + pstdev(busy))
