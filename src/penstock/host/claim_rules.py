"""Whether a namespace may look at devices that others hold, at admission of claims and their templates, as Kubernetes has it."""

from __future__ import annotations

import msgspec

from penstock.host.metadata import resource_of
from penstock.host.store import Store
from penstock.kit.errors import Cause, Invalid
from penstock.resources.claims import ADMIN_LABEL
from penstock.resources.core import Namespace
from penstock.resources.devices import DeviceClaim, ResourceClaim, ResourceClaimTemplate
from penstock.resources.meta import Resource
from penstock.resources.scheme import kind_of


def check_claim(new: Resource, store: Store) -> None:
    """Raises Invalid for `adminAccess` in a namespace without the label."""
    if isinstance(new, ResourceClaim):
        field = _administering(new.spec.devices, "spec.devices")
    elif isinstance(new, ResourceClaimTemplate):
        field = _administering(new.spec.spec.devices, "spec.spec.devices")
    else:
        return
    if not field:
        return
    row = store.read(resource_of(kind_of(Namespace)), "", new.metadata.namespace)
    labels = msgspec.json.decode(row.document)["metadata"].get("labels") or {} if row else {}
    if labels.get(ADMIN_LABEL) != "true":
        message = (
            f"admin access to devices requires the `{ADMIN_LABEL}: true` label on the containing namespace"
        )
        raise Invalid(
            f"{field}: {message}",
            hint=f"kubectl label namespace {new.metadata.namespace} {ADMIN_LABEL}=true, or leave adminAccess out",
            causes=(Cause(field, message, "FieldValueForbidden"),),
            about=f"{new.kind} {new.metadata.name}",
        )


def _administering(claim: DeviceClaim, field: str) -> str:
    """The first request that asks for it."""
    for i, request in enumerate(claim.requests):
        for wish in (request.exactly, *request.first_available):
            if wish is not None and wish.admin_access:
                return f"{field}.requests[{i}].exactly.adminAccess"
    return ""
