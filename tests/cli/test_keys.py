"""`penstock keys` against a real API server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.cli.commands.keys import end_of
from penstock.cli.main import command_names
from penstock.host.api.app import build_api
from penstock.host.api.server import serve_api
from penstock.host.objects import ObjectStore
from penstock.kit.api_keys import keyed_hash
from penstock.kit.errors import InvalidInput
from penstock.resources.access import ApiKey, Tenant
from penstock.resources.scheme import kind_of
from penstock.testing.factories import memory_cluster

PEPPER = b"p" * 32
KEY = re.compile(r"psk-[0-9a-f]{12}-[A-Za-z0-9_-]{43}\n")


class Server:
    """An API on loopback in a thread of its own, and the command line in front of it."""

    def __init__(self, folder: Path) -> None:
        self._kubeconfig = folder / "kubeconfig"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(30)
        url = "http://127.0.0.1:%d" % self._listener.getsockname()[1]  # noqa: UP031  the shortest
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": url}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [
                {"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "default"}}
            ],
        }
        self._kubeconfig.write_text(yaml.safe_dump(config))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()
        self._listener.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        cluster = memory_cluster()
        self.objects: ObjectStore = cluster.objects
        app = build_api(cluster.objects, token="t", pepper=PEPPER, version="0")
        self._ready.set()
        await serve_api(app, self._listener, self._stop, certificate=None)

    def keys(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "penstock.cli.main", "keys", *words]
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def done(self, *words: str) -> subprocess.CompletedProcess[str]:
        result = self.keys(*words)
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        return result

    def failed(self, code: int, *words: str) -> str:
        """What is said on standard error; nothing is said on standard output."""
        result = self.keys(*words)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert "Traceback" not in result.stderr
        return result.stderr

    def stored(self, name: str = "app") -> Any:
        async def read() -> Any:
            return self.objects.get(kind_of(ApiKey), "default", name)

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(10)

    def make_tenant(self, name: str) -> None:
        async def make() -> None:
            self.objects.create(kind_of(Tenant), "", {"metadata": {"name": name}})

        asyncio.run_coroutine_threadsafe(make(), self._loop).result(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as made:
        yield made


def test_the_command_is_found() -> None:
    assert "keys" in command_names()


def test_a_new_key_stands_alone_on_standard_output_and_works(server: Server) -> None:
    made = server.done("create", "app")
    assert KEY.fullmatch(made.stdout)
    assert "only time it is shown" in made.stderr
    assert made.stdout.strip() not in made.stderr
    [stored] = server.stored()["status"]["hashes"]
    assert stored["hash"] == keyed_hash(PEPPER, made.stdout.strip().encode()).hex()


def test_what_is_said_is_what_is_stored(server: Server) -> None:
    server.make_tenant("acme")
    server.done(
        *("create", "app", "--models", "chat-*, lab/x", "--reach", "default,lab", "--tenant", "acme"),
        *("--expires", "2090-01-01T00:00:00Z", "--admin", "--rpm", "60", "--tpm", "0"),
    )
    assert server.stored()["spec"] == {
        "models": ["chat-*", "lab/x"],
        "namespaces": ["default", "lab"],
        "tenant": "acme",
        "expiresAt": "2090-01-01T00:00:00Z",
        "admin": True,
        "limits": [{"requestsPerMinute": 60, "tokensPerMinute": 0}],
    }


def test_how_urgent_requests_are_is_stored_also_where_that_is_less_than_nothing(server: Server) -> None:
    server.done("create", "app", "--priority", "-5", "--max-priority", "0")
    assert server.stored()["spec"] == {"priority": -5, "maxPriority": 0}


def test_a_key_of_which_nothing_is_said_reaches_its_own_namespace(server: Server) -> None:
    server.done("create", "app", "--expires", "30d")
    assert list(server.stored()["spec"]) == ["expiresAt"]


def test_rotation_prints_another_key_and_keeps_the_older_one_for_as_long_as_is_said(server: Server) -> None:
    first = server.done("create", "app").stdout
    second = server.done("rotate", "app", "--overlap", "1h")
    assert KEY.fullmatch(second.stdout)
    assert second.stdout != first
    assert "taken for 1h more" in second.stderr
    assert len(server.stored()["status"]["hashes"]) == 2
    assert "refused from now on" in server.done("rotate", "app", "--overlap", "0").stderr
    assert len(server.stored()["status"]["hashes"]) == 1


def test_revocation_can_be_taken_back(server: Server) -> None:
    server.done("create", "app")
    assert server.done("revoke", "app").stdout == "apikey.penstock.dev/app revoked\n"
    assert server.stored()["spec"]["disabled"] is True
    assert "works again" in server.done("revoke", "app", "--undo").stdout
    assert server.stored()["spec"]["disabled"] is False


def test_keys_are_listed_without_their_secrets(server: Server) -> None:
    assert "No API keys found in namespace default." in server.done("list").stderr
    secret = server.done("create", "app").stdout.strip().split("-", 2)[2]
    listed = server.done("list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "TENANT", "PHASE", "EXPIRES", "AGE"]
    assert listed[1].split()[0] == "app"
    for output in ("wide", "yaml"):
        assert secret not in server.done("list", "-A", "-o", output).stdout
    assert json.loads(server.done("list", "-o", "json").stdout)["items"][0]["metadata"]["name"] == "app"


def test_a_name_that_is_taken_or_mistyped_is_told_with_what_to_do(server: Server) -> None:
    server.done("create", "frontend")
    assert "penstock keys rotate frontend" in server.failed(1, "create", "frontend")
    for action in ("rotate", "revoke"):
        assert "did you mean frontend?" in server.failed(3, action, "frontent")
    server.make_tenant("acme")
    assert "did you mean acme?" in server.failed(3, "create", "app", "--tenant", "acmee")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soon", "--expires: found 'soon'"),
        ("0", "expected a time to come"),
        ("2020-01-01T00:00:00Z", "expected a time to come"),
        ("2020-99-01T00:00:00Z", "--expires: found"),
        ("999999999w", "within 100 years"),
    ],
)
def test_an_end_that_is_none_is_told_before_anything_is_made(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        end_of(text)
    assert said in caught.value.message


def test_a_wrong_option_is_named(server: Server) -> None:
    assert "--overlap: found '1'" in server.failed(5, "rotate", "app", "--overlap", "1")
    assert "spec.models[0]" in server.failed(5, "create", "app", "--models", "Chat")
    assert "not found" in server.failed(3, "revoke", "app")
