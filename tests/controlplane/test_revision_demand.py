"""What the laws read of a revision's demand: gateways' reports, first requests, and looks at KV caches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock.contracts.exchange import RevisionDemand
from penstock.controlplane.autoscaling.demand import Demand
from penstock.decide.sampling import Held
from penstock.resources.autoscaler_settings import AutoscalerSettings

SETTINGS = AutoscalerSettings()
KV = replace(SETTINGS, metric="kv-cache-use")


def seen(in_flight: float) -> RevisionDemand:
    return RevisionDemand(name="r", in_flight=in_flight)


def test_reports_of_several_gateways_add_up() -> None:
    demand = Demand(SETTINGS)
    for at in range(100, 110):
        demand.report("a", seen(3.0), Held(), 1.0, at)
        demand.report("b", seen(4.0), Held(1.0), 1.0, at)
    assert demand.averages(109) == (8.0, 8.0)


def test_the_first_request_counts_at_once_and_is_not_counted_again() -> None:
    demand = Demand(SETTINGS)
    demand.poke("a", 100)
    demand.poke("a", 100)
    assert demand.averages(100) == (1.0, 1.0)
    demand.report("a", seen(1.0), Held(), 0.1, 100)
    assert demand.averages(100) == pytest.approx((1.1, 1.1)), "a report that was sent early pays nothing back"
    demand.report("a", seen(5.0), Held(), 0.9, 101)
    demand.report("a", seen(5.0), Held(), 1.0, 102)
    assert demand.averages(102) == pytest.approx(((1.1 + 3.5 + 5) / 3,) * 2)


def test_between_two_looks_caches_are_as_full_as_at_the_later_one() -> None:
    demand = Demand(KV)
    for at in range(100, 160, 15):
        demand.fill(120.0, at)
    assert demand.averages(145) == (120.0, 120.0)


def test_when_no_engine_answers_nothing_is_decided_rather_than_that_nothing_is_asked() -> None:
    demand = Demand(KV)
    demand.fill(50.0, 100)
    for at in range(101, 162):
        demand.report("a", seen(9.0), Held(), 1.0, at)
    assert demand.averages(161) is None


def test_a_revision_may_be_woken_again_whatever_it_is_scaled_by() -> None:
    for settings in (SETTINGS, KV):
        demand = Demand(settings)
        demand.poke("a", 100)
        demand.report("a", seen(0.0), Held(), 1.0, 101)
        demand.poke("a", 300)
        assert demand.averages(300) == (1.0, 1.0)
