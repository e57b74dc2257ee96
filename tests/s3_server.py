"""An S3-compatible store on loopback: moto's server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import pytest

from plain_http import PATIENT

SECRET = "hunter2-hunter2"


class S3Server(NamedTuple):
    """`client` is boto3's, of its owner; whoever knows SECRET may use any name."""

    endpoint: str
    client: Any


@contextmanager
def s3_server(*buckets: str) -> Iterator[S3Server]:
    """With these buckets and nothing else: all servers of a process hold the same, so what those before left is taken away."""
    moto_server = pytest.importorskip("moto.server")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.post(f"{endpoint}/moto-api/reset", **PATIENT).raise_for_status()
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="me",
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    try:
        yield S3Server(endpoint, client)
    finally:
        client.close()
        server.stop()
