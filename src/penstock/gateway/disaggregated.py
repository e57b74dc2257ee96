"""Has a prompt computed by an endpoint of the role prefill, and hands its KV to the endpoint that answers (vLLM's `kv_transfer_params`).

The request goes twice: to the one with `max_tokens` 1 and `do_remote_decode`; what that one says of where the KV lies goes to the other
with the request itself. Whatever fails on the way, the request is answered without: the endpoint that answers computes the prompt itself.
An endpoint that failed is not asked again for a while.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from penstock.contracts.exchange import Endpoint
from penstock.contracts.scheduling import Load
from penstock.decide.disaggregation import choose_remote
from penstock.gateway.body import LARGE_BYTES
from penstock.gateway.demand import Demand
from penstock.gateway.errand import Answered, Errand
from penstock.gateway.hot_texts import GENERATES
from penstock.gateway.router import Router, Trip
from penstock.gateway.wire.pool import Pool
from penstock.kit.clock import Clock

FIELD = "kv_transfer_params"
WANTED: Mapping[str, Any] = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}
"""What an engine is told that computes a prompt for another (vLLM's NixlConnector)."""
MAX_WAIT_S = 60.0
"""For a prompt to be computed elsewhere."""
REST_S = 5.0
"""How long one is left alone that failed."""

Message = Callable[[Endpoint, bytes], bytes]
"""A whole request to an endpoint, with this body."""


class Disaggregated:
    """One for a service with a router. `outcomes` counts what became of prompts that were to be computed elsewhere."""

    def __init__(self, router: Router, pool: Pool, clock: Clock, demand: Demand) -> None:
        """Endpoints of the role prefill are the router's; what they do is told as `demand` of the services that they are of."""
        self.router, self.pool, self.clock, self.demand = router, pool, clock, demand
        self.outcomes: Counter[str] = Counter()
        self._rests_until: dict[str, float] = {}

    def compute(
        self,
        trip: Trip,
        held: Mapping[str, float],
        path: str,
        content: bytes,
        *,
        message: Message,
        done: Callable[[bytes], None],
        timeout_s: float,
    ) -> Elsewhere | None:
        """Have the prompt of `trip`, which is on its way to the endpoint that answers, computed elsewhere; None where it is not worth it.

        `held` is what endpoints hold of it, `content` the body of the request to `path`. `done` is called later, once, with the body that is
        to be sent to the endpoint that answers; not, if what is returned is given up before.
        """
        router = self.router
        others = self._others(router.prefill.get(trip.load.revision, ()))
        routing = router.service.routing
        if not others or routing is None or not path.endswith(GENERATES) or len(content) > LARGE_BYTES:
            return None
        remote = choose_remote(
            trip.prompt,
            trip.load,
            held.get(trip.load.endpoint.name, 0.0),
            others,
            [held.get(load.endpoint.name, 0.0) for load in others],
            prompt_tokens=routing.remote_prompt_tokens,
            uncached_tokens=routing.remote_uncached_tokens,
        )
        if remote.place < 0:
            return None
        load = others[remote.place]
        wanted = prefill_body(content, router.service.engine_model, load.endpoint.engine_model)
        if wanted is None:
            return None
        there = router.sent(load.endpoint.name, trip.prompt, held, self.clock.monotonic())
        if there is None:
            return None
        router.kept(there, self.clock.monotonic())
        router.spares(trip)
        data = message(load.endpoint, wanted)
        return Elsewhere(self, trip, there, content, data, done, min(timeout_s, MAX_WAIT_S))

    def came(self, name: str, outcome: str) -> None:
        """What became of one."""
        self.outcomes[outcome] += 1
        if outcome in ("failed", "broken", "late", "no_transfer"):
            self._rests_until[name] = self.clock.monotonic() + REST_S

    def _others(self, endpoints: tuple[Endpoint, ...]) -> list[Load]:
        if not endpoints:
            return []
        now, loads = self.clock.monotonic(), self.router.loads
        if self._rests_until:
            self._rests_until = {name: until for name, until in self._rests_until.items() if until > now}
        return [
            loads[one.name] for one in endpoints if one.name in loads and one.name not in self._rests_until
        ]


class Elsewhere:
    """One prompt, while it is computed `there` for `trip`. `outcome` is what became of that, "" until something has."""

    def __init__(
        self,
        owner: Disaggregated,
        trip: Trip,
        there: Trip,
        content: bytes,
        data: bytes,
        done: Callable[[bytes], None],
        timeout_s: float,
    ) -> None:
        self._owner, self._trip, self._there = owner, trip, there
        self._content, self._done = content, done
        self._is_over = False
        self.endpoint, self.outcome = there.load.endpoint.name, ""
        home, namespace = there.load.endpoint.home, owner.router.service.namespace
        self._help = (
            owner.demand.help(namespace, home, owner.clock.monotonic(), len(content)) if home else None
        )
        self._errand = Errand(owner.pool, there.load.endpoint, data, self._answered, timeout_s=timeout_s)

    def give_up(self) -> None:
        """The request is over, or goes elsewhere."""
        if not self._is_over:
            self._errand.give_up()
            self._finish("given_up", {})

    def _answered(self, answered: Answered) -> None:
        told = _told(answered.body) if answered.outcome == "answered" else {}
        params = told.get(FIELD)
        if isinstance(params, dict) and params:
            self._finish("computed", told)
            self._done(with_transfer(self._content, params))
            return
        self._owner.router.computes(self._trip)
        self._finish("no_transfer" if answered.outcome == "answered" else answered.outcome, told)
        self._done(self._content)

    def _finish(self, outcome: str, told: Mapping[str, Any]) -> None:
        self._is_over, self.outcome = True, outcome
        owner, there = self._owner, self._there
        now = owner.clock.monotonic()
        usage = told.get("usage")
        prompt_tokens, cached_tokens = _counts(usage if isinstance(usage, dict) else {})
        if outcome == "computed":
            there.streams = True  # its one token came with the whole answer
            owner.router.began(there, now)
        owner.router.ended(there, now, prompt_tokens, cached_tokens, 0)
        if self._help is not None:
            self._help.end(now, failed=outcome not in ("computed", "given_up"))
        owner.came(there.load.endpoint.name, outcome)


def prefill_body(content: bytes, model: str = "", there: str = "") -> bytes | None:
    """The request that computes the prompt; None for one that asks for several answers, or is another's half of a transfer already.

    What is called `model` where it is answered is called `there` by the engine that gets this; adapters have one name everywhere.
    """
    try:
        given = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(given, dict) or FIELD in given or given.get("n", 1) != 1:
        return None
    prompt = given.get("prompt")
    if isinstance(prompt, list) and not all(type(one) is int for one in prompt):
        return None
    for name in ("stream_options", "min_tokens"):
        given.pop(name, None)
    given |= {"max_tokens": 1, "stream": False, FIELD: WANTED}
    if there and given.get("model") == model:
        given["model"] = there
    if "max_completion_tokens" in given:
        given["max_completion_tokens"] = 1
    return orjson.dumps(given)


def with_transfer(content: bytes, params: Mapping[str, Any]) -> bytes:
    """The request itself, with where its prompt's KV lies; every other byte stays as it was."""
    end = content.rindex(b"}")
    return content[:end] + f',"{FIELD}":'.encode() + orjson.dumps(params) + content[end:]


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _counts(usage: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt, and of these the cached; -1 where it is not told."""
    prompt, details = usage.get("prompt_tokens"), usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return prompt if type(prompt) is int else -1, cached if type(cached) is int else -1
