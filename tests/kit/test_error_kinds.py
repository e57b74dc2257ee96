"""Errors that another process tells are known again by their status, and by Kubernetes' word for them."""

from __future__ import annotations

import pytest

from penstock.kit.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    NotFound,
    PlatformError,
    Unavailable,
    kind_of,
)


class Elsewhere(PlatformError):
    """An error of some part of the platform, which is nobody else's business."""

    status, reason = 404, "NotFound"


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (404, "", NotFound),
        (404, "NotFound", NotFound),
        (429, "", Exhausted),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (503, "what nobody says", Unavailable),
        (418, "", PlatformError),
    ],
)
def test_a_status_and_a_reason_mean_an_error(status: int, reason: str, expected: type) -> None:
    assert kind_of(status, reason) is expected


def test_what_is_unknown_means_what_the_caller_says() -> None:
    assert kind_of(418, default=Unavailable) is Unavailable
