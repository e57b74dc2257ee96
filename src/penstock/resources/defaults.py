"""Defaults that KServe's and Kubernetes' admission would set; what consumers can default themselves stays unset."""

from __future__ import annotations

from typing import Any

from penstock.resources.scheme import Kind


def defaulted(document: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """The document with defaults; the same object if nothing is to be set."""
    return document
