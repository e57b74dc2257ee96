"""Do configuration, secrets, claims and priorities keep Kubernetes' rules?"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from msgspec.structs import replace

from penstock.kit.errors import Cause
from penstock.kit.quantity import parse_quantity
from penstock.resources.autoscaler_config import CONFIG_NAME, CONFIG_NAMESPACE, parse_config
from penstock.resources.core import ConfigMap, PersistentVolumeClaim, PriorityClass, Secret
from penstock.resources.validation import (
    CONFIG_KEY,
    Causes,
    duplicate,
    forbidden,
    immutable,
    one_of,
    required,
    unsupported,
    wrong,
)

MAX_DATA_BYTES = 1 << 20
MAX_PRIORITY = 1_000_000_000
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
KEY_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or"
    f" 'key-name', regex used for validation is '{CONFIG_KEY}')"
)
SECRET_KEYS = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def validate_config_map(new: ConfigMap, old: ConfigMap | None) -> Causes:
    """Causes in a ConfigMap."""
    yield from _keys("data", new.data)
    yield from _keys("binaryData", new.binary_data)
    yield from _base64("binaryData", new.binary_data)
    for key in new.data.keys() & new.binary_data.keys():
        yield duplicate(f"data[{key}]", key)
    yield from _size("", new.data, new.binary_data)
    if (new.metadata.namespace, new.metadata.name) == (CONFIG_NAMESPACE, CONFIG_NAME):
        for key, message in parse_config(new.data)[1]:
            yield wrong(f"data[{key}]", new.data.get(key), message)
    if old is not None and old.immutable:
        if not new.immutable:
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        for name, before, after in (
            ("data", old.data, new.data),
            ("binaryData", old.binary_data, new.binary_data),
        ):
            if before != after:
                yield forbidden(name, "field is immutable when `immutable` is set")


def validate_secret(new: Secret, old: Secret | None) -> Causes:
    """Causes in a Secret; no cause shows a value."""
    yield from _keys("data", new.data)
    yield from _keys("stringData", new.string_data)
    yield from _base64("data", new.data)
    yield from _size("data", new.data, new.string_data)
    for key in SECRET_KEYS.get(new.type, ()):
        if key not in new.data and key not in new.string_data:
            yield required(f"data[{key}]")
    if old is None:
        return
    if new.type != old.type and old.type:
        yield from immutable("type", old.type, new.type)
    if old.immutable:
        if not new.immutable:
            yield forbidden("immutable", "field is immutable when `immutable` is set")
        if old.data != new.data or new.string_data:
            yield forbidden("data", "field is immutable when `immutable` is set")


def validate_claim(new: PersistentVolumeClaim, old: PersistentVolumeClaim | None) -> Causes:
    """Causes in a claim; of a stored one only the wished size may grow and the volume be set."""
    spec = new.spec
    if not spec.access_modes:
        yield required("spec.accessModes", "at least 1 access mode is required")
    for i, mode in enumerate(spec.access_modes):
        if mode not in ACCESS_MODES:
            yield unsupported(f"spec.accessModes[{i}]", mode, ACCESS_MODES)
    wished = spec.resources.requests.get("storage") if spec.resources else None
    if wished is None:
        yield required("spec.resources[storage]")
        return
    if parse_quantity(wished) <= 0:
        yield wrong("spec.resources[storage]", wished, "must be greater than zero")
    if old is None:
        return
    fixed = replace(old.spec, resources=spec.resources, volume_name=old.spec.volume_name or spec.volume_name)
    if fixed != spec:
        yield forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        )
    before = old.spec.resources.requests.get("storage") if old.spec.resources else None
    if before is not None and parse_quantity(wished) < parse_quantity(before):
        yield forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")


def validate_priority_class(new: PriorityClass, old: PriorityClass | None) -> Causes:
    """Causes in a PriorityClass."""
    if new.value > MAX_PRIORITY and not new.metadata.name.startswith("system-"):
        yield forbidden("value", f"maximum allowed value of a user defined priority is {MAX_PRIORITY}")
    if old is not None and new.value != old.value:
        yield forbidden("value", "may not be changed in an update.")
    yield from one_of("preemptionPolicy", new.preemption_policy, ("Never", "PreemptLowerPriority"))
    if old is not None:
        yield from immutable(
            "preemptionPolicy",
            old.preemption_policy or "PreemptLowerPriority",
            new.preemption_policy or "PreemptLowerPriority",
        )


def _keys(field: str, values: Mapping[str, str]) -> Causes:
    for key in values:
        if len(key) > 253 or key in (".", "..") or not re.fullmatch(CONFIG_KEY, key):
            yield wrong(f"{field}[{key}]", key, KEY_TEXT)


def _base64(field: str, values: Mapping[str, str]) -> Causes:
    for key, value in values.items():
        try:
            base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            yield Cause(
                f"{field}[{key}]",
                "Invalid value: the text is not base64; put plain text into stringData, or encode it",
                "FieldValueInvalid",
            )


def _size(field: str, *parts: Mapping[str, str]) -> Causes:
    if sum(len(value.encode()) for part in parts for value in part.values()) > MAX_DATA_BYTES:
        yield Cause(field, f"Too long: may not be more than {MAX_DATA_BYTES} bytes", "FieldValueTooLong")
