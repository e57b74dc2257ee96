from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, pstdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import shared_trace

from penstock.kit.errors import InvalidInput, NotFound
from penstock.testing.sim.trace import Cut, Trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
TOKENS = "client,window_start_s,in_p10,in_p25,in_p50,in_p75,in_p90,in_p95,in_p99,in_max,out_p10,out_p25,out_p50,out_p75,out_p90,out_p95,out_p99,out_max\n"
ARRIVALS = "client,window_start_s,rate_rps,cv,interarrival,p1,p2\n"


def azure(folder: Path, count: int = 100, gap_s: int = 1) -> Path:
    lines = [
        f"2023-11-16 18:{n * gap_s // 60:02d}:{n * gap_s % 60:02d}.1234567,{n + 1},{n + 2}\n"
        for n in range(count)
    ]
    path = folder / "azure.csv"
    path.write_text(AZURE + "".join(lines))
    return path


def servegen(folder: Path, *windows: str) -> Path:
    path = folder / "small_arrivals.csv"
    path.write_text(ARRIVALS + "\n".join(windows) + "\n")
    (folder / "small_tokens.csv").write_text(
        TOKENS
        + "1,0,10,20,30,40,50,60,70,80,1,2,3,4,5,6,7,8\n1,21600,1000,1000,1000,1000,1000,1000,1000,1000,9,9,9,9,9,9,9,9\n"
    )
    return path


def test_azure_times_are_utc_and_tokens_are_read(tmp_path: Path) -> None:
    trace = Trace(azure(tmp_path, 3), Cut(), 0)
    first, second, third = trace
    assert first.arrived_at == pytest.approx(1700157600.123456, abs=1e-5)
    assert (second.prompt_tokens, second.output_tokens) == (2, 3)
    assert third.arrived_at < trace.end_s == pytest.approx(trace.start_s + 3.0)


def test_mooncake_counts_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [
        {"timestamp": 1500 * n, "input_length": 10, "output_length": 0, "hash_ids": [1]} for n in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [(r.arrived_at, r.output_tokens) for r in Trace(path, Cut(), 0)] == [(0.0, 1), (1.5, 1), (3.0, 1)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("what,is,this\n1,2,3\n", "b.csv:1: found 'what,is,this', expected an Azure CSV"),
        (AZURE, "b.csv:2: found no request"),
        (AZURE + "2023-11-16 18:00:00,1,2\nyesterday,1,2\n2023-11-16 18:00:01,1,2\n", "b.csv:3: found 'yesterday,1,2'"),
        (AZURE + "2023-11-16 18:00:00,1,2\n2023-11-16 18:00:01,-1,2\n2023-11-16 18:00:02,1,2\n", "b.csv:3: found -1 and 2 tokens"),
        (AZURE + "2023-11-16 18:00:05,1,2\n2023-11-16 18:00:01,1,2\n2023-11-16 18:00:06,1,2\n", "b.csv:3: found a time before"),
        (AZURE + "2023-11-16 18:00:05,1,2\n2023-11-16 18", "b.csv: last line: found"),
        ('{"timestamp": 0}\n', "b.csv:1: found '{\"timestamp\": 0}'"),
        ("client,window_start_s,rate\n", "b.csv:1: found no column 'rate_rps'"),
        (ARRIVALS + "1,0,-3,1,Gamma,1,1\n", "b.csv:2: found '1,0,-3,1,Gamma,1,1'"),
        (ARRIVALS + "1,0,3,1,Poisson,1,1\n", "interarrival must be Gamma or Weibull"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "b.csv"
    path.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        list(Trace(path, Cut(), 0))
    assert found in caught.value.message


def test_servegen_needs_both_files(tmp_path: Path) -> None:
    path = servegen(tmp_path, "1,0,1,1,Gamma,1,1")
    (tmp_path / "small_tokens.csv").unlink()
    with pytest.raises(NotFound, match="token lengths"):
        Trace(path, Cut(), 0)


def test_a_missing_trace_is_named() -> None:
    with pytest.raises(NotFound, match=r"no/such\.csv"):
        Trace(Path("no/such.csv"), Cut(), 0)


def test_a_cut_beyond_the_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"takes 100\.0 s"):
        Trace(azure(tmp_path), Cut(from_s=200.0), 0)


def test_a_slice_has_the_requests_of_its_time(tmp_path: Path) -> None:
    trace = Trace(azure(tmp_path), Cut(from_s=10.0, to_s=20.0), 0)
    assert [r.prompt_tokens for r in trace] == list(range(11, 21))
    assert trace.end_s - trace.start_s == 10.0


def test_speed_divides_the_gaps(tmp_path: Path) -> None:
    trace = Trace(azure(tmp_path), Cut(speed=4.0), 0)
    assert trace.end_s - trace.start_s == pytest.approx(25.0)
    assert all(b.arrived_at - a.arrived_at == pytest.approx(0.25, abs=1e-5) for a, b in pairwise(trace))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 4.0), st.integers(0, 5))
def test_a_scale_multiplies_the_number_and_keeps_order(
    tmp_path_factory: pytest.TempPathFactory, scale: float, seed: int
) -> None:
    path = azure(tmp_path_factory.mktemp("t"), 1000)
    got = list(Trace(path, Cut(scale=scale), seed))
    assert len(got) == pytest.approx(1000 * scale, abs=80)
    assert all(a.arrived_at <= b.arrived_at for a, b in pairwise(got))


def test_a_seed_decides_and_the_same_seed_decides_the_same(tmp_path: Path) -> None:
    path = azure(tmp_path, 500)

    def drawn(seed: int) -> list[tuple[float, int]]:
        return [(r.arrived_at, r.service) for r in Trace(path, Cut(scale=0.5), seed, services=5)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_services_share_a_trace_by_zipfs_law(tmp_path: Path) -> None:
    got = [r.service for r in Trace(azure(tmp_path, 3000), Cut(), 0, services=50)]
    assert 0.25 < got.count(0) / len(got) < 0.37
    assert set(got) <= set(range(50))


@pytest.mark.parametrize(
    ("law", "shape", "spread"), [("Gamma", 0.25, 2.0), ("Gamma", 1.0, 1.0), ("Weibull", 1.0, 1.0)]
)
def test_servegen_windows_have_their_rate_and_burstiness(
    tmp_path: Path, law: str, shape: float, spread: float
) -> None:
    path = servegen(tmp_path, f"1,0,10,{spread},{law},{shape},1", f"1,600,2,{spread},{law},{shape},1")
    got = [r.arrived_at for r in Trace(path, Cut(), 3)]
    early = [at for at in got if at < 600.0]
    assert len(early) == pytest.approx(6000, rel=0.12)
    assert len(got) - len(early) == pytest.approx(1200, rel=0.25)
    gaps = [b - a for a, b in pairwise(early)]
    assert pstdev(gaps) / mean(gaps) == pytest.approx(spread, rel=0.12)


def test_servegen_lengths_come_from_their_quantiles_and_window(tmp_path: Path) -> None:
    path = servegen(tmp_path, "1,0,10,1,Gamma,1,1", "1,21600,1,1,Gamma,1,1")
    early = [r.prompt_tokens for r in Trace(path, Cut(to_s=600.0), 0)]
    assert 10 <= min(early) <= max(early) <= 80
    assert sorted(early)[len(early) // 2] == pytest.approx(30, abs=2)
    late = next(iter(Trace(path, Cut(from_s=21600.0), 0)))
    assert (late.prompt_tokens, late.output_tokens) == (1000, 9)


def test_a_servegen_client_without_lengths_draws_from_the_others(tmp_path: Path) -> None:
    path = servegen(tmp_path, "7,0,10,1,Gamma,1,1")
    assert max(r.prompt_tokens for r in Trace(path, Cut(), 0)) <= 1000


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("azure2023_conv_to1850.csv", (374, 44)),
        ("azure2023_code_to1850.csv", (4808, 10)),
        ("mooncake_conversation_lt2100000ms.jsonl", (6758, 500)),
        ("mooncake_synthetic_lt600000ms.jsonl", (40160, 6)),
    ],
)
def test_published_traces_are_read(name: str, first: tuple[int, int]) -> None:
    got = list(islice(Trace(shared_trace(name), Cut(), 0), 500))
    assert (got[0].prompt_tokens, got[0].output_tokens) == first
    assert len(got) == 500
    assert all(a.arrived_at <= b.arrived_at for a, b in pairwise(got))


def test_servegens_week_streams_at_its_published_rate() -> None:
    path = shared_trace("servegen_m-small_week1_arrivals.csv")
    trace = Trace(path, Cut(scale=0.001), 0)
    assert trace.end_s - trace.start_s == pytest.approx(7 * 86400, abs=600)
    first_day = sum(1 for _ in Trace(path, Cut(scale=0.001, to_s=86400.0), 0))
    assert 391 * 86.4 <= first_day <= 2273 * 86.4
