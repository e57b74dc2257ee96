"""A recording is played again under other profiles, by the gateway's own router."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from penstock.contracts.exchange import PluginRoute, RoutingRoute
from penstock.engine.simulated.profile import load_profile
from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.routing.counterfactual import Play, Rival, compare
from penstock.testing.routing.recorded import Replayed, read_recorded

BLOCK = 64
GROUPS, EACH = 12, 20


def written(path: Path, **changed: Any) -> Path:
    """Groups of requests with long shared beginnings, mixed, over two minutes."""
    chance = Random("recording")
    order = [group for group in range(GROUPS) for _ in range(EACH)]
    chance.shuffle(order)
    lines = []
    for place, group in enumerate(order):
        shared = [group * 100 + n for n in range(64)]
        line = {
            "timestamp": place * 500.0,
            "input_length": 70 * BLOCK,
            "output_length": 20,
            "hash_ids": [*shared, *(10_000 + place * 6 + n for n in range(6))],
            "block_tokens": float(BLOCK),
            "session": group + 1,
            "model": "default/m",
            "endpoint": f"e{place % 4}",
            "cached": 64 * BLOCK if place % 2 else 0,
            **changed,
        }
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_recording_says_its_size_its_blocks_and_its_hits(tmp_path: Path) -> None:
    recorded = read_recorded(written(tmp_path / "own.jsonl"))
    assert (len(recorded.lines), recorded.block_tokens, recorded.endpoints) == (GROUPS * EACH, BLOCK, 4)
    assert recorded.hit_share == pytest.approx(32 / 70)
    asks = list(Replayed(recorded, speed=2.0, from_s=10.0, to_s=20.0).arrivals())
    assert [ask.at for ask in asks[:3]] == [0.0, 0.25, 0.5]
    assert len(asks) == 20
    assert all(len(ask.hashes) == 70 for ask in asks)


def test_mooncakes_lines_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]}\n')
    recorded = read_recorded(path)
    assert (recorded.block_tokens, recorded.endpoints, recorded.hit_share) == (512, 0, -1.0)
    (ask,) = Replayed(recorded).arrivals()
    assert len(ask.hashes) == 2


def test_of_blocks_of_another_size_only_lengths_count(tmp_path: Path) -> None:
    path = written(tmp_path / "own.jsonl")
    odd = {
        "timestamp": 1e9,
        "input_length": 640,
        "output_length": 1,
        "hash_ids": [0, 1],
        "block_tokens": 128.0,
    }
    path.write_text(path.read_text() + json.dumps({**odd, "model": "default/m"}) + "\n")
    asks = list(Replayed(read_recorded(path)).arrivals())
    assert (asks[-1].prompt_tokens, len(asks[-1].hashes)) == (640, 0)


def test_what_cannot_be_played_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="found no file"):
        read_recorded(tmp_path / "none.jsonl")
    path = tmp_path / "bad.jsonl"
    path.write_text('{"timestamp": "x"}\n')
    with pytest.raises(InvalidInput, match=r"bad\.jsonl:1: found"):
        read_recorded(path)
    several = written(tmp_path / "several.jsonl")
    several.write_text(several.read_text() + several.read_text().replace("default/m", "default/n"))
    with pytest.raises(InvalidInput, match="found 2 models"):
        read_recorded(several)
    assert len(read_recorded(several, "default/n").lines) == GROUPS * EACH
    with pytest.raises(InvalidInput, match="takes 119"):
        Replayed(read_recorded(several, "default/n"), from_s=1000.0)


def test_a_profile_that_looks_at_caches_saves_what_one_that_does_not_computes_again(tmp_path: Path) -> None:
    recorded = read_recorded(written(tmp_path / "own.jsonl"))
    play = Play(engine=load_profile("llama-8b-l4"), replicas=4)
    blind = RoutingRoute(profile="blind", scorers=(PluginRoute(name="running"),), kv_events=False)
    rivals = [
        Rival("blind", blind),
        Rival("built-in", RoutingRoute()),
        Rival("peer:round-robin", None, "round-robin"),
    ]
    told: list[tuple[int, float]] = []
    first, ours, robin = compare(recorded, rivals, play, lambda place, share: told.append((place, share)))
    assert (first.saved_prefill_s, first.saved_ttft_s) == (0.0, 0.0)
    assert ours.figures.hit_share > first.figures.hit_share + 0.1
    assert ours.computed_tokens < first.computed_tokens
    assert ours.saved_prefill_s == pytest.approx(first.prefill_s - ours.prefill_s)
    assert ours.saved_prefill_s > 0
    assert ours.saved_ttft_s > 0
    assert [one.figures.errors for one in (first, ours, robin)] == [0, 0, 0]
    assert {place for place, _ in told} == {0, 1, 2}
    assert compare(recorded, rivals[:2], play, lambda *_: None) == [first, ours]
