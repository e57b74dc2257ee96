"""Settings: where they come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.app.settings import Address, load, parse_address, rows
from penstock.kit.errors import InvalidInput


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HOME": str(tmp_path)}
    assert load(environ).drain_s == 10
    (tmp_path / "config.yaml").write_text("drainS: 1\nlogLevel: debug\n")
    assert load(environ).drain_s == 1
    assert load({**environ, "PENSTOCK_DRAIN_S": "2"}).drain_s == 2
    assert load({**environ, "PENSTOCK_DRAIN_S": "2"}, {"drain_s": "3"}).drain_s == 3
    assert load(environ).log_level == "debug"


@pytest.mark.parametrize(
    ("file", "variables", "said"),
    [
        ("logLevle: info", {}, "did you mean 'logLevel'"),
        ("- a", {}, "expected a mapping"),
        ("a: [", {}, "is not YAML"),
        ("", {"PENSTOCK_LOG_LEVEL": "loud"}, "logLevel: found 'loud'"),
        ("", {"PENSTOCK_DRAIN_S": "-1"}, "drainS: found '-1'"),
        ("", {"PENSTOCK_GATEWAY_ADDR": "0.0.0.0:8080"}, "expected a loopback address"),
        ("", {"PENSTOCK_GATEWAY_ADDR": "127.0.0.1:8081"}, "two different ports"),
        ("", {"PENSTOCK_API_ADDR": "8081"}, "expected HOST:PORT"),
        ("nodes: [{name: a, cpus: 4}]", {}, "nodes"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_found(
    tmp_path: Path, file: str, variables: dict, said: str
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
