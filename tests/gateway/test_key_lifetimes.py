"""Whatever is issued, rotated, revoked and waited for, a gateway takes exactly the tokens that should hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.exchange import RouteTable
from penstock.decide.key_tokens import issued
from penstock.decide.route_table import key_routes
from penstock.gateway.access import Access
from penstock.kit.api_keys import keyed_hash, new_key
from penstock.kit.errors import Unauthorized
from penstock.kit.timestamps import rfc3339
from penstock.resources.access import ApiKey, ApiKeySpec, ApiKeyStatus
from penstock.resources.meta import ObjectMeta

PEPPER = b"p" * 32
START = 1_800_000_000
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("issue"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("revoke"), st.booleans()),
        st.tuples(st.just("expire"), st.one_of(st.none(), st.integers(-5, 40))),
        st.tuples(st.just("tell"), st.none()),
    ),
    max_size=20,
)


@dataclass
class Life:
    """One key, the gateway that is told of it, and a model of what should be taken: each token's end."""

    time: float = START
    key: ApiKey = field(default_factory=lambda: ApiKey(metadata=ObjectMeta(name="k", namespace="n")))
    ends: dict[str, float] = field(default_factory=dict)
    key_end: float = float("inf")
    version: int = 0

    def __post_init__(self) -> None:
        self.access = Access(PEPPER, True, self)

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("keys never wait")

    def issue(self, overlap_s: int) -> None:
        token = new_key("0123456789ab")
        digest = keyed_hash(PEPPER, token.encode()).hex()
        status = issued(self.key.status, "0123456789ab", digest, self.time, overlap_s)
        if status is not None:
            self.ends = {old: min(end, self.time + overlap_s) for old, end in self.ends.items()}
            self.ends[token] = float("inf")
            self.key = msgspec.structs.replace(self.key, status=status)

    def wait(self, seconds: int) -> None:
        self.time += seconds

    def revoke(self, disabled: bool) -> None:
        self._spec(disabled=disabled)

    def expire(self, after_s: int | None) -> None:
        self.key_end = float("inf") if after_s is None else self.time + after_s
        self._spec(expires_at=None if after_s is None else rfc3339(self.key_end))

    def tell(self, _: None = None) -> None:
        self.version += 1
        self.access.apply(RouteTable(version=self.version, keys=key_routes([self.key], (), self.time)))

    def takes(self, token: str) -> bool:
        try:
            return self.access.caller([(b"api-key", token.encode())]) is not None
        except Unauthorized:
            return False

    def _spec(self, **fields: Any) -> None:
        self.key = msgspec.structs.replace(self.key, spec=msgspec.structs.replace(self.key.spec, **fields))


@given(STEPS)
def test_a_gateway_that_was_told_takes_exactly_the_tokens_that_hold(steps: list[tuple[str, Any]]) -> None:
    life = Life()
    for word, value in steps:
        getattr(life, word)(value)
        if word != "wait":
            life.tell()  # waiting alone is not told: the gateway knows itself when a token ends
        for token, end in life.ends.items():
            holds = not life.key.spec.disabled and life.time < min(end, life.key_end)
            assert life.takes(token) is holds


@given(STEPS, st.integers(0, 50))
def test_a_gateway_that_is_told_nothing_more_never_takes_a_token_for_longer(
    steps: list[tuple[str, Any]], later_s: int
) -> None:
    life = Life()
    for word, value in steps:
        getattr(life, word)(value)
    life.tell()
    taken = {token for token in life.ends if life.takes(token)}
    life.wait(later_s)
    assert {token for token in life.ends if life.takes(token)} <= taken


def test_an_empty_key_has_nothing_that_could_be_taken() -> None:
    life = Life()
    life.tell()
    assert (life.key.spec, life.key.status) == (ApiKeySpec(), ApiKeyStatus())
    assert not life.takes("psk-0123456789ab-")
