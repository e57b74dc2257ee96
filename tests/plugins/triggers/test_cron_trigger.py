"""The cron trigger, at moments that a test chooses."""

from __future__ import annotations

from datetime import datetime

import pytest

from penstock.contracts.trigger import Opening
from penstock.kit.errors import InvalidInput
from penstock.plugins.triggers.cron import CronTrigger, open_trigger

OFFICE = {"timezone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": "3"}


def trigger(moment: str = "2026-11-18T12:00:00Z", **metadata: str) -> CronTrigger:
    now = datetime.fromisoformat(moment).timestamp()
    return open_trigger(
        Opening(type="cron", namespace="default", metadata=OFFICE | metadata, now=lambda: now, demand=None)
    )


@pytest.mark.parametrize(
    ("moment", "metadata", "open_"),
    [
        ("2026-11-18T06:59:59Z", {}, False),  # a Wednesday in winter: 08:00 is 07:00Z
        ("2026-11-18T07:00:00Z", {}, True),
        ("2026-11-18T16:59:59Z", {}, True),
        ("2026-11-18T17:00:00Z", {}, False),
        ("2026-07-15T06:00:00Z", {}, True),  # in summer 08:00 is 06:00Z
        ("2026-07-15T05:59:59Z", {}, False),
        ("2026-11-21T12:00:00Z", {}, False),  # a Saturday
        ("2026-11-18T23:30:00Z", {"start": "0 22 * * *", "end": "0 6 * * *"}, True),  # over midnight
        ("2026-11-18T12:00:00Z", {"start": "0 22 * * *", "end": "0 6 * * *"}, False),
        (
            "2026-03-29T01:30:00Z",
            {"start": "30 2 * * *", "end": "0 5 * * *"},
            True,
        ),  # 02:30 does not exist that day
        ("2026-10-25T00:30:00Z", {"start": "0 2 * * *", "end": "0 4 * * *"}, True),  # the first 02:30 of two
        ("2026-10-25T02:59:00Z", {"start": "0 2 * * *", "end": "0 4 * * *"}, True),
        ("2026-10-25T03:00:00Z", {"start": "0 2 * * *", "end": "0 4 * * *"}, False),
    ],
)
async def test_the_window_is_open_by_the_wall_clock_of_its_zone(
    moment: str, metadata: dict[str, str], open_: bool
) -> None:
    reading = await trigger(moment, **metadata).read()
    assert (reading.value, reading.active) == ((3.0, True) if open_ else (0.0, False))


def test_the_metric_is_named_as_keda_names_it() -> None:
    named = trigger(start="*/5 8 * * *")
    assert (named.metric, named.target) == ("cron-Europe/Berlin-xSl58xxx-018xx1-5", 1.0)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "IANA"),
        ({"timezone": "../../etc/passwd"}, "IANA"),
        ({"timezone": "Europe"}, "IANA"),
        ({"start": "every day"}, "no cron expression"),
        ({"start": "0 8 * *"}, "found 4 fields"),
        ({"start": "0 0 8 * * *"}, "found 6 fields"),
        ({"end": "99 8 * * *"}, "no cron expression"),
        ({"end": "0 0 31 2 *"}, "no cron expression"),
        ({"end": OFFICE["start"]}, "the same"),
    ],
)
def test_what_cannot_be_is_refused(metadata: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        trigger(**metadata)
