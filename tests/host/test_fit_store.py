"""Observations of what engines took: a file that grows by whole lines."""

from pathlib import Path

import pytest

from penstock.decide.fit_error import Observation
from penstock.host import fit_store
from penstock.host.fit_store import Observations, add_observation, read_observations
from penstock.kit.errors import Unavailable


def seen(at: float = 1.0) -> Observation:
    return Observation(
        model="m", engine="vllm", version="0.21", gpu="h100", predicted_bytes=10, observed_bytes=11, at=at
    )


def test_without_a_file_nothing_was_observed(tmp_path: Path) -> None:
    assert read_observations(tmp_path / "none.jsonl") == ()


def test_what_is_added_is_read_in_its_order_and_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "fit.jsonl"
    for at in (1.0, 2.0):
        add_observation(path, seen(at))
    assert read_observations(path) == (seen(1.0), seen(2.0))
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "fit.jsonl"
    add_observation(path, seen(1.0))
    path.write_bytes(path.read_bytes() + b'{"model": 3}\n\xff\xfe\n[]\n{"model": "cut o')
    assert read_observations(path) == (seen(1.0),)


def test_of_a_long_file_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.jsonl"
    for at in range(100):
        add_observation(path, seen(float(at)))
    monkeypatch.setattr(fit_store, "MAX_BYTES", 1000)
    found = read_observations(path)
    assert 0 < len(found) < 10 and found[-1] == seen(99.0)


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"a file")
    with pytest.raises(Unavailable, match="cannot be written to"):
        add_observation(tmp_path / "state" / "fit.jsonl", seen())


def test_a_file_that_has_grown_long_loses_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_store, "MAX_BYTES", 1000)
    path = tmp_path / "fit.jsonl"
    for at in range(100):
        add_observation(path, seen(float(at)))
        assert path.stat().st_size <= 2200
    assert read_observations(path)[-1] == seen(99.0)


def test_a_file_is_read_anew_only_when_it_changed(tmp_path: Path) -> None:
    observations = Observations(tmp_path / "fit.jsonl")
    assert observations.read() == ()
    observations.add(seen(1.0))
    first = observations.read()
    assert first == (seen(1.0),) and observations.read() is first
    observations.add(seen(2.0))
    assert len(observations.read()) == 2
