"""HTTPS on both sides: the gateway's own certificate, taken anew when it changes, and engines whose certificates are verified."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import httpx
import msgspec
import pytest
from certificates import Authority
from gateway_world import STREAM, Engine, Gateway, chunk, service, until

from penstock.contracts.exchange import Endpoint
from penstock.gateway.listen import Certificate
from penstock.kit.errors import InvalidInput


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.file)


async def serial(gateway: Gateway, authority: Authority) -> int:
    """Of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trusting(authority))
    shown = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return int(shown["serialNumber"], 16)


async def test_a_gateway_with_a_certificate_speaks_https_and_says_so_to_engines(tmp_path: Path) -> None:
    authority, engine = Authority(tmp_path / "tls"), Engine("e")
    certificate, key = authority.issue("gateway")
    await engine.start()
    async with Gateway(tmp_path, service(engine), tls_certificate=certificate, tls_key=key) as gateway:
        async with httpx.AsyncClient(verify=trusting(authority), timeout=30) as client:
            url = f"https://127.0.0.1:{gateway.port}/v1/chat/completions"
            for _ in range(3):
                answer = await client.post(url, json={"model": "m"})
                assert answer.status_code == 200
        assert b"x-forwarded-proto: https\r\n" in engine.requests[0][0]
        plain = await gateway.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert not plain.startswith(b"HTTP/1.1 200"), "nothing is answered in the clear"


async def test_a_stream_over_tls_is_passed_on_and_a_client_that_leaves_stops_the_engine(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "tls")
    certificate, key = authority.issue("gateway")

    async def endless(engine: Engine, head: bytes, reader: object, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        while not writer.is_closing():
            writer.write(chunk(b'data: {"choices":[{}]}\n\n'))
            await writer.drain()
            await asyncio.sleep(0.01)

    engine = Engine("e", endless)
    await engine.start()
    async with Gateway(tmp_path, service(engine), tls_certificate=certificate, tls_key=key) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trusting(authority))
        body = b'{"model":"m","stream":true}'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await reader.readuntil(b"data: ")
        writer.transport.abort()
        await until(engine.gone.is_set)


async def test_a_changed_certificate_is_shown_to_new_connections_while_old_ones_live_on(
    tmp_path: Path,
) -> None:
    authority, engine = Authority(tmp_path / "tls"), Engine("e")
    certificate, key = authority.issue("gateway")
    await engine.start()
    async with (
        Gateway(tmp_path, service(engine), tls_certificate=certificate, tls_key=key) as gateway,
        httpx.AsyncClient(verify=trusting(authority), timeout=30) as client,
    ):
        url = f"https://127.0.0.1:{gateway.port}/healthz"
        assert (await client.get(url)).status_code == 200
        before = await serial(gateway, authority)
        authority.issue("gateway")
        os.utime(certificate, (1, 1))
        async with asyncio.timeout(30):
            while await serial(gateway, authority) == before:
                await asyncio.sleep(0.05)
        assert (await client.get(url)).status_code == 200


def test_a_changed_certificate_that_cannot_be_used_leaves_the_present_one_in_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = Authority(tmp_path).issue("gateway")
    shown = Certificate(certificate, key)
    certificate.write_text("no certificate")
    os.utime(certificate, (1, 1))
    shown.refresh()
    assert "is not taken" in caplog.text
    assert str(certificate) in caplog.text
    shown.refresh()
    assert caplog.text.count("is not taken") == 1, "said once for each change"


def test_a_certificate_that_cannot_be_used_is_refused_with_both_files(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).issue("one")
    _, key = Authority(tmp_path, "another").issue("two")
    with pytest.raises(InvalidInput, match=r"tlsCertificate .*one.pem with tlsKey .*two.key"):
        Certificate(certificate, key)


class TlsEngine(Engine):
    """As Engine, behind a certificate."""

    def __init__(self, name: str, certificate: tuple[Path, Path]) -> None:
        super().__init__(name)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        self.running.append(self)

    @property
    def endpoint(self) -> Endpoint:
        return msgspec.structs.replace(super().endpoint, tls=True)


async def test_an_engine_that_speaks_https_is_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    engine = TlsEngine("e", authority.issue("engine"))
    await engine.start()
    async with (
        Gateway(tmp_path, service(engine), upstream_ca=authority.file) as gateway,
        httpx.AsyncClient(timeout=30) as client,
    ):
        for _ in range(2):
            answer = await client.post(f"{gateway.url}/v1/chat/completions", json={"model": "m"})
            assert answer.status_code == 200
        assert engine.connections == 1, "the connection is kept"


@pytest.mark.parametrize("wrong", ["authority", "address"])
async def test_an_engine_with_a_wrong_certificate_gets_no_request(tmp_path: Path, wrong: str) -> None:
    authority = Authority(tmp_path / "tls")
    signer = Authority(tmp_path / "other", "a stranger") if wrong == "authority" else authority
    engine = TlsEngine("e", signer.issue("engine", "127.0.0.1" if wrong == "authority" else "127.9.9.9"))
    await engine.start()
    async with (
        Gateway(tmp_path, service(engine), upstream_ca=authority.file) as gateway,
        httpx.AsyncClient(timeout=30) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/chat/completions", json={"model": "m"})
        assert answer.status_code == 503
        assert "is not trusted" in answer.json()["error"]["message"]
        assert not engine.requests
