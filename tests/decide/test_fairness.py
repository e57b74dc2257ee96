"""Among accounts whose requests wait, computation is shared by their weights, and nobody waits for ever."""

from __future__ import annotations

import time
from collections import Counter, deque
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.decide.fairness import LEAST_TOKENS, QUANTUM_TOKENS, Turns

tokens = st.floats(0, 200_000)
weights = st.floats(0.1, 10)
Entry = tuple[str, int]


def joined(turns: Turns[Entry], account: str, costs: list[float], weight: float = 1.0) -> None:
    for number, cost in enumerate(costs):
        turns.join((account, number), account, weight, cost)


def taken(turns: Turns[Entry], most: int) -> list[Entry]:
    return [turns.take() for _ in range(min(most, len(turns)))]


@given(st.lists(st.tuples(st.sampled_from("abc"), tokens, weights), max_size=40), st.data())
def test_who_joins_has_one_turn_unless_he_leaves_and_accounts_keep_their_own_order(
    arrivals: list[tuple[str, float, float]], data: st.DataObject
) -> None:
    turns: Turns[Entry] = Turns()
    waiting: dict[str, deque[Entry]] = {account: deque() for account in "abc"}
    for number, (account, cost, weight) in enumerate(arrivals):
        turns.join((account, number), account, weight, cost)
        waiting[account].append((account, number))
        act = data.draw(st.sampled_from(["nothing", "take", "leave"]))
        if act == "take":
            first = turns.first()
            taken_one = turns.take()
            assert taken_one == first == waiting[taken_one[0]].popleft()
        elif act == "leave":
            mine = [entry for queue in waiting.values() for entry in queue]
            if mine:
                gone = data.draw(st.sampled_from(mine))
                turns.leave(gone, gone[0])
                waiting[gone[0]].remove(gone)
        assert len(turns) == sum(map(len, waiting.values()))
    for _ in range(len(turns)):
        account, number = turns.take()
        assert waiting[account].popleft() == (account, number)
    assert turns.first() is None
    assert not any(waiting.values())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(weights, st.lists(tokens, min_size=1, max_size=5)), min_size=2, max_size=5))
def test_shares_of_those_who_always_have_something_waiting_are_those_of_their_weights(
    accounts: list[tuple[float, list[float]]],
) -> None:
    """At any time, two differ by no more than what either may spend ahead: two rounds' worth, and one request."""
    turns: Turns[Entry] = Turns()
    costs = [[max(LEAST_TOKENS, cost) for cost in own] for _, own in accounts]
    numbers = count()
    given_costs: dict[Entry, float] = {}

    def ask(i: int, n: int) -> None:
        entry = (str(i), next(numbers))
        given_costs[entry] = costs[i][n % len(costs[i])]
        turns.join(entry, str(i), accounts[i][0], given_costs[entry])

    asked, served = Counter[int](), [0.0] * len(accounts)
    for i in range(len(accounts)):
        for n in range(3):
            ask(i, n)
        asked[i] = 3
    for _ in range(300):
        entry = turns.take()
        i = int(entry[0])
        served[i] += given_costs[entry]
        ask(i, asked[i])
        asked[i] += 1
    spent = [served[i] / accounts[i][0] for i in range(len(accounts))]
    ahead = [2 * QUANTUM_TOKENS + max(costs[i]) / accounts[i][0] for i in range(len(accounts))]
    for i in range(len(accounts)):
        for j in range(i):
            assert abs(spent[i] - spent[j]) <= ahead[i] + ahead[j] + 1e-6 * max(spent)


def test_what_is_cached_costs_little() -> None:
    turns: Turns[Entry] = Turns()
    joined(turns, "cached", [0.0] * 1000)
    joined(turns, "uncached", [6400.0] * 1000)
    served = Counter(account for account, _ in taken(turns, 505))
    assert 80 <= served["cached"] / served["uncached"] <= 125


@given(
    st.lists(st.tuples(weights, tokens), min_size=1, max_size=6),
    st.integers(0, 30),
    st.floats(0, QUANTUM_TOKENS),
)
def test_a_flood_does_not_delay_another_accounts_short_prompt_beyond_a_bound_that_the_flood_does_not_change(
    floods: list[tuple[float, float]], before: int, short: float
) -> None:
    turns: Turns[Entry] = Turns()
    for i, (weight, cost) in enumerate(floods):
        joined(turns, f"flood-{i}", [cost] * 400, weight)
    taken(turns, before)
    turns.join(("quiet", 0), "quiet", 1.0, short)
    spent = [0.0] * len(floods)
    while (entry := turns.take()) != ("quiet", 0):
        flood = int(entry[0].removeprefix("flood-"))
        spent[flood] += max(LEAST_TOKENS, floods[flood][1])
    for i, (weight, cost) in enumerate(floods):
        assert spent[i] <= 2 * weight * QUANTUM_TOKENS + max(LEAST_TOKENS, cost) + 1e-6


def test_nobody_starves_while_new_accounts_keep_coming() -> None:
    turns: Turns[Entry] = Turns()
    joined(turns, "large", [100_000.0] * 2)
    joined(turns, "old", [10.0] * 5)
    seen = []
    for number in range(2_000):
        turns.join((f"new-{number}", 0), f"new-{number}", 1.0, 50.0)
        seen.append(turns.take())
    assert [entry for entry in seen if entry[0] == "old"] == [("old", n) for n in range(5)]
    assert ("large", 1) in seen


def test_what_is_owed_is_remembered_while_others_wait_also_by_who_asks_for_one_at_a_time() -> None:
    turns: Turns[Entry] = Turns()
    joined(turns, "patient", [2_048.0] * 200)
    turns.join(("greedy", 0), "greedy", 1.0, 20_480.0)
    order = []
    for number in range(1, 100):
        entry = turns.take()
        order.append(entry[0])
        if entry[0] == "greedy":
            turns.join(("greedy", number), "greedy", 1.0, 20_480.0)
    assert 8 <= order.count("greedy") <= 10, "a tenth of the requests, which is half of the tokens"


def test_a_choice_costs_the_same_whatever_requests_cost_and_however_many_wait() -> None:
    def seconds(accounts: int, cost: float) -> float:
        turns: Turns[Entry] = Turns()
        for number in range(10_000):
            turns.join(("", number), str(number % accounts), 1.0, cost)
        began = time.thread_time()
        taken(turns, 10_000)
        return time.thread_time() - began

    assert max(seconds(10, 1e6), seconds(10_000, 1e6)) < 50 * seconds(10, 100.0)
