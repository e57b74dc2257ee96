"""What loads are made of: made-up workloads, and traces."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from simulated import shared_trace

from penstock.kit.errors import InvalidInput
from penstock.testing.load.arrivals import poisson
from penstock.testing.load.trace import TraceLoad
from penstock.testing.load.workloads import KINDS, PRESETS, workload_of
from penstock.testing.sim.trace import Cut


@pytest.mark.parametrize("name", [*KINDS, *PRESETS])
def test_the_same_seed_gives_the_same_conversations(name: str) -> None:
    workload = workload_of(name)
    first, again, other = (list(islice(workload.conversations(seed), 50)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_each_group_has_its_prompts_and_no_own_text_comes_twice() -> None:
    found = list(islice(workload_of("shared-prefix:groups=5,prompts=4,prefix=100").conversations(0), 40))
    assert Counter(one.system[0].key for one in found[:20]) == {f"prefix {group}": 4 for group in range(5)}
    assert len({one.turns[0].pieces[0].key for one in found}) == 40


def test_skewed_groups_come_in_zipfs_proportions() -> None:
    skewed = workload_of("shared-prefix:groups=8,prompts=400,skew=1")
    asked = list(islice(skewed.conversations(1), 3200))
    counts = Counter(one.system[0].key for one in asked)
    first, second, fourth = (counts[f"prefix {group}"] for group in (0, 1, 3))
    assert first / second == pytest.approx(2.0, rel=0.2)
    assert first / fourth == pytest.approx(4.0, rel=0.2)
    assert len(counts) == 8


def test_of_hot_groups_the_oldest_leaves_after_so_many_prompts_and_comes_back_in_its_turn() -> None:
    drifting = workload_of("shared-prefix:groups=6,hot=3,prompts=50")
    asked = [one.system[0].key for one in islice(drifting.conversations(1), 350)]
    steps = [{key.removeprefix("prefix ") for key in asked[at : at + 50]} for at in range(0, 350, 50)]
    assert steps == [set(hot) for hot in ("012", "123", "234", "345", "450", "501", "012")]


def test_of_hot_groups_that_are_skewed_the_newest_is_asked_for_most() -> None:
    drifting = workload_of("shared-prefix:groups=6,hot=3,prompts=600,skew=0.5")
    counts = Counter(one.system[0].key for one in islice(drifting.conversations(1), 600))
    newest, next_one, oldest = (counts[f"prefix {group}"] for group in (2, 1, 0))
    assert newest / next_one == pytest.approx(2**0.5, rel=0.25)
    assert newest / oldest == pytest.approx(3**0.5, rel=0.25)


def test_the_presets_have_the_published_shapes() -> None:
    [one] = islice(workload_of("llm-d-73").conversations(0), 1)
    assert (one.system[0].tokens, one.turns[0].pieces[0].tokens, one.turns[0].output_tokens) == (
        6000,
        1200,
        1000,
    )
    assert workload_of("kthena-4096:output=7").conversations(0).__next__().turns[0].output_tokens == 7


def test_only_turns_after_the_first_are_thought_about() -> None:
    for one in islice(workload_of("multi-turn:turns=3,think=2").conversations(0), 20):
        assert [turn.think_s > 0 for turn in one.turns] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shared-prefx", "did you mean shared-prefix"),
        ("random:promt=3", "did you mean prompt"),
        ("random:prompt=0", "expected a whole number from 1"),
        ("random:prompt=x", "expected a whole number from 1"),
        ("multi-turn:think=-1", "expected a number from 0"),
        ("trace:x,sped=2", "expected from, to, speed or scale"),
        ("trace:x,speed=y", "could not convert"),
        ("trace:x,from=y", "expected a span of time"),
    ],
)
def test_what_is_not_known_is_said_with_what_is(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        workload_of(text)
    assert said in f"{refused.value.message} {refused.value.hint}"


def test_arrivals_come_at_their_rate_and_slower_during_the_ramp() -> None:
    times = list(islice(poisson(50.0, 10.0, 3), 5000))
    assert times == sorted(times)
    ramped = sum(time < 10.0 for time in times)
    assert ramped == pytest.approx(250, rel=0.2)
    assert sum(time < 5.0 for time in times) == pytest.approx(ramped / 4, rel=0.4)
    assert times[-1] == pytest.approx(105.0, rel=0.05)


def mooncake(path: Path, *lines: tuple[int, int, int, list[int]]) -> Path:
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    path.write_text("".join(json.dumps(dict(zip(names, line, strict=True))) + "\n" for line in lines))
    return path


def test_equal_blocks_of_a_trace_are_equal_texts(tmp_path: Path) -> None:
    path = mooncake(tmp_path / "t.jsonl", (0, 1000, 5, [1, 2]), (500, 1100, 6, [1, 2, 3]), (900, 300, 7, []))
    first, second, third = TraceLoad(path, Cut()).conversations(0)
    assert [one.at_s for one in (first, second, third)] == [0.0, 0.5, 0.9]
    assert [piece.tokens for piece in first.turns[0].pieces] == [512, 488]
    assert first.turns[0].pieces[0] == second.turns[0].pieces[0]
    assert sum(piece.tokens for piece in second.turns[0].pieces) == 1100
    assert sum(piece.tokens for piece in third.turns[0].pieces) == 300


def test_a_recording_of_ones_own_traffic_names_whole_blocks_of_its_own_size(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    line = {"timestamp": 0, "input_length": 150, "output_length": 5, "hash_ids": [1, 2], "block_tokens": 64.0}
    path.write_text(json.dumps(line) + "\n")
    [one] = TraceLoad(path, Cut()).conversations(0)
    assert [piece.tokens for piece in one.turns[0].pieces] == [64, 64, 22]
    assert [piece.key for piece in one.turns[0].pieces][:2] == ["block 1", "block 2"]


def test_a_trace_is_cut_thinned_and_sped_up(tmp_path: Path) -> None:
    path = mooncake(tmp_path / "t.jsonl", *((1000 * n, 600, 5, [n, n + 1]) for n in range(1000)))
    cut = TraceLoad(path, Cut(from_s=100.0, to_s=300.0, speed=2.0))
    assert [one.at_s for one in cut.conversations(0)][:3] == [0.0, 0.5, 1.0]
    assert len(list(cut.conversations(0))) == 200
    thinned = list(TraceLoad(path, Cut(scale=0.25)).conversations(0))
    assert 200 < len(thinned) < 300
    with pytest.raises(InvalidInput, match="scale: found 2"):
        TraceLoad(path, Cut(scale=2.0))
    assert len(list(workload_of(f"trace:{path},from=100s,to=5m,speed=2").conversations(0))) == 200


def test_real_traces_are_read() -> None:
    found = list(
        islice(
            TraceLoad(shared_trace("mooncake_conversation_lt2100000ms.jsonl"), Cut()).conversations(0), 200
        )
    )
    keys = [one.turns[0].pieces[0].key for one in found]
    assert len(found) == 200
    assert len(set(keys)) < 200, "conversations of Mooncake's begin alike"
    azure = TraceLoad(shared_trace("azure2023_conv_to1850.csv"), Cut())
    assert [one.at_s for one in islice(azure.conversations(0), 1)] == [0.0]
