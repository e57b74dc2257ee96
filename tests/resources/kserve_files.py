"""Manifests and schemas that nobody here wrote, read in place from ../shared."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

SHARED = Path(__file__).parents[3] / "shared"


def shared(folder: str) -> Path:
    if not (SHARED / folder).is_dir():
        pytest.skip("../shared is absent")
    return SHARED / folder


def samples() -> list[Path]:
    """Every sample manifest, or one stand-in that skips."""
    folder = SHARED / "kserve-samples"
    return sorted(folder.glob("*.yaml")) or [folder / "absent.yaml"]


@cache
def crd_schema(plural: str, version: str) -> dict[str, Any]:
    folder = shared("crds/kserve")
    text = (folder / f"serving.kserve.io_{plural}.yaml").read_text()
    crd = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    found = next(item for item in crd["spec"]["versions"] if item["name"] == version)
    schema: dict[str, Any] = found["schema"]["openAPIV3Schema"]
    return schema


def closed(schema):
    """The schema as the API server reads it: unknown fields are errors, int-or-string is what it says."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    result = {
        key: closed(value) if key != "properties" else {name: closed(inner) for name, inner in value.items()}
        for key, value in schema.items()
        if key != "format"
    }
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    return result


def index() -> list[dict[str, Any]]:
    return json.loads((shared("kserve-samples") / "index.json").read_text())


def without_empty(value):
    """Empty objects, lists and texts mean the same as nothing, in Kubernetes as here."""
    if isinstance(value, dict):
        fields = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in fields.items() if item not in ({}, [], "")}
    if isinstance(value, list | tuple):
        return [without_empty(item) for item in value]
    return value
