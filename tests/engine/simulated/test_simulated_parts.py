"""The parts of a simulated engine: its blocks, its pace, its adapters, its tokenizer, its faults."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engine.simulated.adapters import AdapterSlots
from penstock.engine.simulated.blocks import BlockPool
from penstock.engine.simulated.byte_text import ByteText
from penstock.engine.simulated.faults import Fault, read_fault
from penstock.engine.simulated.live import block_hashes
from penstock.engine.simulated.pace import Pace
from penstock.kit.errors import InvalidInput


def test_a_pool_evicts_tails_before_heads_and_what_is_idle_longest_first() -> None:
    pool = BlockPool(6, records=True)
    for chain in ((1, 2, 3), (4, 5)):
        pool.hold(chain, *pool.match(chain))
        pool.release(chain, 0)
    pool.hold((1,), *pool.match((1,)))
    pool.grow(4)
    assert pool.removed == [3, 2, 5], "one was blank"
    assert (pool.used, pool.free, pool.cached) == (5, 1, {1, 4})


def test_a_shared_block_is_idle_when_its_last_user_is_gone() -> None:
    pool = BlockPool(4)
    pool.hold((1, 2), *pool.match((1, 2)))
    pool.hold((1,), *pool.match((1,)))
    pool.release((1, 2), 0)
    assert (pool.used, pool.match((1, 2, 3))) == (1, (2, 1))
    pool.release((1,), 0)
    assert (pool.used, pool.match((1, 2, 3))) == (0, (2, 2))


def test_a_block_that_turns_out_to_be_known_is_room_again() -> None:
    pool = BlockPool(4)
    pool.hold((7,), *pool.match((7,)))
    pool.grow(1)
    pool.name((7,))
    assert (pool.used, pool.free) == (1, 3)


@given(st.floats(1e-4, 0.1), st.floats(0, 1e-3), st.integers(1, 3000))
def test_the_pace_counts_as_many_steps_as_it_took(step_s: float, more_s: float, steps: int) -> None:
    pace = Pace()
    pace.step_s, pace.more_s = step_s, more_s
    walked = sum(step_s + more_s * i for i in range(steps))
    assert pace.passed_s(steps) == pytest.approx(walked)
    assert pace.steps_by(pace.passed_s(steps)) == steps
    assert pace.steps_by(pace.passed_s(steps) + step_s / 2) == steps + 1


def test_an_adapter_makes_way_only_when_nobody_runs_it() -> None:
    slots = AdapterSlots(2)
    assert [slots.take(name) for name in "aab"] == [True, False, True]
    assert (slots.has_room("c"), slots.has_room("b")) == (False, True)
    slots.leave("b")
    assert slots.has_room("c")
    assert slots.take("c")
    assert slots.loaded == ("a", "c")


@given(st.text())
def test_bytes_come_back_as_the_text_they_were(text: str) -> None:
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    tokens, decode = ByteText().encode(text), ByteText().decoder()
    assert "".join(map(decode, tokens)) == text
    assert len(tokens) == -(-len(text.encode()) // 4) or "<|" in text


def test_an_answer_has_the_same_tokens_in_the_next_turn() -> None:
    text = ByteText()
    asked = [{"role": "user", "content": "odd!!"}]
    answered = [*asked, {"role": "assistant", "content": "and our was "}]
    prompt, spoken = text.encode(text.render(asked, None)), text.encode("and our was ")
    again = text.encode(text.render([*answered, *asked], None))
    assert list(islice(again, len(prompt) + len(spoken))) == [*prompt, *spoken]


def test_blocks_are_named_by_all_before_them_and_by_their_adapter() -> None:
    one, two = block_hashes(range(64), 16, ""), block_hashes([9, *range(1, 70)], 16, "")
    assert len(one) == len(two) == 4
    assert not set(one) & set(two)
    assert not set(one) & set(block_hashes(range(64), 16, "poet"))
    assert block_hashes(range(40), 16, "") == one[:2]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("error", Fault("error")), ("delay=2.5:0.1", Fault("delay", 2.5, 0.1)), ("cut=3", Fault("cut", 3.0))],
)
def test_a_fault_is_read(text: str, fault: Fault) -> None:
    assert read_fault(text, "--fault") == fault


@pytest.mark.parametrize("text", ["", "eror", "error:2", "delay=-1", "delay=soon"])
def test_a_wrong_fault_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="--fault"):
        read_fault(text, "--fault")
