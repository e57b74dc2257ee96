"""Real servers for triggers to look at: each test run starts its own, on free ports and in its own folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from free_ports import free_port, free_ports
from plain_http import PATIENT

RABBIT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_S = 90.0


@dataclass(frozen=True)
class Certificate:
    """Of 127.0.0.1, signed by itself."""

    certificate: Path
    key: Path

    @property
    def pem(self) -> str:
        return self.certificate.read_text()


def certificate(folder: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Certificate(folder / "server.pem", folder / "server.key")
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


@dataclass(frozen=True)
class Rabbit:
    amqp: int
    amqps: int
    management: int
    ca: str

    @property
    def amqp_url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.amqp}/"

    @property
    def amqps_url(self) -> str:
        return f"amqps://guest:guest@127.0.0.1:{self.amqps}/"

    @property
    def http_url(self) -> str:
        return f"http://guest:guest@127.0.0.1:{self.management}/"

    def call(self, method: str, path: str, **body: object) -> httpx.Response:
        url = f"http://127.0.0.1:{self.management}/api/{path}"
        answer = httpx.request(method, url, json=body, auth=("guest", "guest"), **PATIENT)
        assert answer.status_code < 300, answer.text
        return answer

    def declare(self, queue: str) -> None:
        self.call("PUT", f"queues/%2F/{queue}", durable=False, arguments={})

    def publish(self, queue: str, count: int) -> None:
        for _ in range(count):
            self.call(
                "POST",
                "exchanges/%2F/amq.default/publish",
                routing_key=queue,
                payload="work",
                payload_encoding="string",
                properties={},
            )

    def purge(self, queue: str) -> None:
        self.call("DELETE", f"queues/%2F/{queue}/contents")


@contextmanager
def rabbit(folder: Path) -> Iterator[Rabbit]:
    """A RabbitMQ with its management API, of its own name, port mapper and folder."""
    needed(RABBIT, "rabbitmq-server")
    amqp, amqps, management, dist, mapper = free_ports(5)
    own = certificate(folder)
    (folder / "plugins").write_text("[rabbitmq_management].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{amqp}\nlisteners.ssl.1 = 127.0.0.1:{amqps}\n"
        f"ssl_options.cacertfile = {own.certificate}\nssl_options.certfile = {own.certificate}\n"
        f"ssl_options.keyfile = {own.key}\nssl_options.verify = verify_none\n"
        f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n"
        "collect_statistics_interval = 1000\nvm_memory_high_watermark.absolute = 512MB\n"
        "disk_free_limit.absolute = 10MB\nlog.console = false\n"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"penstock{amqp}@localhost",
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
    }
    with ExitStack() as stack:
        names = stack.enter_context(
            process(["epmd", "-port", str(mapper), "-address", "127.0.0.1"], environ, folder)
        )
        until(
            lambda: listens(mapper), names, folder
        )  # else the server would start one of its own, which stays
        server = stack.enter_context(process([RABBIT], environ, folder))
        found = Rabbit(amqp, amqps, management, own.pem)
        until(
            lambda: answers(f"http://127.0.0.1:{management}/api/overview", ("guest", "guest")), server, folder
        )
        yield found


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus that scrapes itself every second; its address."""
    program = needed(shutil.which("prometheus") or "", "prometheus")
    port = free_port()
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: self\n"
        f"  static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with process(command, dict(os.environ), folder) as server:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/-/ready"), server, folder)
        yield address


@contextmanager
def redis(folder: Path, password: str = "", own: Certificate | None = None) -> Iterator[int]:
    """A Redis that keeps nothing; its port, which speaks TLS with a certificate."""
    program = needed(shutil.which("redis-server") or "", "redis-server")
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    command += (
        ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"] if own else ["--port", str(port)]
    )
    command += ["--tls-cert-file", str(own.certificate), "--tls-key-file", str(own.key)] if own else []
    with process(
        [*command, *(["--requirepass", password] if password else [])], dict(os.environ), folder
    ) as server:
        until(lambda: listens(port), server, folder)
        yield port


@contextmanager
def process(command: list[str], environ: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Started, and at the end stopped by its id."""
    with (folder / "output").open("ab") as output:
        running = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def needed(program: str, package: str) -> str:
    """The program, or a skip (on CI a failure) that says what is not there."""
    if not program or not Path(program).exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{package} is not installed")
    return program


def until(ready: object, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        if ready():  # type: ignore[operator]
            return
        time.sleep(0.1)
    pytest.fail(f"{server.args} does not start: {(folder / 'output').read_text()[-2000:]}")


def answers(url: str, auth: tuple[str, str] | None = None) -> bool:
    try:
        return httpx.get(url, auth=auth, **PATIENT).status_code == 200
    except httpx.HTTPError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
