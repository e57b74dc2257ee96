"""`POST …/apikeys/NAME/token`: issues a token of an API key, as Kubernetes' TokenRequest does for service accounts.

The token is in this one answer and nowhere else: the object gets its keyed hash. Asked again, this is rotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.decide.key_tokens import MAX_TOKENS, holding, issued
from penstock.host.api.body import read_object
from penstock.host.api.status import json_response
from penstock.host.api.target import Target
from penstock.host.metadata import Document
from penstock.host.objects import ObjectStore
from penstock.kit.api_keys import keyed_hash, new_id, new_key
from penstock.kit.errors import Cause, InvalidInput, Unavailable
from penstock.kit.timestamps import rfc3339
from penstock.resources.access import ApiKey
from penstock.resources.parse import invalid, parse
from penstock.resources.scheme import kind_of
from penstock.resources.structure import fit
from penstock.resources.validation import wrong

MAX_OVERLAP_S = 90 * 86_400
ID_ATTEMPTS = 4
NO_STORE = {"Cache-Control": "no-store"}


class TokenRequestSpec(msgspec.Struct, frozen=True, rename="camel"):
    """`overlap_seconds`: how much longer tokens that hold already are taken beside the new one, 0 for not at all."""

    overlap_seconds: int = 86_400


class TokenRequest(msgspec.Struct, frozen=True, rename="camel"):
    """The body of the request; every part may be left out."""

    api_version: str = "penstock.dev/v1alpha1"
    kind: str = "TokenRequest"
    metadata: Any = None
    spec: TokenRequestSpec = TokenRequestSpec()


class TokenApi:
    """Issues tokens into the objects of one store."""

    def __init__(self, objects: ObjectStore, pepper: bytes) -> None:
        """`pepper` keys the hashes; the gateways must have the same."""
        self._objects = objects
        self._pepper = pepper

    async def answer(self, request: Request, target: Target) -> Response:
        """201 and a TokenRequest whose status has the token. Raises NotFound, Invalid, InvalidInput."""
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        if request.query_params.get("dryRun"):
            raise InvalidInput("dryRun: a token is issued or it is not; leave dryRun out")
        asked = _request_of(await read_object(request), target)
        return json_response(self._issue(target, asked.spec.overlap_seconds), 201, NO_STORE)

    def _issue(self, target: Target, overlap_s: int) -> Document:
        """In one step on the event loop, so that no other request comes between the reading and the writing."""
        now, token = self._objects.clock.now(), ""

        def change(current: Document) -> Document:
            nonlocal token
            key = _typed(current)
            id = key.status.id or self._free_id()
            token = new_key(id)
            digest = keyed_hash(self._pepper, token.encode()).hex()
            status = issued(key.status, id, digest, now, overlap_s)
            if status is None:
                raise _too_many(target)
            return {**current, "status": msgspec.to_builtins(status)}

        stored = self._objects.change(target.kind, target.scope, target.name, change, subresource="status")
        key = _typed(stored.document)
        ends = [end for _, end in holding(key.spec, key.status, now)]
        status: Document = {"token": token, "id": key.status.id, "tokensHolding": len(ends)}
        if ends and ends[0]:
            status["expirationTimestamp"] = rfc3339(ends[0])
        return {
            "apiVersion": target.kind.api_version,
            "kind": "TokenRequest",
            "metadata": {"name": target.name, "namespace": target.scope},
            "spec": {"overlapSeconds": overlap_s},
            "status": status,
        }

    def _free_id(self) -> str:
        taken = set(_ids(self._objects.list(kind_of(ApiKey)).documents))
        for _ in range(ID_ATTEMPTS):
            id = new_id()
            if id not in taken:
                return id
        raise Unavailable("no free id was found for the API key", hint="try again")


def _typed(document: Document) -> ApiKey:
    key = parse(document).object
    assert isinstance(key, ApiKey)
    return key


def _ids(documents: Iterable[Document]) -> Iterable[str]:
    return (str((document.get("status") or {}).get("id", "")) for document in documents)


def _request_of(document: Document, target: Target) -> TokenRequest:
    """The body; unknown fields are refused, since one that is meant to end older tokens must not be overlooked."""
    fitted = fit(document, TokenRequest)
    if fitted.unknown:
        raise InvalidInput(
            "; ".join(one.advice for one in fitted.unknown),
            causes=tuple(Cause(one.path, str(one), "UnknownField") for one in fitted.unknown),
        )
    if fitted.causes:
        raise invalid(target.kind, target.name, fitted.causes)
    asked = msgspec.convert(fitted.document, TokenRequest)
    found = asked.spec.overlap_seconds
    if not 0 <= found <= MAX_OVERLAP_S:
        cause = wrong("spec.overlapSeconds", found, f"must be between 0 and {MAX_OVERLAP_S}, inclusive")
        raise invalid(target.kind, target.name, (cause,))
    return asked


def _too_many(target: Target) -> Exception:
    cause = Cause(
        "spec.overlapSeconds",
        f"Forbidden: {MAX_TOKENS} tokens hold already; wait until one expires, or say 0 to end them all",
        "FieldValueForbidden",
    )
    return invalid(target.kind, target.name, (cause,))
