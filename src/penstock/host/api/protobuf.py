"""Objects that arrive as Kubernetes' protobuf, which `kubectl create configmap` and its like send without asking.

Only what those commands can write is known: namespaces, configuration, identities, and workloads as `kubectl create
deployment` and `job` make them. A field beyond that is refused by number rather than dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from penstock.kit.errors import InvalidInput, UnsupportedMedia

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

Document = dict[str, Any]

TEXTS = {
    "Unknown": "1 typeMeta TypeMeta, 2 raw raw, 3 contentEncoding string, 4 contentType string",
    "TypeMeta": "1 apiVersion string, 2 kind string",
    "ObjectMeta": "1 name string, 2 generateName string, 3 namespace string, 4 selfLink string, 5 uid string,"
    " 6 resourceVersion string, 7 generation int, 8 creationTimestamp -, 10 deletionGracePeriodSeconds int?,"
    " 11 labels {string, 12 annotations {string, 14 finalizers *string, 17 managedFields -",
    "Namespace": "1 metadata ObjectMeta, 2 spec -, 3 status -",
    "ConfigMap": "1 metadata ObjectMeta, 2 data {string, 3 binaryData {bytes, 4 immutable bool?",
    "Secret": "1 metadata ObjectMeta, 2 data {bytes, 3 type string, 4 stringData {string, 5 immutable bool?",
    "ServiceAccount": "1 metadata ObjectMeta, 2 secrets *Reference, 3 imagePullSecrets *Reference,"
    " 4 automountServiceAccountToken bool?",
    "Reference": "1 kind string, 2 namespace string, 3 name string",
    "PriorityClass": "1 metadata ObjectMeta, 2 value int, 3 globalDefault bool, 4 description string,"
    " 5 preemptionPolicy string",
    "Deployment": "1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status -",
    "DeploymentSpec": "1 replicas int?, 2 selector LabelSelector, 3 template PodTemplate, 4 strategy Strategy,"
    " 5 minReadySeconds int, 6 revisionHistoryLimit int?, 7 paused bool, 9 progressDeadlineSeconds int?",
    "Strategy": "1 type string",
    "LabelSelector": "1 matchLabels {string",
    "Job": "1 metadata ObjectMeta, 2 spec JobSpec, 3 status -",
    "JobSpec": "1 parallelism int?, 2 completions int?, 3 activeDeadlineSeconds int?, 6 template PodTemplate,"
    " 7 backoffLimit int?, 8 ttlSecondsAfterFinished int?, 10 suspend bool?",
    "PodTemplate": "1 metadata ObjectMeta, 2 spec PodSpec",
    "PodSpec": "2 containers *Container, 3 restartPolicy string, 4 terminationGracePeriodSeconds int?,"
    " 6 dnsPolicy string, 7 nodeSelector {string, 8 serviceAccountName string, 9 serviceAccount string,"
    " 10 nodeName string, 11 hostNetwork bool, 12 hostPID bool, 13 hostIPC bool, 14 securityContext -,"
    " 16 hostname string, 17 subdomain string, 19 schedulerName string, 24 priorityClassName string",
    "Container": "1 name string, 2 image string, 3 command *string, 4 args *string, 5 workingDir string,"
    " 6 ports *Port, 7 env *EnvVar, 8 resources Resources, 13 terminationMessagePath string,"
    " 14 imagePullPolicy string, 16 stdin bool, 17 stdinOnce bool, 18 tty bool, 20 terminationMessagePolicy string",
    "Port": "1 name string, 2 hostPort int, 3 containerPort int, 4 protocol string, 5 hostIP string",
    "EnvVar": "1 name string, 2 value string",
    "Resources": "1 limits {Quantity, 2 requests {Quantity",
    "Quantity": "1 string string",
    "DeleteOptions": "1 gracePeriodSeconds int?, 2 preconditions Preconditions, 3 orphanDependents bool?,"
    " 4 propagationPolicy string, 5 dryRun *string",
    "Preconditions": "1 uid string, 2 resourceVersion string",
    "SelfSubjectAccessReview": "1 metadata ObjectMeta, 2 spec ReviewSpec, 3 status -",
    "ReviewSpec": "1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes PathAttributes",
    "ResourceAttributes": "1 namespace string, 2 verb string, 3 group string, 4 version string, 5 resource string,"
    " 6 subresource string, 7 name string",
    "PathAttributes": "1 path string, 2 verb string",
}
"""Per message, each field's number, JSON name and type: `*` repeated, `{` a map from texts, `?` kept when zero, `-` ignored."""

MESSAGES: dict[str, dict[int, tuple[str, str]]] = {
    message: {
        int(number): (name, type) for number, name, type in (field.split() for field in text.split(","))
    }
    for message, text in TEXTS.items()
}


def decode(body: bytes) -> Document:
    """The object in a `runtime.Unknown` envelope. Raises InvalidInput, UnsupportedMedia."""
    if not body.startswith(MAGIC):
        raise InvalidInput("the body is not Kubernetes protobuf: it does not begin with the magic number")
    envelope = _message("Unknown", body[len(MAGIC) :])
    kind = envelope.get("typeMeta", {}).get("kind", "")
    if kind not in MESSAGES:
        raise _unknown(f"{kind or 'this object'} as protobuf")
    return {**envelope["typeMeta"], **_message(kind, envelope.get("raw", b""))}


def _message(name: str, data: bytes) -> Document:
    result: Document = {}
    for number, value in _fields(data):
        if number not in MESSAGES[name]:
            if value:
                raise _unknown(f"field {number} of {name} as protobuf")
            continue
        field, type = MESSAGES[name][number]
        if type == "-":
            continue
        if type.startswith("*"):
            result.setdefault(field, []).append(_value(type[1:], value))
        elif type.startswith("{"):
            entry = dict(_fields(_bytes(value)))
            key = _text(entry.get(1, b""))
            result.setdefault(field, {})[key] = _value(type[1:], entry.get(2, b""))
        else:
            decoded = _value(type.removesuffix("?"), value)
            if decoded or type.endswith("?"):
                result[field] = decoded
    return result


def _value(type: str, value: int | bytes) -> Any:
    if type == "int" and isinstance(value, int):
        return value - (1 << 64) if value >> 63 else value
    if type == "bool":
        return bool(value)
    if type == "raw":
        return _bytes(value)
    if type == "string":
        return _text(value)
    if type == "bytes":
        return base64.b64encode(_bytes(value)).decode()
    message = _message(type, _bytes(value))
    return message.get("string", "") if type == "Quantity" else message


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidInput("the body is not Kubernetes protobuf: a number stands where bytes belong")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not Kubernetes protobuf: {error}") from error


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: wire types 0 (number) and 2 (bytes) are all that Kubernetes uses here."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        value: int | bytes
        if tag & 7 == 0:
            value, position = _varint(data, position)
        elif tag & 7 == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise InvalidInput("the body is not Kubernetes protobuf: it ends too early")
            value, position = data[position : position + length], position + length
        else:
            raise InvalidInput(
                f"the body is not Kubernetes protobuf: wire type {tag & 7} of field {tag >> 3}"
            )
        yield tag >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value & (1 << 64) - 1, position
    raise InvalidInput("the body is not Kubernetes protobuf: a number does not end")


def _unknown(what: str) -> UnsupportedMedia:
    return UnsupportedMedia(
        f"{what} is not understood here",
        hint="send JSON: kubectl create … --dry-run=client -o yaml | kubectl apply -f -",
    )
