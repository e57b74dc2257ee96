"""A token is told once, its keyed hash is all that is kept, and a new one replaces it."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from rest_cluster import PEPPER, TOKEN, api

from penstock.host.cluster import EmbeddedCluster
from penstock.kit.api_keys import keyed_hash
from penstock.testing.clock import HandClock
from penstock.testing.factories import memory_cluster

KEYS = "/apis/penstock.dev/v1alpha1/namespaces/default/apikeys"
ONE = f"{KEYS}/app"
DOCUMENT = {
    "apiVersion": "penstock.dev/v1alpha1",
    "kind": "ApiKey",
    "metadata": {"name": "app"},
    "spec": {"models": ["chat"]},
}


class SetClock(HandClock):
    """Stands where it is set."""

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("issuing a token never waits")


@pytest.fixture
def clock() -> SetClock:
    return SetClock(1_800_000_000.0)


@pytest.fixture
def cluster(clock: SetClock) -> EmbeddedCluster:
    return memory_cluster(clock=clock)


@pytest.fixture
async def client(cluster: EmbeddedCluster) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(api(cluster), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as made:
        assert (await made.post(KEYS, json=DOCUMENT)).status_code == 201
        yield made


async def issue(client: httpx.AsyncClient, **spec: Any) -> dict[str, Any]:
    answer = await client.post(f"{ONE}/token", json={"spec": spec} if spec else None)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    status: dict[str, Any] = answer.json()["status"]
    return status


async def hashes(client: httpx.AsyncClient) -> list[dict[str, str]]:
    status = (await client.get(ONE)).json().get("status", {})
    found: list[dict[str, str]] = status.get("hashes", [])
    return found


async def test_a_token_is_told_once_and_only_its_keyed_hash_is_kept(client: httpx.AsyncClient) -> None:
    told = await issue(client)
    assert re.fullmatch(rf"psk-{told['id']}-[A-Za-z0-9_-]{{43}}", told["token"])
    stored = (await client.get(ONE)).json()["status"]
    assert stored["id"] == told["id"]
    assert [one["hash"] for one in stored["hashes"]] == [keyed_hash(PEPPER, told["token"].encode()).hex()]
    assert stored["hashes"][0]["createdAt"] == "2027-01-15T08:00:00Z"


async def test_no_answer_no_stored_object_no_change_and_no_log_ever_has_the_secret(
    client: httpx.AsyncClient, cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = [(await issue(client, overlapSeconds=60))["token"] for _ in range(3)]
    seen = [caplog.text]
    for path in (ONE, KEYS, f"{ONE}/status", "/apis/penstock.dev/v1alpha1/apikeys", "/metrics"):
        seen.append((await client.get(path)).text)
    seen.append(
        (await client.get(KEYS, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})).text
    )
    seen.append((await client.put(ONE, json=(await client.get(ONE)).json())).text)
    seen.append((await client.post(f"{ONE}/token", json={"spec": {"overlapSeconds": -1}})).text)
    seen.extend("\n".join(cluster.objects.store._connection.iterdump()).splitlines())
    for token in tokens:
        secret = token.split("-", 2)[2]
        assert not [text for text in seen if secret in text or secret.encode().hex() in text.lower()]


async def test_rotation_keeps_older_tokens_for_as_long_as_is_asked(client: httpx.AsyncClient) -> None:
    first = await issue(client)
    second = await issue(client, overlapSeconds=3600)
    assert second["id"] == first["id"]
    assert second["tokensHolding"] == 2
    newest, older = await hashes(client)
    assert "expiresAt" not in newest
    assert older["expiresAt"] == "2027-01-15T09:00:00Z"
    assert (await issue(client, overlapSeconds=0))["tokensHolding"] == 1
    assert len(await hashes(client)) == 1


async def test_the_overlap_is_a_day_where_nothing_is_said(client: httpx.AsyncClient) -> None:
    await issue(client)
    await issue(client)
    assert (await hashes(client))[1]["expiresAt"] == "2027-01-16T08:00:00Z"


async def test_the_number_of_tokens_is_bounded_and_the_way_out_is_told(
    client: httpx.AsyncClient, clock: SetClock
) -> None:
    for _ in range(4):
        await issue(client, overlapSeconds=60)
    refused = await client.post(f"{ONE}/token", json={"spec": {"overlapSeconds": 60}})
    assert refused.status_code == 422
    assert "say 0 to end them all" in refused.json()["message"]
    clock.at += 60
    assert (await issue(client, overlapSeconds=60))["tokensHolding"] == 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"spec": {"overlapSeconds": -1}}, 422, "spec.overlapSeconds"),
        ({"spec": {"overlapSeconds": 10**9}}, 422, "spec.overlapSeconds"),
        ({"spec": {"overlapSeconds": "1h"}}, 422, "spec.overlapSeconds"),
        ({"spec": {"overlapSecond": 0}}, 400, 'did you mean "overlapSeconds"'),
        ([1], 400, "expected an object"),
    ],
)
async def test_a_wrong_request_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, body: Any, status: int, said: str
) -> None:
    await issue(client)
    before = await hashes(client)
    answer = await client.post(f"{ONE}/token", json=body)
    assert (answer.status_code, said in answer.json()["message"]) == (status, True), answer.text
    assert await hashes(client) == before


async def test_hashes_cannot_be_set_by_who_creates_or_replaces_a_key(client: httpx.AsyncClient) -> None:
    forged = {"id": "aaaaaaaaaaaa", "hashes": [{"hash": "ab" * 32}]}
    document = {**DOCUMENT, "metadata": {"name": "other"}, "status": forged}
    assert "status" not in (await client.post(KEYS, json=document)).json()
    assert "status" not in (await client.put(f"{KEYS}/other", json=document)).json()
    media = {"Content-Type": "application/merge-patch+json"}
    assert (
        "status" not in (await client.patch(f"{KEYS}/other", json={"status": forged}, headers=media)).json()
    )


async def test_a_token_is_only_issued_by_post_and_never_as_a_rehearsal(client: httpx.AsyncClient) -> None:
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = await client.request(method, f"{ONE}/token")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.post(f"{ONE}/token?dryRun=All")).status_code == 400
    assert (await client.post(f"{KEYS}/none/token")).status_code == 404
    assert (await client.post("/api/v1/namespaces/default/configmaps/app/token")).status_code == 404
    assert await hashes(client) == []


async def test_an_end_of_the_key_is_told_with_the_token(client: httpx.AsyncClient) -> None:
    media = {"Content-Type": "application/merge-patch+json"}
    await client.patch(ONE, json={"spec": {"expiresAt": "2027-02-01T00:00:00Z"}}, headers=media)
    assert (await issue(client))["expirationTimestamp"] == "2027-02-01T00:00:00Z"


async def test_the_server_says_that_it_issues_tokens(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/apis/penstock.dev/v1alpha1")).json()["resources"]
    [token] = [entry for entry in listed if entry["name"] == "apikeys/token"]
    assert (token["kind"], token["verbs"]) == ("TokenRequest", ["create"])
    document = (await client.get("/openapi/v3/apis/penstock.dev/v1alpha1")).json()
    path = "/apis/penstock.dev/v1alpha1/namespaces/{namespace}/apikeys/{name}/token"
    assert [verb for verb in document["paths"][path] if verb != "parameters"] == ["post"]


async def test_a_table_of_keys_shows_what_people_ask_for(client: httpx.AsyncClient) -> None:
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    answer = (await client.get(KEYS, headers=table)).json()
    shown = [column["name"] for column in answer["columnDefinitions"] if not column["priority"]]
    assert shown == ["Name", "Tenant", "Phase", "Expires", "Age"]
    assert answer["rows"][0]["cells"][:4] == ["app", "", "Pending", "never"]
