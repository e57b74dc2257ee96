"""What does it cost to remember how a request was routed?

One thread routes requests with the gateway's own router and tells of each what the gateway tells: that it was chosen, that it was sent, that it
ended. Times are processor time per request, the best of several rounds, without the router's own. All records of a round are kept in one row
of bounded bytes, so that what makes room is in the figures.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from benchmarks.report import Target, conclude

from penstock.app.registry import open_profile
from penstock.contracts.exchange import Endpoint, RevisionRoute, RoutingRoute, ServiceRoute
from penstock.contracts.scheduling import Prompt
from penstock.gateway.call import Call
from penstock.gateway.explained import Explained
from penstock.gateway.paths import Target as Asked
from penstock.gateway.router import Router, Trip
from penstock.gateway.telemetry.metrics import Telemetry
from penstock.gateway.telemetry.routed import RoutedMeter
from penstock.gateway.trace import Traces
from penstock.gateway.wire.message import Head, Request
from penstock.kit.clock import SteadyClock
from penstock.kit.hashing import chain_seed, draw, token_blocks

BLOCK_TOKENS = 64
TOKENS = 8_192
ENDPOINTS = (1, 4, 128)
ROUNDS = 7
MAX_RECORD_US = 2.0


class Bench:
    """A service, and one prompt that a few of its endpoints hold."""

    def __init__(self, endpoints: int) -> None:
        pool = tuple(Endpoint(name=f"chat-{n}", address="127.0.0.1", port=80) for n in range(endpoints))
        revision = RevisionRoute(name="chat-1", weight_percent=100, endpoints=pool)
        routing = RoutingRoute(block_tokens=BLOCK_TOKENS)
        service = ServiceRoute(
            namespace="default",
            name="chat",
            uid="u",
            engine_model="chat",
            revisions=(revision,),
            routing=routing,
        )
        self.router = Router(service, open_profile)
        self.explained = Explained(SteadyClock(), max_bytes=1 << 20)
        self.meter = RoutedMeter(Telemetry())
        hashes = token_blocks([7] * TOKENS, BLOCK_TOKENS, chain_seed("chat"))
        self.prompt = Prompt(draw=draw("r"), tokens=TOKENS, hashes=hashes, block_tokens=BLOCK_TOKENS)
        for endpoint in pool[:8]:
            self.router.index.sent(endpoint.name, hashes, 0.0)
        self.held = self.router.held(self.prompt, 1.0)
        route = self.router.route(service, self.prompt, self.held, 1.0)
        assert route is not None
        self.route, self.service = route, service
        self._traces = Traces()

    def call(self, *, explains: bool) -> Call:
        reading: Any = SimpleNamespace(explains=explains)
        respond: Any = SimpleNamespace(status=200, sent_bytes=100)
        call = Call(
            Request(Head(b"POST", b"/v1/chat/completions", [], keep_alive=True), b"", "127.0.0.1"),
            respond,
            "7f0c9ddc12c14b6fa8d6b5f7d7b6d7f1",
            1.0,
            self._traces.begin(),
            reading,
            Asked("openai", path="/v1/chat/completions"),
            service=self.service,
        )
        call.endpoint, call.revision, call.attempts = self.route.endpoint.name, self.route.revision, 1
        call.first_byte_at, call.last_byte_at, call.streams = 1.25, 2.5, True
        call.prompt_tokens, call.cached_tokens, call.completion_tokens = TOKENS, TOKENS - 64, 100
        return call

    def trip(self) -> Trip:
        return Trip(self.router.loads[self.route.endpoint.name], self.prompt, float(TOKENS), 0.0, 0.0, 1.0)

    def run(self, count: int, *, explains: bool) -> dict[str, float]:
        """Microseconds per request, by step."""
        calls, trip = [self.call(explains=explains) for _ in range(count)], self.trip()
        told, router, route = self.explained, self.router, self.route
        steps: dict[str, Callable[[Call], None]] = {
            "chosen": lambda one: told.chosen(one, self.service, router, self.prompt, self.held, route, 1.0),
            "sent": lambda one: told.sent(one, route.endpoint.name, trip, 1.0),
            "ended": lambda one: told.ended(one, one.trail, route),  # type: ignore[arg-type]
            "counted": lambda one: self.meter.finished(one, one.trail, route),  # type: ignore[arg-type]
        }
        found = {}
        for name, step in steps.items():
            began = time.thread_time_ns()
            for one in calls:
                step(one)
            found[name] = (time.thread_time_ns() - began) / count / 1000
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="in each round")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(
        f"{'endpoints':>9} {'asked':>6} {'chosen us':>10} {'sent us':>8} {'ended us':>9} {'counted us':>10} {'all us':>7} {'bytes':>6}"
    )
    for endpoints in ENDPOINTS:
        for explains in (False, True):
            bench, count = Bench(endpoints), chosen.requests // (50 if explains else 1)
            gc.collect()
            rounds = [bench.run(count, explains=explains) for _ in range(ROUNDS)]
            best = {step: min(one[step] for one in rounds) for step in rounds[0]}
            size = bench.explained.bytes / len(bench.explained)
            print(
                f"{endpoints:>9} {'yes' if explains else 'no':>6} {best['chosen']:>10.2f} {best['sent']:>8.2f} {best['ended']:>9.2f} "
                f"{best['counted']:>10.2f} {sum(best.values()):>7.2f} {size:>6.0f}"
            )
            rows.append({"endpoints": endpoints, "explains": explains, **best, "bytes": size})
    targets = [
        Target(
            f"a record of a request among {row['endpoints']} endpoints, us",
            round(row["ended"], 2),
            MAX_RECORD_US,
        )
        for row in rows
        if not row["explains"]
    ]
    conclude("routing_record", targets, is_whole=chosen.requests >= 20_000, rows=rows)


if __name__ == "__main__":
    main()
