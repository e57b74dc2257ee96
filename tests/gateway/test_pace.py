"""How fast services complete requests, and how many retries they have left."""

from __future__ import annotations

import pytest

from penstock.contracts.exchange import RouteTable
from penstock.decide.retry_budget import AT_REST
from penstock.gateway.pace import Pace

KEY = ("default", "iris")


def test_the_drain_rate_is_found_within_seconds_and_follows_a_change() -> None:
    pace, now = Pace(), 100.0
    for _ in range(60):
        now += 0.05
        pace.arrived(KEY, now)
        pace.finished(KEY, now)
    assert pace.drain_per_s(KEY, now) == pytest.approx(20.0, rel=0.1)
    for _ in range(100):
        now += 0.5
        pace.arrived(KEY, now)
        pace.finished(KEY, now)
    assert pace.drain_per_s(KEY, now) == pytest.approx(2.0, rel=0.15)
    assert pace.drain_per_s(KEY, now + 300.0) < 0.01


def test_an_outage_is_retried_by_a_fifth_of_requests_and_three_per_second() -> None:
    pace, now, made = Pace(), 100.0, 0
    for _ in range(100 * 100):
        now += 0.01
        pace.arrived(KEY, now)
        if pace.budget(KEY, now) >= 1.0:
            pace.retried(KEY)
            made += 1
    assert made == pytest.approx(AT_REST + 100 * (3 + 0.2 * 100), rel=0.02)


def test_services_have_budgets_of_their_own_and_one_unknown_is_at_rest() -> None:
    pace = Pace()
    pace.arrived(KEY, 1.0)
    for _ in range(40):
        pace.retried(KEY)
    assert pace.budget(KEY, 1.0) < 1.0
    assert pace.budget(("default", "other"), 1.0) == AT_REST
    assert pace.drain_per_s(("default", "other"), 1.0) == 0.0


def test_what_is_gone_from_the_table_is_forgotten() -> None:
    pace = Pace()
    pace.arrived(KEY, 1.0)
    pace.retried(KEY)
    pace.keep(RouteTable(version=1))
    pace.finished(KEY, 2.0)
    pace.retried(KEY)
    assert pace.budget(KEY, 2.0) == AT_REST
