"""Penstock's built-in profile without KV events: what was sent where, corrected by the cached tokens that answers tell."""

from __future__ import annotations

from penstock.testing.routing.policies.penstock import Penstock
from penstock.testing.routing.policy import Policy, Setup


class PenstockApproximate(Penstock):
    """See the module."""

    hears_events = False


def open_policy(setup: Setup) -> Policy:
    """See the module."""
    return PenstockApproximate(setup)
