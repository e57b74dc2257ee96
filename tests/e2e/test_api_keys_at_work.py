"""Keys from the command line to the engine and back: a platform that asks for them, its clients, and its disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest
from platform_process import Platform, running_platform, until

from plain_http import PATIENT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
REVOKED_WITHIN_S = 20.0
"""The aim is one second; a machine that is loaded gets some more."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform that asks every caller for a key."""
    home = tmp_path_factory.mktemp("home")
    (home / "config.yaml").write_text("requireKeys: true\n")
    with running_platform(home) as platform:
        yield platform


def new_key(platform: Platform, *words: str) -> str:
    done = platform.penstock("keys", "create", *words)
    assert done.returncode == 0, done.stderr
    key = done.stdout.strip()
    until(f"the gateway takes {words[0]}", lambda: models(platform, key).status_code != 401)
    return key


def models(platform: Platform, key: str = "", header: str = "Authorization") -> httpx.Response:
    value = f"Bearer {key}" if header == "Authorization" else key
    headers = {header: value} if key else {}
    return httpx.get(f"{platform.url}/v1/models", headers=headers, **PATIENT)


def test_nobody_gets_in_without_a_key_but_probes(guarded: Platform) -> None:
    for path in (
        "/v1/models",
        "/v1/models/quickstart",
        "/v1/models/none",
        "/metrics",
        "/serving/a/b/c",
        "/nowhere",
    ):
        answer = httpx.get(f"{guarded.url}{path}", **PATIENT)
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer"), path
    refused = guarded.ask()
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")
    assert httpx.get(f"{guarded.url}/healthz", **PATIENT).status_code == 200
    assert httpx.get(f"{guarded.url}/readyz", **PATIENT).status_code == 200


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key"])
def test_a_key_is_taken_from_every_header_that_clients_use(guarded: Platform, header: str) -> None:
    key = new_key(guarded, f"by-{header.lower()}")
    assert models(guarded, key, header).status_code == 200
    assert models(guarded, key[:-1] + "!", header).json()["error"]["code"] == "invalid_api_key"


def test_the_openai_client_talks_with_a_key_and_is_told_without(guarded: Platform) -> None:
    guarded.wait_ready("quickstart")
    key = new_key(guarded, "openai")
    with openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0) as client:
        question = [{"role": "user", "content": "What is Penstock?"}]
        answer = client.chat.completions.create(model="quickstart", messages=question)  # type: ignore[arg-type]
        assert answer.choices[0].message.content
    with (
        openai.OpenAI(base_url=f"{guarded.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


def test_a_key_sees_and_uses_only_what_it_reaches(guarded: Platform) -> None:
    key = new_key(guarded, "narrow", "--models", "other")
    assert models(guarded, key).json()["data"] == []
    body = {"model": "quickstart", "messages": [{"role": "user", "content": "x"}]}
    headers = {"Authorization": f"Bearer {key}"}
    refused = httpx.post(f"{guarded.url}/v1/chat/completions", json=body, headers=headers, **PATIENT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")


def test_only_an_admin_reads_metrics(guarded: Platform) -> None:
    for words, status in ((("plain",), 403), (("chief", "--admin"), 200)):
        headers = {"Authorization": f"Bearer {new_key(guarded, *words)}"}
        assert httpx.get(f"{guarded.url}/metrics", headers=headers, **PATIENT).status_code == status


def test_rotation_and_revocation_are_soon_in_force(guarded: Platform) -> None:
    first = new_key(guarded, "turning")
    second = guarded.penstock("keys", "rotate", "turning", "--overlap", "1h").stdout.strip()
    until("the new key works", lambda: models(guarded, second).status_code == 200, REVOKED_WITHIN_S)
    assert models(guarded, first).status_code == 200
    assert "revoked" in guarded.penstock("keys", "revoke", "turning").stdout
    began = time.monotonic()
    until(
        "both are refused",
        lambda: models(guarded, first).status_code == models(guarded, second).status_code == 401,
    )
    assert time.monotonic() - began < REVOKED_WITHIN_S


def test_no_file_of_the_platform_holds_a_secret(guarded: Platform) -> None:
    secret = new_key(guarded, "hidden").split("-", 2)[2].encode()
    body = {"model": "quickstart", "messages": [{"role": "user", "content": "x"}]}
    headers = {"x-api-key": f"psk-000000000000-{secret.decode()}"}
    httpx.post(f"{guarded.url}/v1/chat/completions", json=body, headers=headers, **PATIENT)
    files = [path for path in guarded.home.rglob("*") if path.is_file()]
    assert {"store.sqlite", "route-table.json", "pepper"} <= {path.name for path in files}
    for path in files:
        with suppress(FileNotFoundError):  # one that was only there until it was renamed
            assert secret not in path.read_bytes(), path
    for name in ("state/pepper", "run/route-table.json", "token"):
        assert (guarded.home / name).stat().st_mode & 0o777 == 0o600


def test_a_public_bind_asks_for_keys_and_warns(tmp_path: Path) -> None:
    open_one = Platform(tmp_path / "open")
    open_one.environment["PENSTOCK_GATEWAY_ADDR"] = f"0.0.0.0:{open_one.gateway_port}"
    try:
        open_one.start("--no-quickstart")
        assert models(open_one).status_code == 401
    finally:
        said = open_one.stop()
    assert "plain text" in said
    assert "keys create" in said
    try:
        open_one.start("--no-quickstart", "--insecure")
        assert models(open_one).status_code == 200
    finally:
        said = open_one.stop()
    assert "without an API key" in said
