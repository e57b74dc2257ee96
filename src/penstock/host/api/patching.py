"""PATCH bodies: which document a patch of each content type makes of the current one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from penstock.host.api.body import decode_json
from penstock.host.metadata import Document
from penstock.kit.errors import InvalidInput, UnsupportedMedia
from penstock.kit.patch import json_patch, merge_patch, strategic_merge
from penstock.resources.scheme import Kind

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


def patch_of(kind: Kind, media: str, body: bytes) -> Callable[[Document], Document]:
    """What the patch does to a document. Raises UnsupportedMedia, InvalidInput."""
    accepted = patch_types(kind)
    if media not in accepted or media == APPLY:
        raise UnsupportedMedia(
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(accepted)
        )
    patch = decode_json(body)
    expected = list if media == JSON_PATCH else dict
    if not isinstance(patch, expected):
        raise InvalidInput(f"a patch of type {media} is a JSON {'array' if expected is list else 'object'}")
    apply: Callable[[Document, Any], Any] = {
        MERGE: merge_patch,
        JSON_PATCH: json_patch,
        STRATEGIC: strategic_merge,
    }[media]

    def change(current: Document) -> Document:
        result = apply(current, patch)
        if not isinstance(result, dict):
            raise InvalidInput("the patch turns the object into something that is not an object")
        return result

    return change


def patch_types(kind: Kind) -> tuple[str, ...]:
    """The content types that a kind takes: Kubernetes offers strategic merge for its own kinds, not for custom resources."""
    group = kind.group
    built_in = "." not in group or group.endswith(".k8s.io")
    return (JSON_PATCH, MERGE, STRATEGIC, APPLY) if built_in else (JSON_PATCH, MERGE, APPLY)
