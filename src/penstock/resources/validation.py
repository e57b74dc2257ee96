"""The words of validation: Kubernetes' names for what is wrong, and its syntax of names, labels and keys.

Texts are those of Kubernetes' apimachinery, so that tools and people recognise them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.kit.errors import Cause
from penstock.resources.meta import LabelSelector, ObjectMeta
from penstock.resources.structure import shown

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL_VALUE = f"({QUALIFIED})?"
CONFIG_KEY = "[-._a-zA-Z0-9]+"
MAX_ANNOTATIONS_BYTES = 256 << 10

LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an"
    f" alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    f" end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    f" '{QUALIFIED}')"
)
LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is"
    f" '({QUALIFIED})?')"
)

Causes = Iterator[Cause]


@dataclass(frozen=True, slots=True)
class Denial:
    """A rule of KServe's admission that an object breaks, in KServe's words, and what to do."""

    field: str
    message: str
    hint: str = ""


def required(field: str, detail: str = "") -> Cause:
    """Nothing was given where something must be."""
    return Cause(field, f"Required value: {detail}" if detail else "Required value", "FieldValueRequired")


def wrong(field: str, value: Any, detail: str) -> Cause:
    """The value breaks a rule."""
    return Cause(field, f"Invalid value: {shown(value)}: {detail}", "FieldValueInvalid")


def unsupported(field: str, value: Any, known: Collection[str]) -> Cause:
    """The value is not among those that are known."""
    values = ", ".join(f'"{item}"' for item in known)
    return Cause(
        field, f"Unsupported value: {shown(value)}: supported values: {values}", "FieldValueNotSupported"
    )


def duplicate(field: str, value: Any) -> Cause:
    """The value must be unique and is not."""
    return Cause(field, f"Duplicate value: {shown(value)}", "FieldValueDuplicate")


def missing(field: str, value: Any) -> Cause:
    """The value names something that is not there."""
    return Cause(field, f"Not found: {shown(value)}", "FieldValueNotFound")


def forbidden(field: str, detail: str) -> Cause:
    """The field may not be set, or not be changed."""
    return Cause(field, f"Forbidden: {detail}", "FieldValueForbidden")


def immutable(field: str, old: Any, new: Any) -> Causes:
    """A cause if a field that may not change did."""
    if old != new:
        yield wrong(field, new, "field is immutable")


def at_least(field: str, value: int | None, least: int = 0) -> Causes:
    """A cause if a number is too small."""
    if value is not None and value < least:
        yield wrong(field, value, f"must be greater than or equal to {least}")


def one_of(field: str, value: str | None, known: Collection[str]) -> Causes:
    """A cause if a text is given and not known."""
    if value and value not in known:
        yield unsupported(field, value, known)


def label_name(field: str, value: str) -> Causes:
    """Causes if this is no RFC 1123 label, as containers, volumes and namespaces are named."""
    if not value:
        yield required(field)
    elif len(value) > 63:
        yield wrong(field, value, "must be no more than 63 characters")
    elif not re.fullmatch(LABEL, value):
        yield wrong(field, value, LABEL_TEXT)


def subdomain_name(field: str, value: str) -> Causes:
    """Causes if this is no RFC 1123 subdomain, as most objects are named."""
    if not value:
        yield required(field, "name or generateName is required")
    elif len(value) > 253:
        yield wrong(field, value, "must be no more than 253 characters")
    elif not re.fullmatch(SUBDOMAIN, value):
        yield wrong(field, value, SUBDOMAIN_TEXT)


def qualified_name(field: str, key: str) -> Causes:
    """Causes if this is no key of a label or annotation: `name` or `prefix/name`."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not re.fullmatch(SUBDOMAIN, prefix)):
        yield wrong(field, key, f"prefix part {SUBDOMAIN_TEXT}")
    if len(name) > 63:
        yield wrong(field, key, "name part must be no more than 63 characters")
    elif not re.fullmatch(QUALIFIED, name):
        yield wrong(field, key, QUALIFIED_TEXT)


def label_pairs(field: str, values: Mapping[str, str]) -> Causes:
    """Causes for keys and values that are no labels."""
    for key, value in values.items():
        yield from qualified_name(field, key)
        if len(value) > 63:
            yield wrong(field, value, "must be no more than 63 characters")
        elif not re.fullmatch(LABEL_VALUE, value):
            yield wrong(field, value, LABEL_VALUE_TEXT)


def annotation_keys(field: str, values: Mapping[str, str]) -> Causes:
    """Causes for keys that are none, and for more than 256 KiB in all."""
    for key in values:
        yield from qualified_name(field, key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in values.items()) > MAX_ANNOTATIONS_BYTES:
        yield Cause(
            field, f"Too long: may not be more than {MAX_ANNOTATIONS_BYTES} bytes", "FieldValueTooLong"
        )


def metadata(meta: ObjectMeta, *, label: bool) -> Causes:
    """Causes in an object's metadata; `label` where its name must be an RFC 1123 label."""
    name = label_name if label else subdomain_name
    yield from name("metadata.name", meta.name)
    yield from label_pairs("metadata.labels", meta.labels)
    yield from annotation_keys("metadata.annotations", meta.annotations)


def selector(field: str, value: LabelSelector) -> Causes:
    """Causes in a label selector."""
    yield from label_pairs(f"{field}.matchLabels", value.match_labels)
    for i, want in enumerate(value.match_expressions):
        where = f"{field}.matchExpressions[{i}]"
        yield from qualified_name(f"{where}.key", want.key)
        if want.operator in ("In", "NotIn"):
            if not want.values:
                yield required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif want.operator in ("Exists", "DoesNotExist"):
            if want.values:
                yield forbidden(
                    f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )
        else:
            yield wrong(f"{where}.operator", want.operator, "not a valid selector operator")
