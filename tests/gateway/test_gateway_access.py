from __future__ import annotations

import hmac
import time
import timeit
from typing import Any

import pytest

from penstock.contracts.exchange import KeyHash, KeyRoute, RouteTable, ServiceRoute
from penstock.gateway.access import Access, carries_key, presented
from penstock.gateway.wire.message import Headers
from penstock.kit.api_keys import keyed_hash
from penstock.kit.errors import Forbidden, PlatformError, Unauthorized
from penstock.testing.clock import HandClock

PEPPER = b"p" * 32
TOKEN = b"psk-0123456789ab-" + b"s" * 43
OLD = b"psk-0123456789ab-" + b"o" * 43
AUTHORIZATION = (b"authorization", b"Bearer " + TOKEN)


class SetClock(HandClock):
    """Stands where it is set."""

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("access never waits")


def hash_of(token: bytes, expires_at: float = 0.0) -> KeyHash:
    return KeyHash(hash=hmac.digest(PEPPER, token, "sha256").hex(), expires_at=expires_at)


def key(**fields: Any) -> KeyRoute:
    given = {"id": "0123456789ab", "namespace": "team", "name": "app", "hashes": (hash_of(TOKEN),)}
    return KeyRoute(**{**given, **fields})


def access(*keys: KeyRoute, required: bool = True, clock: SetClock | None = None) -> Access:
    made = Access(PEPPER, required, clock or SetClock(1000.0))
    made.apply(RouteTable(version=1, keys=keys))
    return made


def enter(made: Access, *headers: tuple[bytes, bytes], local: str | None = None) -> KeyRoute | None:
    """Whose request this is."""
    return made.authorize(list(headers), local).key


def service(namespace: str, name: str) -> ServiceRoute:
    return ServiceRoute(namespace=namespace, name=name, uid="u", engine_model=name)


def refused(made: Access, *headers: tuple[bytes, bytes], local: str | None = None) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        enter(made, *headers, local=local)
    assert TOKEN.decode() not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


@pytest.mark.parametrize(
    "header",
    [
        AUTHORIZATION,
        (b"authorization", b"bearer  " + TOKEN + b" "),
        (b"x-api-key", TOKEN),
        (b"api-key", TOKEN),
    ],
)
def test_a_key_is_found_where_openai_anthropic_and_azure_clients_put_it(header: tuple[bytes, bytes]) -> None:
    assert enter(access(key()), (b"host", b"x"), header) == key()


def test_without_a_key_a_caller_is_refused_only_where_one_is_asked_for() -> None:
    error = refused(access(key()))
    assert (type(error), error.status, error.code) == (Unauthorized, 401, "missing_api_key")
    assert enter(access(key(), required=False)) is None


@pytest.mark.parametrize(
    "token",
    [
        TOKEN[:-1] + b"x",
        TOKEN + b"s",
        b"psk-ffffffffffff-" + b"s" * 43,
        b"psk-",
        b"psk--",
        b"psk-0123456789ab",
        b"psk-\xff-\xff",
    ],
)
@pytest.mark.parametrize("required", [True, False])
def test_a_token_that_claims_to_be_a_key_is_always_checked(token: bytes, required: bool) -> None:
    error = refused(access(key(), required=required), (b"authorization", b"Bearer " + token))
    assert (error.status, error.code) == (401, "invalid_api_key")


def test_any_other_text_is_taken_as_no_key_where_none_is_asked_for() -> None:
    dummy = (b"authorization", b"Bearer sk-no-key-needed")
    assert enter(access(key(), required=False), dummy) is None
    assert refused(access(key()), dummy).code == "invalid_api_key"


def test_a_dummy_in_one_header_does_not_hide_a_key_in_another() -> None:
    headers: Headers = [(b"authorization", b"Bearer dummy"), (b"x-api-key", TOKEN)]
    assert presented(headers, True) == presented(headers, False) == TOKEN
    assert presented(headers[:1], True) == b"dummy"


def test_while_a_key_is_rotated_both_tokens_hold_until_the_older_expires() -> None:
    clock = SetClock(1000.0)
    made = access(key(hashes=(hash_of(TOKEN), hash_of(OLD, expires_at=1060.0))), clock=clock)
    old, new = (b"x-api-key", OLD), (b"x-api-key", TOKEN)
    assert made.authorize([old], None).expires_at == 1060.0
    assert made.authorize([new], None).expires_at == 0.0
    clock.at = 1060.0
    assert enter(made, new)
    assert "expired" in refused(made, old).message


def test_a_key_that_the_newest_table_does_not_have_is_unknown_at_once() -> None:
    made = access(key())
    assert enter(made, AUTHORIZATION)
    made.apply(RouteTable(version=2))
    assert refused(made, AUTHORIZATION).code == "invalid_api_key"


def test_an_unknown_id_costs_as_much_as_a_wrong_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[str] = []

    def counted(pepper: bytes, token: bytes) -> bytes:
        work.append("hash")
        return keyed_hash(pepper, token)

    def compared(one: bytes, other: bytes) -> bool:
        work.append("compare")
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("penstock.gateway.access.keyed_hash", counted)
    monkeypatch.setattr("penstock.gateway.access.compare_digest", compared)
    made, seen = access(key()), []
    for token in (TOKEN[:-1] + b"x", b"psk-ffffffffffff-" + b"s" * 43, b"no key at all"):
        refused(made, (b"x-api-key", token))
        seen.append(tuple(work))
        work.clear()
    assert seen == [("hash", "compare")] * 3


def test_the_hash_of_a_token_is_useless_as_a_token() -> None:
    stored = hash_of(TOKEN).hash.encode()
    assert refused(access(key()), (b"x-api-key", b"psk-0123456789ab-" + stored)).status == 401


def test_a_key_reaches_its_models_and_no_others() -> None:
    made = access(key(namespaces=("team",), models=("*/chat",)))
    own = enter(made, AUTHORIZATION)
    made.check(own, service("team", "chat"))
    for other, code in (
        (service("team", "x"), "model_not_allowed"),
        (service("b", "chat"), "namespace_not_allowed"),
    ):
        for _ in range(2):
            with pytest.raises(Forbidden) as caught:
                made.check(own, other)
            assert (caught.value.status, caught.value.code) == (403, code)
        assert not made.sees(own, other)
    assert made.sees(own, service("team", "chat"))
    assert made.sees(None, service("b", "chat"))


def test_a_verdict_does_not_outlive_the_table_that_it_was_made_from() -> None:
    made = access(key(models=("*/chat",)))
    earlier, chat = enter(made, AUTHORIZATION), service("team", "chat")
    made.check(earlier, chat)
    made.apply(RouteTable(version=2, keys=(key(models=("*/other",)),)))
    with pytest.raises(Forbidden):
        made.check(enter(made, AUTHORIZATION), chat)
    made.check(earlier, chat)  # a request goes on with the key that it was let in with


@pytest.mark.parametrize("local", ["healthz", "readyz", "v2_live", "v2_ready"])
def test_probes_need_no_key(local: str) -> None:
    assert enter(access(key()), local=local) is None
    assert enter(access(key()), (b"x-api-key", b"psk-wrong"), local=local) is None


def test_a_stranger_is_told_of_the_key_before_anything_else() -> None:
    made = access(key())
    assert made.caller([AUTHORIZATION]) == key()
    for headers in ([], [(b"x-api-key", b"psk-0123456789ab-x")]):
        with pytest.raises(Unauthorized):
            made.caller(headers)


def test_metrics_need_an_admin_key_where_keys_are_asked_for() -> None:
    assert refused(access(key()), local="metrics").code == "missing_api_key"
    error = refused(access(key()), AUTHORIZATION, local="metrics")
    assert (error.status, error.code) == (403, "admin_required")
    assert enter(access(key(admin=True)), AUTHORIZATION, local="metrics")
    assert enter(access(required=False), local="metrics") is None


def test_lists_of_models_need_a_key_where_keys_are_asked_for() -> None:
    assert refused(access(key()), local="models").status == 401
    assert enter(access(key()), AUTHORIZATION, local="models")


def test_a_key_of_ours_is_told_from_other_credentials() -> None:
    ours: Headers = [AUTHORIZATION, (b"x-api-key", TOKEN), (b"api-key", TOKEN), (b"authorization", TOKEN)]
    others: Headers = [
        (b"authorization", b"Bearer hf_x"),
        (b"x-api-key", b"other"),
        (b"authorization", b"Basic psk-"),
    ]
    assert all(carries_key(*header) for header in ours)
    assert not any(carries_key(*header) for header in others)


def test_authorizing_and_checking_cost_microseconds() -> None:
    """Ten times what is measured on an idle core, so that only a blunder fails."""
    made, chat = access(*(key(id=f"{i:012x}") for i in range(1000)), key()), service("team", "chat")
    headers = [*((b"x-%d" % i, b"v") for i in range(8)), AUTHORIZATION]

    def once() -> None:
        assert made.sees(made.authorize(headers, None).key, chat)

    best_s = min(timeit.repeat(once, timer=time.thread_time, number=2000, repeat=5)) / 2000
    assert best_s < 30e-6
