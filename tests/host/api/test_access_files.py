import socket
import ssl
import stat
import threading
import time
from pathlib import Path

import pytest
import yaml

from penstock.host.api.certificate import RENEW_DAYS, VALID_DAYS, Certificate, ensure_certificate
from penstock.host.api.kubeconfig import ensure_token, write_kubeconfig

NOW_S = 1_800_000_000.0
DAY_S = 86400


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_and_kept_from_others(tmp_path: Path) -> None:
    token = ensure_token(tmp_path / "deep" / "token")
    assert len(token) >= 43
    assert mode(tmp_path / "deep" / "token") == 0o600
    (tmp_path / "deep" / "token").chmod(0o644)
    assert ensure_token(tmp_path / "deep" / "token") == token
    assert mode(tmp_path / "deep" / "token") == 0o600
    assert ensure_token(tmp_path / "other") != token


def test_the_kubeconfig_holds_all_that_kubectl_needs(tmp_path: Path) -> None:
    certificate = ensure_certificate(tmp_path, now_s=NOW_S)
    path = tmp_path / "kubeconfig"
    for _ in range(2):
        write_kubeconfig(path, server="https://127.0.0.1:1", token="t", certificate=certificate.certificate)
    config = yaml.safe_load(path.read_text())
    assert config["current-context"] == "penstock"
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:1"
    assert config["users"][0]["user"]["token"] == "t"
    assert mode(path) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"api.crt", "api.key", "kubeconfig"}


def test_a_certificate_lasts_until_it_is_old_damaged_or_of_other_hosts(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path, now_s=NOW_S)
    assert mode(first.key) == 0o600
    content = first.certificate.read_bytes()
    good_until_s = NOW_S + (VALID_DAYS - RENEW_DAYS - 1) * DAY_S
    ensure_certificate(tmp_path, now_s=good_until_s)
    assert first.certificate.read_bytes() == content
    ensure_certificate(tmp_path, now_s=good_until_s + 2 * DAY_S)
    renewed = first.certificate.read_bytes()
    assert renewed != content
    ensure_certificate(tmp_path, hosts=("box.example", "10.0.0.5"), now_s=NOW_S)
    assert first.certificate.read_bytes() != renewed
    first.certificate.write_text("damaged")
    ensure_certificate(tmp_path, now_s=NOW_S)
    assert b"BEGIN CERTIFICATE" in first.certificate.read_bytes()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "::1"])
def test_a_client_that_trusts_the_certificate_verifies_the_server(tmp_path: Path, name: str) -> None:
    found = ensure_certificate(tmp_path, now_s=time.time())
    client = ssl.create_default_context(cafile=str(found.certificate))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(found, client, name) in ("TLSv1.3", "TLSv1.2")


def handshake(found: Certificate, client: ssl.SSLContext, name: str) -> str | None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(found.certificate, found.key)
    left, right = socket.socketpair()
    versions: list[str | None] = []

    def serve() -> None:
        with server.wrap_socket(left, server_side=True) as stream:
            stream.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(right, server_hostname=name) as stream:
        versions.append(stream.version())
        stream.send(b"x")
    thread.join()
    return versions[0]
