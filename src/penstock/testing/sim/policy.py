"""What an autoscaling law is told at each tick, and what it answers: the same as on the platform, nothing of the future.

A law is one file in `policies/`, found by its name; its `build(setup, options)` makes one `Policy` for one service. Options come from
`NAME:KEY=VALUE,KEY=VALUE`. Times are seconds of virtual time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec import Struct

from penstock.decide.cold_start import QUANTILE
from penstock.kit.errors import InvalidInput

POLICIES = Path(__file__).parent / "policies"
PRESETS: Mapping[str, tuple[str, dict[str, str]]] = {"gpu": ("kpa", {"profile": "gpu"})}
"""Names for a law with settings."""


class Second(NamedTuple):
    """What the gateway reports of one service for the second that ends `at` (a whole number).

    `in_flight` is the average number of requests under way, with those that wait; `waiting` and `queue_wait_s` (of the oldest) are as at
    its end; `tokens_in_flight` averages the prompts under way, with what was generated for them by the tick that reports the second.
    `prompt_tokens` are those of the `requests` that arrived in it, `output_tokens` those of the answers that ended in it.
    """

    at: int
    in_flight: float
    requests: int
    waiting: int
    queue_wait_s: float
    tokens_in_flight: float
    prompt_tokens: int
    output_tokens: int


class Finished(NamedTuple):
    """One request that ended well. `ttft_s` and `latency_s` count from its arrival, `held_s` is what it waited for a replica of them."""

    at: float
    ttft_s: float
    latency_s: float
    held_s: float
    prompt_tokens: int
    output_tokens: int


class Observation(Struct, frozen=True, kw_only=True, gc=False):
    """One service at `now`.

    `seconds` are the whole seconds since the last tick, oldest first; those missing (while the law slept) had nothing in flight.
    `replicas` is what was asked for last; `ready` take requests, `starting` do not yet, `draining` finish what they have. `streams` are
    the requests at each ready replica. `cold_starts_s` are the last measured starts (at most 16, oldest first); () until there was one.
    `poked`: not a regular tick, but a request that came while nothing was ready or starting. `room` is how many replicas can be placed
    in all, None where that is unlimited.
    """

    now: float
    seconds: Sequence[Second]
    replicas: int
    ready: int
    starting: int
    draining: int
    in_flight: int
    waiting: int
    streams: Sequence[int]
    finished: Sequence[Finished]
    cold_starts_s: Sequence[float]
    poked: bool = False
    room: int | None = None

    @property
    def expected_start_s(self) -> float:
        """What the platform expects of the next start; 0 while none was measured."""
        ordered = sorted(self.cold_starts_s)
        return ordered[ceil(QUANTILE * len(ordered)) - 1] if ordered else 0.0


class Wish(NamedTuple):
    """How many replicas, why, and what else was close.

    `settled`: as long as no request comes, to ask again would change nothing; the world then lets the law sleep until one does.
    """

    desired: int
    reasons: tuple[str, ...] = ()
    runner_up: str = ""
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a law may know beforehand: what its service's annotations and the platform's settings say.

    `target` is how many requests at once a replica is meant to have, None for the law's default. `max_replicas` 0 is no limit.
    `initial` replicas are ready at the start. `slo_ttft_s` is the time to a first token that users were promised. `start_s` is the
    first moment of virtual time (a Unix time where the trace has one, else 0).
    """

    start_s: float
    slo_ttft_s: float
    initial: int = 1
    min_replicas: int = 0
    max_replicas: int = 0
    target: float | None = None
    container_concurrency: int = 0


class Policy(Protocol):
    """One law for one service. It keeps its own state between ticks, and is asked every `tick_s`, or at once when poked."""

    @property
    def tick_s(self) -> float:
        """Between two regular ticks."""
        ...

    def decide(self, seen: Observation) -> Wish:
        """Answers what is wanted now."""
        ...


Build = Callable[[Setup, Mapping[str, str]], Policy]


def policy_names() -> tuple[str, ...]:
    """Every law and preset."""
    return tuple(sorted({p.stem for p in POLICIES.glob("*.py") if p.stem != "__init__"} | set(PRESETS)))


def policy_of(text: str) -> Callable[[Setup], Policy]:
    """`NAME` or `NAME:KEY=VALUE,…`; for `fixed:3` the bare value is taken as option "". Raises InvalidInput."""
    name, _, rest = text.partition(":")
    known = policy_names()
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise InvalidInput(
            f"--policy: found {name!r}, expected one of {', '.join(known)}",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    law, preset = PRESETS.get(name, (name, {}))
    options = {**preset, **_options(rest)}
    build: Build = importlib.import_module(f"penstock.testing.sim.policies.{law}").build
    return lambda setup: build(setup, options)


def _options(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part]
    return {key if equals else "": value if equals else key for key, equals, value in pairs}


def check_options(law: str, options: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises InvalidInput for an option that the law does not have."""
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, 1)
            raise InvalidInput(
                f"--policy {law}: found option {key!r}, expected one of {', '.join(known) or 'none'}",
                hint=f"did you mean {near[0]}?" if near else "",
            )


def number(law: str, options: Mapping[str, str], key: str, default: float) -> float:
    """An option that is a number, 0 or more. Raises InvalidInput."""
    text = options.get(key)
    if text is None:
        return default
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise InvalidInput(f"--policy {law}: {key}: found {text!r}, expected a number, 0 or more")
    return value
