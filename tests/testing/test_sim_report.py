from __future__ import annotations

import re
from array import array
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated import requests, world

from penstock.kit.errors import InvalidInput, Unavailable
from penstock.testing.sim import canvas
from penstock.testing.sim.engine import Request
from penstock.testing.sim.plot import HEIGHT, WIDTH, draw
from penstock.testing.sim.policy import policy_of
from penstock.testing.sim.report import Result, ranked, spread, summed_up


def result(
    policy: str = "fixed:1", *, measure_from_s: float = 0.0, gpu_hour_price: float | None = None
) -> Result:
    played = world(policy_of(policy), end_s=100.0, measure_from_s=measure_from_s)
    played.run([*requests(*(0.5 * n for n in range(1, 150))), Request(99.0, 200_000, 1)])
    return summed_up(played, trace="made-up", policy=policy, seed=0, gpu_hour_price=gpu_hour_price)


def test_a_result_adds_up() -> None:
    got = result()
    assert got.requests == got.answered + sum(got.failed.values()) == 150
    assert got.attainment == pytest.approx(149 / 150)
    assert got.replica_seconds == pytest.approx(100.0)
    assert got.cost == pytest.approx(0.1)
    assert got.replicas_mean == pytest.approx(1.0)
    assert (got.prompt_tokens, got.output_tokens) == (1490, 1490)


def test_the_price_can_be_given() -> None:
    assert result(gpu_hour_price=36.0).cost == pytest.approx(1.0)


def test_what_is_skipped_is_played_but_not_counted() -> None:
    got = result(measure_from_s=50.0)
    assert got.requests == 51
    assert got.span_s == got.replica_seconds == pytest.approx(50.0)
    assert got.course.start_s == 50.0


def test_the_course_has_every_request_and_replica_second() -> None:
    got = result("fixed:3")
    course = got.course
    assert sum(course.requests_per_s) * course.bucket_s == pytest.approx(got.requests, abs=0.01)
    assert sum(course.asked) * course.bucket_s == pytest.approx(got.replica_seconds, rel=1e-3)
    assert got.replicas_peak == max(course.asked) == 3
    assert sum(course.ready) < sum(course.asked)
    assert len(course.ttft_p99_s) == len(course.asked)


def test_results_are_the_same_bytes_every_time() -> None:
    assert msgspec.json.encode(result("kpa:target=1")) == msgspec.json.encode(result("kpa:target=1"))


def test_an_empty_simulation_has_a_result() -> None:
    played = world(policy_of("fixed:1"), end_s=10.0)
    played.run([])
    got = summed_up(played, trace="nothing", policy="fixed:1", seed=0)
    assert (got.requests, got.attainment, got.ttft_s.p99) == (0, 1.0, 0.0)


@given(st.lists(st.floats(0.0, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_the_least_value_that_covers_its_share(values: list[float], share: float) -> None:
    value = ranked(sorted(values), share)
    assert sum(v <= value for v in values) >= share * len(values) - 1e-9
    assert value == min(values) or sum(v < value for v in values) < share * len(values) + 1e-9


def test_a_spread_is_in_order() -> None:
    got = spread(array("d", (float(n) for n in range(1, 101))))
    assert (got.mean, got.p50, got.p90, got.p95, got.p99, got.max) == (50.5, 50.0, 90.0, 95.0, 99.0, 100.0)


def test_an_svg_plot_is_well_formed_and_names_every_policy(tmp_path: Path) -> None:
    path = tmp_path / "p.svg"
    drawn = canvas.canvas_for(path, WIDTH, HEIGHT)
    draw(drawn, [result(), result("kpa:target=1")])
    drawn.save(path)
    texts = {node.text for node in ElementTree.parse(path).iter() if node.tag.endswith("text")}
    assert {"fixed:1", "kpa:target=1", "made-up on plain"} <= texts
    points = re.findall(r'points="([^"]+)"', path.read_text())
    assert all(0 <= float(x) <= WIDTH for line in points for x in re.findall(r"([\d.-]+),", line))


def test_a_png_plot_has_the_asked_size(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "p.png"
    drawn = canvas.canvas_for(path, WIDTH, HEIGHT)
    draw(drawn, [result()])
    drawn.save(path)
    with image.open(path) as opened:
        assert opened.size == (WIDTH * canvas.SCALE, HEIGHT * canvas.SCALE)
        assert len(opened.convert("RGB").getcolors(1 << 20)) > 5


def test_without_pillow_a_png_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(Unavailable) as caught:
        canvas.canvas_for(Path("p.png"), 10, 10)
    assert "penstock[plot]" in caught.value.hint


def test_other_plots_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\.svg or \.png"):
        canvas.canvas_for(Path("p.pdf"), 10, 10)
