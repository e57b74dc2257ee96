"""What is done with each field of a RolloutPolicy, and with annotations that stand for one. The reference is made of it."""

from __future__ import annotations

from penstock.resources.validate_rollout import (
    DEFAULT_MIN_REQUESTS,
    DEFAULT_WAIT,
    FALSE_ALARM_RATE,
    MAX_ERROR_RATE,
    MAX_GATES,
    MAX_STEPS,
    MAX_TTFT,
    MIN_REQUESTS,
    POLICY,
    STEPS,
    WAIT,
)

_EITHER = "one of the four, or both of the first two"
FIELDS: tuple[tuple[str, str, str, str], ...] = (
    ("spec.steps[].weight", "5, 25, 50", f"0 … 100, rising, at most {MAX_STEPS} steps", "the canary's share in percent at this step; after the last it gets everything"),
    ("spec.steps[].wait", "0", "a duration", f"how long at least; the three default steps wait {DEFAULT_WAIT}"),
    ("spec.steps[].minRequests", "0", "≥ 0", f"answers of the canary before the step may end; {DEFAULT_MIN_REQUESTS} at the default steps"),
    ("spec.gates[].signal", "errorRate, ttft", f"errorRate, ttft, interTokenTime, or a reported signal's name; at most {MAX_GATES} gates", "what may not get worse"),
    ("spec.gates[].maxRatio", _EITHER, "≥ 1", "the canary's rate is at most this times the stable revision's; of a time: slow is what takes longer than this times the stable one's quantile"),
    ("spec.gates[].maxIncrease", _EITHER, "0 … 1", "and at most this much more"),
    ("spec.gates[].maxRate", _EITHER, "0 … 1", "the canary's rate, whatever the stable one's; not for times"),
    ("spec.gates[].maxSeconds", _EITHER, "0.001 … 700", "at most 1 - quantile of the canary's requests take longer; for times"),
    ("spec.gates[].quantile", "0.95", "0.5 … 0.999", "for times: which of the requests are looked at"),
    ("spec.falseAlarmRate", "0.01", "between 0 and 1", "the chance that a canary that is no worse than allowed is stopped, in a whole rollout"),
    ("spec.onFailure", "RollBack", "RollBack, Pause", "what happens when a gate closes"),
    (f"annotation {POLICY}", "none", "a RolloutPolicy of the namespace", "the service's new revisions follow it"),
    (f"annotation {STEPS}", "none", "percents such as 5,25,50", "a policy without an object"),
    (f"annotation {WAIT}", DEFAULT_WAIT, "a duration", "how long each step lasts"),
    (f"annotation {MIN_REQUESTS}", str(DEFAULT_MIN_REQUESTS), "≥ 0", "answers of the canary at each step"),
    (f"annotation {MAX_ERROR_RATE}", "none", "0 … 1", "a gate with maxRate on errorRate"),
    (f"annotation {MAX_TTFT}", "none", "0.001 … 700", "a gate with maxSeconds on ttft"),
    (f"annotation {FALSE_ALARM_RATE}", "0.01", "between 0 and 1", "see spec.falseAlarmRate"),
)  # fmt: skip
"""Field, default, range, effect."""
