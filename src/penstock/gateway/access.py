"""Who calls, and how far the caller's key reaches: API keys as the request path sees them.

A key is `psk-ID-SECRET`. The table in force says which ids there are and the keyed hashes of their keys; the pepper that the
hashes are keyed with stays on this machine. What is decided is in `decide/access.py`; here are headers and cryptography.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from penstock.contracts.exchange import KeyHash, KeyRoute, RouteTable, ServiceRoute
from penstock.decide.access import Verdict, may_administer, may_enter, may_explain, may_use
from penstock.gateway.wire.message import Headers
from penstock.kit.api_keys import KEY_PREFIX, id_of, keyed_hash
from penstock.kit.clock import Clock
from penstock.kit.errors import Forbidden, PlatformError, Unauthorized

BEARER = b"bearer "
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
"""Where callers put keys: OpenAI's clients, Anthropic's, Azure's."""
OPEN = frozenset(("healthz", "readyz", "v2_live", "v2_ready"))
"""What probes ask for, without a key."""
ADMIN = frozenset(("metrics", "request", "recording"))
DIGEST_BYTES = 32
MAX_VERDICTS = 65_536
"""Of keys about services; beyond it each is found anew."""
NOBODY = KeyRoute(id="", namespace="", name="", hashes=(KeyHash(hash="0" * 64),))
"""Stands in for an unknown id, so that it takes as long as a known one."""


class Grant(NamedTuple):
    """Whose request it is, None for nobody's, and until when that holds: Unix time, 0 as long as the table does."""

    key: KeyRoute | None
    expires_at: float


class Access:
    """Keys of one worker. Not for several threads."""

    def __init__(self, pepper: bytes, required: bool, clock: Clock) -> None:
        """`required`: who has no key is refused; else a key is checked only where one is given."""
        self._pepper = pepper
        self._required = required
        self._clock = clock
        self._keys: tuple[KeyRoute, ...] = ()
        self._by_id: dict[str, KeyRoute] = {}
        self._verdicts: dict[tuple[str, str, str], Verdict] = {}
        self._proven: dict[bytes, tuple[KeyRoute, KeyHash]] = {}
        self._salt = secrets.token_bytes(DIGEST_BYTES)

    def apply(self, table: RouteTable) -> None:
        """Take these keys, and no others, from the next request on."""
        if table.keys == self._keys:
            return
        self._keys = table.keys
        self._by_id = {key.id: key for key in table.keys}
        self._proven, self._verdicts = {}, {}

    def authorize(self, headers: Headers, local: str | None) -> Grant:
        """Who asks, until when that holds. `local` is what is asked of the gateway itself.

        Raises Unauthorized; Forbidden for what only an admin may see.
        """
        if local in OPEN:
            return Grant(None, 0.0)
        grant = self._grant(headers)
        if local in ADMIN:
            _refuse(may_administer(grant.key, required=self._required))
        return grant

    def caller(self, headers: Headers) -> KeyRoute | None:
        """Whose request this is, None for nobody's. Raises Unauthorized, also where there is no path or model for it:
        a stranger should not find out by trying.
        """
        return self._grant(headers).key

    def _grant(self, headers: Headers) -> Grant:
        token = presented(headers, self._required)
        if token:
            return self._key_of(token)
        if self._required:
            raise _refusal(may_enter(None, None, given=False, required=True, now=0.0))
        return Grant(None, 0.0)

    def check(self, key: KeyRoute | None, service: ServiceRoute) -> None:
        """Raises Forbidden if the service is out of the key's reach."""
        if key is not None:
            _refuse(self._verdict(key, service))

    def check_explain(self, key: KeyRoute | None) -> None:
        """Raises Forbidden if the caller may not know how its requests are routed."""
        _refuse(may_explain(key, required=self._required))

    def sees(self, key: KeyRoute | None, service: ServiceRoute) -> bool:
        """Whether lists of models show the service to the key's holder."""
        return key is None or self._verdict(key, service).allowed

    def _key_of(self, token: bytes) -> Grant:
        """The key that the token proves. Proofs are remembered, for HMAC-SHA256 takes three times as long as what finds them.

        They are found by a digest that is keyed with a secret of this process: how long that takes says nothing of a token.
        """
        mark = blake2b(token, key=self._salt, digest_size=DIGEST_BYTES).digest()
        proven = self._proven.get(mark)
        if proven is None:
            proven = self._proven[mark] = self._prove(token)
        key, met = proven
        if met.expires_at:
            _refuse(may_enter(key, met, given=True, required=self._required, now=self._clock.now()))
        return Grant(key, met.expires_at)

    def _prove(self, token: bytes) -> tuple[KeyRoute, KeyHash]:
        """Raises Unauthorized for a token that meets no hash, so that at most as many are remembered as there are hashes."""
        key, met = self._by_id.get(id_of(token), NOBODY), None
        digest = keyed_hash(self._pepper, token).hex()
        for one in key.hashes:
            if compare_digest(one.hash, digest):
                met = one
        if met is None or key is NOBODY:
            raise _refusal(may_enter(None, None, given=True, required=self._required, now=0.0))
        return key, met

    def _verdict(self, key: KeyRoute, service: ServiceRoute) -> Verdict:
        if self._by_id.get(key.id) is not key:  # the table changed while the request was waiting
            return may_use(key, service.namespace, service.name)
        where = (key.id, service.namespace, service.name)
        found = self._verdicts.get(where)
        if found is None:
            found = may_use(key, service.namespace, service.name)
            if len(self._verdicts) < MAX_VERDICTS:
                self._verdicts[where] = found
        return found


def presented(headers: Headers, required: bool) -> bytes:
    """The caller's key, b"" if there is none. Where no key is asked for, what does not begin with `psk-` is none.

    Of several the one that looks like a key of ours counts, else the first: a client may add a dummy in a second header.
    """
    token = b""
    for name, value in headers:
        if name in CREDENTIALS:
            given = _bare(name, value)
            if given.startswith(KEY_PREFIX):
                return given
            token = token or given
    return token if required else b""


def carries_key(name: bytes, value: bytes) -> bool:
    """Whether a credential is a key of ours, which no engine may see; other credentials are the engine's business."""
    return _bare(name, value).startswith(KEY_PREFIX)


def _bare(name: bytes, value: bytes) -> bytes:
    if name == b"authorization" and value[:7].lower() == BEARER:
        return value[7:].strip()
    return value.strip()


def _refuse(verdict: Verdict) -> None:
    if verdict.reason:
        raise _refusal(verdict)


def _refusal(verdict: Verdict) -> PlatformError:
    """What is not allowed, in the error tree."""
    kind: type[PlatformError] = Unauthorized if verdict.reason.endswith("_api_key") else Forbidden
    return kind(verdict.message, code=verdict.reason, hint=verdict.hint)
