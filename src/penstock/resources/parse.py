"""Documents to typed objects: the kind is found, unknown fields are set aside, wrong types are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.kit.bounds import check_depth
from penstock.kit.errors import Cause, Invalid, InvalidInput, nearest
from penstock.resources.documents import documents
from penstock.resources.meta import Resource
from penstock.resources.scheme import KINDS, Kind, find
from penstock.resources.structure import fit, shown

__all__ = ["Parsed", "documents", "identify", "invalid", "parse", "typed"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """An object, its document without unknown fields, and what was set aside."""

    object: Resource
    document: dict[str, Any]
    warnings: tuple[str, ...] = ()


def parse(document: Mapping[str, Any], *, strict: bool = False) -> Parsed:
    """The typed object of a document.

    Raises InvalidInput for what is no object at all, or has unknown fields under `strict`; Invalid with every cause
    for an unknown kind, missing fields and wrong types.
    """
    kind = identify(document)
    check_depth(document, "the object")
    fitted = fit({**document, "apiVersion": kind.api_version}, kind.type, secret=kind.kind == "Secret")
    if fitted.unknown and strict:
        texts = ", ".join(str(unknown) for unknown in fitted.unknown)
        raise InvalidInput(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}:'
            f" strict decoding error: {texts}",
            hint="; ".join(unknown.advice for unknown in fitted.unknown if unknown.nearest),
            causes=tuple(Cause(unknown.path, str(unknown), "UnknownField") for unknown in fitted.unknown),
        )
    if fitted.causes:
        raise invalid(kind, _name(document), fitted.causes)
    warnings = [unknown.advice for unknown in fitted.unknown]
    if document["apiVersion"] != kind.api_version:
        warnings.append(f"{document['apiVersion']} {kind.kind} is read as {kind.api_version}")
    return Parsed(typed(fitted.document, kind), fitted.document, tuple(warnings))


def typed(document: Mapping[str, Any], kind: Kind) -> Resource:
    """A fitted document as its type."""
    obj: Resource = msgspec.convert(document, kind.type)
    return obj


def identify(document: Mapping[str, Any]) -> Kind:
    """The kind that a document says it is. Raises InvalidInput if it says none, Invalid if it is none that is known."""
    names = {}
    for field in ("apiVersion", "kind"):
        value = document.get(field)
        if not isinstance(value, str) or not value:
            raise InvalidInput(
                f"{field}: found {shown(value) if field in document else 'nothing'}, expected a string",
                hint='every object starts with apiVersion and kind, as in "serving.kserve.io/v1beta1" and'
                ' "InferenceService"',
                causes=(Cause(field, "Required value", "FieldValueRequired"),),
            )
        names[field] = value
    kind = find(names["apiVersion"], names["kind"])
    if kind is None:
        raise _no_match(names["apiVersion"], names["kind"])
    return kind


def invalid(kind: Kind, name: str, causes: tuple[Cause, ...]) -> Invalid:
    """Kubernetes' error for an object that breaks rules: `Deployment.apps "web" is invalid: …`."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return Invalid(f'{kind.qualified} "{name}" is invalid: {text}', causes=causes)


def _no_match(api_version: str, name: str) -> Invalid:
    same_name = [kind.api_version for kind in KINDS if kind.kind.lower() == name.lower()]
    if same_name:
        hint = f"the version of {name} that is served is {same_name[0]}"
        spelled = next(kind.kind for kind in KINDS if kind.kind.lower() == name.lower())
        if spelled != name:
            hint = f"write kind: {spelled}, apiVersion: {same_name[0]}"
    else:
        near = nearest(name, [kind.kind for kind in KINDS])
        hint = (
            f"did you mean {' or '.join(near)}?" if near else "penstock api-resources lists the known kinds"
        )
    return Invalid(
        f'no matches for kind "{name}" in version "{api_version}"',
        code="unknown_kind",
        hint=hint,
        causes=(
            Cause(
                "kind", f'no matches for kind "{name}" in version "{api_version}"', "FieldValueNotSupported"
            ),
        ),
    )


def _name(document: Mapping[str, Any]) -> str:
    meta = document.get("metadata")
    name = meta.get("name") if isinstance(meta, Mapping) else ""
    return name if isinstance(name, str) else ""
