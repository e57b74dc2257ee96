"""What happens to an object before it is stored: prune, default, validate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.kit.errors import Cause, Invalid
from penstock.resources.defaults import defaulted
from penstock.resources.meta import Resource
from penstock.resources.parse import identify, invalid, parse, typed
from penstock.resources.validate import advise, deny, validate


@dataclass(frozen=True, slots=True)
class Admitted:
    """An object that may be stored, its document with defaults, and what the user should know."""

    object: Resource
    document: dict[str, Any]
    warnings: tuple[str, ...] = ()


def admit(
    document: Mapping[str, Any],
    old: Resource | None = None,
    *,
    strict: bool = False,
    peers: Iterable[Resource] = (),
) -> Admitted:
    """Admit a new object, or what `old` becomes. Raises Invalid with causes, InvalidInput.

    `peers` are the stored objects of the same kind, for rules between objects. Rules are not applied again where
    neither spec nor labels nor annotations changed: that way status, finalizers and deletion always go through.
    """
    parsed = parse(document, strict=strict)
    if old is not None and _same_wish(old, parsed.object):
        return Admitted(parsed.object, parsed.document, parsed.warnings)
    kind = identify(parsed.document)
    result = defaulted(parsed.document, kind, updates=old is not None)
    obj = parsed.object if result is parsed.document else typed(result, kind)
    causes = validate(obj, old)
    if causes:
        raise invalid(kind, obj.metadata.name, causes)
    denial = deny(obj, old, peers)
    if denial is not None:
        raise Invalid(
            denial.message,
            hint="; ".join(filter(None, (denial.hint, *parsed.warnings))),
            causes=(Cause(denial.field, denial.message, "FieldValueForbidden"),),
            about=obj.metadata.name,
        )
    warnings = [*parsed.warnings, *advise(obj)]
    if not kind.acted_upon:
        warnings.append(f"{kind.kind} is accepted and stored, but not yet acted upon")
    return Admitted(obj, result, tuple(warnings))


def _same_wish(old: Resource, new: Resource) -> bool:
    """Whether two states of an object differ in status and bookkeeping only."""
    fields = [name for name in new.__struct_fields__ if name not in ("metadata", "status")]
    return (
        old.metadata.labels == new.metadata.labels
        and old.metadata.annotations == new.metadata.annotations
        and all(getattr(old, name) == getattr(new, name) for name in fields)
    )
