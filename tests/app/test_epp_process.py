"""What the command line wishes becomes an endpoint picker, or is refused in words that say what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.app.epp import Wishes, settings_of
from penstock.kit.errors import InvalidInput
from penstock.resources.routing import FlowSpec, RoutingProfile, RoutingProfileSpec


def wishes(**given: Any) -> Wishes:
    return Wishes(**{"listen": "127.0.0.1:9002", "home": Path("/nowhere"), **given})


def test_endpoints_are_a_service_of_their_own() -> None:
    given = wishes(endpoints=("10.0.0.1:8000", "[fd00::1]:8001"), objectives=("later=-1", "soon=5"))
    service = settings_of(given).service
    assert service is not None
    (revision,) = service.revisions
    assert [(e.address, e.port, e.metrics_port) for e in revision.endpoints] == [
        ("10.0.0.1", 8000, 8000),
        ("fd00::1", 8001, 8001),
    ]
    assert service.objectives == (("later", -1), ("soon", 5))
    assert service.metrics_dialect == "vllm"
    assert service.routing is not None


def test_a_profile_of_ones_own_routes_to_them() -> None:
    profile = RoutingProfile(spec=RoutingProfileSpec(flow=FlowSpec(max_requests=0)))
    service = settings_of(wishes(endpoints=("10.0.0.1:1",), profile=profile)).service
    assert service is not None
    assert service.routing is not None
    assert service.routing.flow.max_requests == 0


def test_without_endpoints_the_platform_of_the_data_folder_says_what_there_is() -> None:
    settings = settings_of(wishes(service="team/chat"))
    assert settings.service is None
    assert settings.only == ("team", "chat")
    assert settings.feed_socket == Path("/nowhere/run/feed.sock")
    assert settings_of(wishes(service="chat")).only == ("default", "chat")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"endpoints": ("engine.example:8000",)}, "an IP address"),
        ({"endpoints": ("10.0.0.1",)}, "HOST:PORT"),
        ({"endpoints": ("10.0.0.1:1",), "objectives": ("later",)}, "NAME=PRIORITY"),
        ({"endpoints": ("10.0.0.1:1",), "objectives": ("later=soon",)}, "NAME=PRIORITY"),
        ({"endpoints": ("10.0.0.1:1",), "metrics_dialect": "vlm"}, "expected one of"),
        ({"listen": "0.0.0.0:9002"}, "would read all prompts"),
        ({"listen": "127.0.0.1"}, "HOST:PORT"),
        ({"tls_certificate": Path("c.pem")}, "expected both"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        settings_of(wishes(**given))


def test_a_public_port_is_allowed_with_a_certificate() -> None:
    files = {"tls_certificate": Path("c.pem"), "tls_key": Path("k.pem")}
    assert settings_of(wishes(listen="0.0.0.0:9002", **files)).tls == (Path("c.pem"), Path("k.pem"))
