"""The kubeconfig and the token in the data folder: what kubectl needs to talk to this host."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import yaml

from penstock.host.api.private import write_private

CONTEXT = "penstock"


def ensure_token(path: Path) -> str:
    """The token in this file (mode 0600); a new random one of 256 bits when there is none."""
    if path.exists():
        token = path.read_text().strip()
        if token:
            path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    write_private(path, f"{token}\n".encode())
    return token


def write_kubeconfig(path: Path, *, server: str, token: str, certificate: Path) -> None:
    """A kubeconfig (mode 0600) whose current context is `penstock`; `server` is an https URL.

    The certificate is written into it, so that the file works from wherever it is copied to.
    """
    authority = base64.b64encode(certificate.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": CONTEXT, "user": {"token": token}}],
        "contexts": [
            {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}
        ],
    }
    write_private(path, yaml.safe_dump(config, sort_keys=False).encode())
