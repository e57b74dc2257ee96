"""How long starts take is measured from what the cluster says of pods, phase by phase."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from penstock.contracts.controller import Key
from penstock.controlplane.starts import Starts
from penstock.resources.meta import Condition
from penstock.resources.pod import Pod, PodStatus
from penstock.resources.pod_autoscaler import ColdStart
from penstock.testing.clock import LoopClock
from penstock.testing.factories import pod

pytestmark = pytest.mark.looptime
REVISION = Key("default", "svc-predictor-00001")


def at(name: str, *, node: str = "n", initialized: bool = False, ready: bool = False) -> Pod:
    known = {"Initialized": initialized, "Ready": ready}
    conditions = tuple(Condition(type=t, status="True" if value else "False") for t, value in known.items())
    labels = {"penstock.dev/revision": REVISION.name}
    made = pod(name, node=node, labels=labels, uid=name)
    return msgspec.structs.replace(made, status=PodStatus(conditions=conditions))


async def start(starts: Starts, name: str, *seconds: float, first: Pod | None = None) -> None:
    """A pod that spends so many seconds placing, downloading, loading."""
    stages = [
        first or at(name, node=""),
        at(name),
        at(name, initialized=True),
        at(name, initialized=True, ready=True),
    ]
    starts.pod_changed(None, stages[0])
    for before, after, wait in zip(stages, stages[1:], seconds, strict=False):
        await asyncio.sleep(wait)
        starts.pod_changed(before, after)


async def test_each_phase_is_measured_and_the_sum_is_what_is_expected() -> None:
    starts = Starts(LoopClock())
    starts.follow(REVISION, None)
    await start(starts, "a", 0.5, 2.0, 4.0)
    known = starts.of(REVISION)
    assert known is not None
    assert (known.placing_s, known.downloading_s, known.loading_s) == (0.5, 2.0, 4.0)
    assert (known.total_s, known.expected_s) == (6.5, 6.5)


async def test_what_an_earlier_process_measured_counts_on() -> None:
    starts = Starts(LoopClock())
    starts.follow(REVISION, ColdStart(totals_s=(9.0,), expected_s=9.0))
    await start(starts, "a", 0.0, 0.0, 3.0)
    known = starts.of(REVISION)
    assert known is not None
    assert known.totals_s == (9.0, 3.0)


async def test_a_start_whose_beginning_nobody_saw_does_not_count() -> None:
    starts = Starts(LoopClock())
    starts.follow(REVISION, None)
    await start(starts, "a", 1.0, 1.0, 1.0, first=at("a"))
    assert starts.of(REVISION) is None


async def test_a_pod_that_goes_before_it_is_ready_is_no_start() -> None:
    starts = Starts(LoopClock())
    starts.follow(REVISION, None)
    starts.pod_changed(None, at("a", node=""))
    starts.pod_changed(at("a", node=""), None)
    await start(starts, "a", 1.0, 1.0, 1.0)
    known = starts.of(REVISION)
    assert known is not None
    assert known.totals_s == (2.0,)


async def test_a_pod_that_becomes_ready_again_after_a_crash_is_no_second_start() -> None:
    starts = Starts(LoopClock())
    starts.follow(REVISION, None)
    await start(starts, "a", 1.0, 1.0, 1.0)
    starts.pod_changed(at("a", initialized=True, ready=True), at("a", initialized=True))
    starts.pod_changed(at("a", initialized=True), at("a", initialized=True, ready=True))
    known = starts.of(REVISION)
    assert known is not None
    assert len(known.totals_s) == 1


async def test_revisions_that_nobody_follows_leave_nothing_behind() -> None:
    starts = Starts(LoopClock())
    await start(starts, "a", 1.0, 1.0, 1.0)
    assert starts.of(REVISION) is None
    starts.follow(REVISION, None)
    starts.forget(REVISION)
    assert starts.of(REVISION) is None
