"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.app.addresses import Address, parse_address
from penstock.app.settings import load, rows
from penstock.kit.errors import InvalidInput


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path)}
    assert load(environ).drain_s == 10
    (tmp_path / "config.yaml").write_text("drainS: 1\nlogLevel: debug\n")
    assert load(environ).drain_s == 1
    assert load({**environ, "PENSTOCK_DRAIN_S": "2"}).drain_s == 2
    assert load({**environ, "PENSTOCK_DRAIN_S": "2"}, {"drain_s": "3"}).drain_s == 3
    assert load(environ).log_level == "debug"


def test_the_accepted_names_of_routing_hold_unless_penstocks_own_say_otherwise(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path)}
    assert (load(environ).enable_kv_aware_routing, load(environ).prompt_token_threshold) == (True, 2048)
    bare = {**environ, "ENABLE_KV_AWARE_ROUTING": "false", "PROMPT_TOKEN_THRESHOLD": "512"}
    assert (load(bare).enable_kv_aware_routing, load(bare).prompt_token_threshold) == (False, 512)
    assert load({**bare, "PENSTOCK_PROMPT_TOKEN_THRESHOLD": "7"}).prompt_token_threshold == 7
    with pytest.raises(InvalidInput, match="promptTokenThreshold: found '-1'"):
        load({**environ, "PROMPT_TOKEN_THRESHOLD": "-1"})


@pytest.mark.parametrize(
    ("file", "variables", "said"),
    [
        ("logLevle: info", {}, "did you mean 'logLevel'"),
        ("- a", {}, "expected a mapping"),
        ("a: [", {}, "is not YAML"),
        ("", {"PENSTOCK_LOG_LEVEL": "loud"}, "logLevel: found 'loud'"),
        ("", {"PENSTOCK_DRAIN_S": "-1"}, "drainS: found '-1'"),
        ("", {"PENSTOCK_TLS_KEY": "/k.pem"}, "tlsCertificate: found nothing"),
        ("", {"PENSTOCK_TLS_CERTIFICATE": "/c.pem"}, "PENSTOCK_TLS_KEY"),
        ("", {"PENSTOCK_WORKERS": "0"}, "workers: found '0'"),
        ("", {"PENSTOCK_TRACE_SAMPLE": "2"}, "traceSample: found '2'"),
        ("", {"PENSTOCK_REQUIRE_KEYS": "maybe"}, "requireKeys: found 'maybe'"),
        ("", {"PENSTOCK_REDIS_URL": "http://h"}, "expected a URL that begins with redis://"),
        ("tlsKey: 5", {}, "tlsKey"),
        ("", {"PENSTOCK_GATEWAY_ADDR": "127.0.0.1:8081"}, "two different ports"),
        (
            "",
            {"PENSTOCK_GRPC_ADDR": "127.0.0.1:8080"},
            "gatewayAddr and grpcAddr: found 127.0.0.1:8080 for both",
        ),
        ("", {"PENSTOCK_API_ADDR": "8081"}, "expected HOST:PORT"),
        ("nodes: [{name: a, cpus: 4}]", {}, "nodes"),
        ("nodes: [{name: a, gpus: 2}]", {}, "nodes[0].gpus: found 2: expected `array`"),
        ("nodes: [{name: a, gpus: 2}]", {}, "set nodes in config.yaml"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_found(
    tmp_path: Path, file: str, variables: dict[str, str], said: str
) -> None:
    (tmp_path / "config.yaml").write_text(file)
    with pytest.raises(InvalidInput) as caught:
        load({"PENSTOCK_HOME": str(tmp_path), **variables})
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:443", "::1", 443), ("localhost:1", "localhost", 1)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = parse_address("x", text)
    assert address == Address(host, port)
    assert str(address) == text
    assert address.is_loopback


def test_every_setting_says_what_it_is_for() -> None:
    assert all(row.meaning for row in rows())


@pytest.mark.parametrize(
    ("address", "variables", "required", "warned"),
    [
        ("127.0.0.1:8080", {}, False, 0),
        ("localhost:8080", {}, False, 0),
        ("[::1]:8080", {"PENSTOCK_REQUIRE_KEYS": "true"}, True, 0),
        ("0.0.0.0:8080", {}, True, 1),
        ("[::]:8080", {}, True, 1),
        ("gateway.example:8080", {}, True, 1),
        ("0.0.0.0:8080", {"PENSTOCK_INSECURE": "true"}, False, 2),
        ("0.0.0.0:8080", {"PENSTOCK_INSECURE": "true", "PENSTOCK_REQUIRE_KEYS": "1"}, True, 1),
        ("127.0.0.1:8080", {"PENSTOCK_INSECURE": "true"}, False, 0),
        ("0.0.0.0:8080", {"PENSTOCK_TLS_KEY": "/k", "PENSTOCK_TLS_CERTIFICATE": "/c"}, True, 0),
        ("127.0.0.1:8080", {"PENSTOCK_GRPC_ADDR": "127.0.0.1:8082"}, False, 0),
        ("127.0.0.1:8080", {"PENSTOCK_GRPC_ADDR": "0.0.0.0:8082"}, True, 1),
        ("127.0.0.1:8080", {"PENSTOCK_GRPC_ADDR": "0.0.0.0:8082", "PENSTOCK_INSECURE": "true"}, False, 2),
    ],
)
def test_keys_are_asked_for_wherever_other_machines_reach_the_gateway(
    tmp_path: Path, address: str, variables: dict[str, str], required: bool, warned: int
) -> None:
    settings = load({"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_GATEWAY_ADDR": address, **variables})
    assert (settings.keys_required, len(settings.warnings)) == (required, warned)


def test_the_flag_insecure_counts_like_the_variable(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_GATEWAY_ADDR": "0.0.0.0:8080"}
    assert not load(environ, {"insecure": "True"}).keys_required
    assert load(environ, {"insecure": None}).keys_required


@pytest.mark.parametrize("url", ["redis://:hunter2@h/0", "hunter2"])
def test_a_secret_setting_shows_itself_nowhere(tmp_path: Path, url: str) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_REDIS_URL": url}
    try:
        shown = repr(load(environ))
    except InvalidInput as error:
        shown = f"{error.message} {error.hint}"
    assert "hunter2" not in shown
    (tmp_path / "config.yaml").write_text("redisUrl: [hunter2]")
    with pytest.raises(InvalidInput) as caught:
        load({"PENSTOCK_HOME": str(tmp_path)})
    assert "redisUrl" in caught.value.message
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_a_secret_setting_is_there_to_be_used(tmp_path: Path) -> None:
    assert load({"PENSTOCK_HOME": str(tmp_path), "PENSTOCK_REDIS_URL": "unix:///s"}).redis_url == "unix:///s"


PEERS = {"PENSTOCK_PEERS": "gateways.web:7946, 10.0.0.2:7946", "PENSTOCK_PEERS_ADDR": "0.0.0.0:7946"}


def test_gateways_of_several_machines_hear_each_other_with_a_secret(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path), **PEERS, "PENSTOCK_PEERS_SECRET": "of all of them together"}
    settings = load(environ)
    assert [str(one) for one in settings.peer_addresses] == ["gateways.web:7946", "10.0.0.2:7946"]
    assert str(settings.peers_listen) == "0.0.0.0:7946"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PENSTOCK_PEERS_SECRET": ""}, "peersSecret"),
        ({"PENSTOCK_PEERS_SECRET": "hunter2"}, "peersSecret"),
        ({"PENSTOCK_PEERS": ""}, "peers"),
        ({"PENSTOCK_PEERS_ADDR": ""}, "peersAddr"),
        ({"PENSTOCK_PEERS": "gateways.web"}, "peers"),
    ],
)
def test_nothing_is_heard_from_other_machines_without_all_that_it_takes(
    tmp_path: Path, changed: dict[str, str], named: str
) -> None:
    environ = {
        "PENSTOCK_HOME": str(tmp_path),
        **PEERS,
        "PENSTOCK_PEERS_SECRET": "of all of them together",
        **changed,
    }
    with pytest.raises(InvalidInput) as caught:
        load(environ)
    assert caught.value.message.startswith(f"{named}: ")
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "example"),
    [("--endpoints", "--endpoints 127.0.0.1:8080"), ("gatewayAddr", "PENSTOCK_GATEWAY_ADDR=127.0.0.1:8080")],
)
def test_an_address_that_is_none_is_said_as_it_was_given(name: str, example: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(name, "nowhere")
    assert caught.value.hint == f"for example {example}"
