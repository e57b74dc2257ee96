"""What is fuzzed, and what must hold for any bytes. Each target takes bytes and raises when something does not hold."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import answers
import observers

from penstock.contracts.exchange import RouteTable, ServiceRoute
from penstock.gateway import body, paths
from penstock.gateway.names import Names
from penstock.gateway.wire.message import Answer, Head, Known
from penstock.gateway.wire.server import Server
from penstock.kit.errors import PlatformError

_LOOP = asyncio.new_event_loop()
_SERVICES = [
    ServiceRoute(namespace="default", name=name, uid=name, engine_model=name, hosts=(f"{name}.example",))
    for name in ("m", "m2", "long-name")
]
_NAMES = Names(RouteTable(version=1, services=tuple(_SERVICES)))
_USED = Server(lambda request, respond: None, observers.LIMITS)
"""One that has seen all inputs before."""
_KNOWN: Known[Answer] = Known()
MODEL = "another/m\u00e9"


def server(data: bytes) -> None:
    """The bytes mean to us, whole or cut in two, what they mean to h11."""
    mine = _LOOP.run_until_complete(observers.ours(data))
    found = observers.difference(mine, observers.h11s(data), data)
    assert not found, found
    if observers.depends_on_packets(data):
        return
    at = cut(data)
    again = _LOOP.run_until_complete(observers.ours(data[:at], data[at:]))
    assert observers.agree(mine, again), f"cut at {at}: {mine} {again}"
    for _ in range(2):
        again = _LOOP.run_until_complete(observers.ours(data, server=_USED))
        assert observers.agree(mine, again), f"on a used server: {mine} {again}"
    assert not _USED.buffered_bytes


def client(data: bytes) -> None:
    """The same for an engine's answer to a GET and to a HEAD."""
    for is_head in (False, True):
        mine = _LOOP.run_until_complete(answers.ours(data, is_head=is_head))
        found = answers.difference(mine, answers.h11s(data, is_head=is_head))
        assert not found, found
        at = cut(data)
        again = _LOOP.run_until_complete(answers.ours(data[:at], data[at:], is_head=is_head))
        assert (mine.status, mine.complete) == (again.status, again.complete), f"cut at {at}: {mine} {again}"
        assert mine.body == again.body, f"cut at {at}: {mine} {again}"
        for _ in range(2):
            again = _LOOP.run_until_complete(answers.ours(data, is_head=is_head, known=_KNOWN))
            assert mine == again, f"where heads are known: {mine} {again}"


def cut(data: bytes) -> int:
    """A place that follows from the bytes, so that a finding is one file."""
    return zlib.crc32(data) % (len(data) + 1)


def scanner(data: bytes) -> None:
    """What we read of a JSON body is what a JSON decoder reads, and replacing the model changes nothing else."""
    try:
        asked = body.read(data)
    except PlatformError:
        return
    try:
        plain = decoded(data)
    except ValueError:
        return  # what lies in fields that are not read is the engine's to judge
    assert asked.model == plain["model"], (asked.model, plain["model"])
    assert same(asked.stream, plain.get("stream"))
    changed = decoded(body.with_model(data, MODEL))
    assert changed.pop("model") == MODEL
    plain.pop("model")
    assert same(changed, plain)


def path(data: bytes) -> None:
    """Any path and Host lead to a target or to an error that we know."""
    method, _, rest = data.partition(b" ")
    target, _, host = rest.partition(b" ")
    try:
        found = paths.parse(Head(method, target, [(b"host", host)], keep_alive=True), _NAMES)
    except PlatformError:
        return
    if found.service is not None:
        assert found.service in _SERVICES
        assert found.path.startswith("/") or not target.startswith(b"/"), found.path


def decoded(data: bytes) -> dict[str, Any]:
    found = json.loads(data)
    assert isinstance(found, dict)
    return found


def same(left: object, right: object) -> bool:
    """Equal as JSON, types told apart."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


TARGETS = {"server": server, "client": client, "scanner": scanner, "path": path}
