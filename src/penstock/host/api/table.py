"""`Table` and `PartialObjectMetadata` answers: what kubectl asks for when it prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from penstock.host.api.columns import columns_of
from penstock.host.metadata import Document
from penstock.resources.scheme import Kind

Shape = Literal["object", "table", "metadata"]
GROUP = "meta.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class View:
    """How answers are to be shaped. `include` is how much of each object a table row carries."""

    kind: Kind
    shape: Shape = "object"
    include: str = "Metadata"

    def one(self, document: Document, now_s: float) -> Document:
        """A single object in this shape."""
        if self.shape == "table":
            return self.table([document], document["metadata"].get("resourceVersion", ""), now_s)
        return _partial(document) if self.shape == "metadata" else document

    def many(self, documents: Iterable[Document], meta: Document, now_s: float) -> Document:
        """A list in this shape; `meta` is the list's metadata."""
        if self.shape == "table":
            table = self.table(documents, "", now_s)
            return {**table, "metadata": meta}
        if self.shape == "metadata":
            items = [_partial(document) for document in documents]
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": GROUP,
                "metadata": meta,
                "items": items,
            }
        return {
            "kind": f"{self.kind.kind}List",
            "apiVersion": self.kind.api_version,
            "metadata": meta,
            "items": list(documents),
        }

    def table(self, documents: Iterable[Document], resource_version: str, now_s: float) -> Document:
        """Column definitions and one row per object."""
        columns = columns_of(self.kind)
        return {
            "kind": "Table",
            "apiVersion": GROUP,
            "metadata": {"resourceVersion": resource_version} if resource_version else {},
            "columnDefinitions": [
                {
                    "name": column.name,
                    "type": column.type,
                    "format": "name" if column.name == "Name" else "",
                    "description": column.description,
                    "priority": int(column.wide),
                }
                for column in columns
            ],
            "rows": [
                {"cells": [column.cell(document, now_s) for column in columns], **self._row_object(document)}
                for document in documents
            ],
        }

    def _row_object(self, document: Document) -> dict[str, Any]:
        if self.include == "None":
            return {}
        return {"object": document if self.include == "Object" else _partial(document)}


def view_of(kind: Kind, accept: str, include: str) -> View:
    """The first shape in an Accept header that we can give."""
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        given = dict(part.split("=", 1) for part in parameters if "=" in part)
        if media not in ("application/json", "*/*", "application/*"):
            continue
        if given.get("g") == "meta.k8s.io" and given.get("v") == "v1":
            shape = given.get("as", "")
            if shape == "Table":
                return View(kind, "table", include or "Metadata")
            if shape.startswith("PartialObjectMetadata"):
                return View(kind, "metadata")
        if "as" not in given:
            break
    return View(kind)


def _partial(document: Document) -> Document:
    return {"kind": "PartialObjectMetadata", "apiVersion": GROUP, "metadata": document["metadata"]}
