"""Does an ended container run again, and when?

Source: Kubernetes, "Pod lifecycle": the first restart is immediate, then 10 s doubling to 300 s; ten minutes of running
without an end start the count anew.
"""

from __future__ import annotations

from dataclasses import dataclass

INITIAL_S = 10.0
LONGEST_S = 300.0
RESET_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Crashes:
    """How often in a row the container ended before it had run for long."""

    in_a_row: int = 0


def restarts(policy: str, exit_code: int) -> bool:
    """Whether `restartPolicy` (Always, OnFailure or Never; empty means Always) asks for another run."""
    return policy in {"", "Always"} or (policy == "OnFailure" and exit_code != 0)


def after_exit(crashes: Crashes, ran_s: float) -> tuple[Crashes, float]:
    """The new count and the seconds to wait, for a container that ended after running for `ran_s`."""
    if ran_s >= RESET_AFTER_S:
        crashes = Crashes()
    delay_s = 0.0 if crashes.in_a_row == 0 else min(INITIAL_S * 2 ** (crashes.in_a_row - 1), LONGEST_S)
    return Crashes(min(crashes.in_a_row + 1, 32)), delay_s
