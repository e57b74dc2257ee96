from __future__ import annotations

from pathlib import Path

import pytest

from penstock.engine.simulated.profile import (
    MAY_LACK,
    NOT_NEGATIVE,
    POSITIVE,
    PROFILES,
    load_profile,
    profile_names,
)
from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.sim.replica import Replica


@pytest.mark.parametrize("name", profile_names())
def test_shipped_profiles_say_where_each_figure_is_from(name: str) -> None:
    got = load_profile(name)
    assert got.name == name
    assert set(got.sources) == {"start", *POSITIVE, *NOT_NEGATIVE, *MAY_LACK}
    assert all(len(source) > 10 for source in got.sources.values())


def test_the_profiles_asked_for_are_there() -> None:
    assert {"llama-8b-h100", "llama-8b-a100", "llama-8b-l4", "llama-70b-4xh100"} <= set(profile_names())


def changed(folder: Path, old: str, new: str) -> Path:
    path = folder / "own.yaml"
    path.write_text((PROFILES / "llama-8b-h100.yaml").read_text().replace(old, new))
    return path


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    assert load_profile(str(changed(tmp_path, "name: llama-8b-h100", "name: mine"))).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("gpus: 1", "gpus: 0", "gpus: found 0, expected more than 0"),
        ("prefill_tokens_per_s: 15928", "prefill_tokens_per_s: fast", "prefill_tokens_per_s"),
        ("max_sequences: 256", "max_sequencs: 256", "max_sequencs"),
        ("overhead_s: 0.0075", "overhead_s: -1", "overhead_s: found -1.0, expected 0 or more"),
        ("placing_s: 1.0", "placing_s: -1", "start.placing_s"),
        ('  max_sequences: "vLLM\'s default max_num_seqs"\n', "", "sources.max_sequences: missing"),
        ('  gpus: "', '  gpu: "', "sources.gpus: missing"),
        ("block_tokens: 16", "block_tokens: 0", "block_tokens: found 0, expected more than 0"),
        ('  adapter_slots: "', '  adapter_slot: "', "sources.adapter_slots: missing"),
        ("gpus: 1", "gpus: [", "own.yaml"),
    ],
)
def test_a_wrong_profile_is_refused_by_field(tmp_path: Path, old: str, new: str, found: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_profile(str(changed(tmp_path, old, new)))
    assert found in caught.value.message


def test_an_unknown_profile_is_answered_with_the_nearest() -> None:
    with pytest.raises(NotFound) as caught:
        load_profile("llama-8b-h200")
    assert "llama-8b-h100" in caught.value.hint


def test_a_start_goes_through_its_phases() -> None:
    profile = load_profile("llama-8b-h100")
    replica = Replica("r", 0, profile, 0.0)
    assert replica.phase(5.0) == "placing", "it waits for its GPUs"
    ready_at = replica.place(10.0)
    assert [replica.phase(at) for at in (10.5, 11.5, 30.0)] == ["placing", "loading", "warming"]
    replica.become_ready(ready_at)
    assert replica.phase(ready_at) == ""
