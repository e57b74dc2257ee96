"""Envoy's external processing messages in Google's own library, so that what we read and write is judged by another's code.

Only the fields that Envoy fills in and heeds; numbers and types from external_processor.proto, base.proto and http_status.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_TYPES = {"string": 9, "bytes": 12, "bool": 8, "int32": 5, "uint32": 13}
_MESSAGE = 11
_STRUCT = ".google.protobuf.Struct"
_SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "HeaderValue": {"key": (1, "string"), "value": (2, "string"), "raw_value": (3, "bytes")},
    "HeaderMap": {"headers": (1, "*HeaderValue")},
    "HttpHeaders": {"headers": (1, "HeaderMap"), "end_of_stream": (3, "bool")},
    "HttpBody": {"body": (1, "bytes"), "end_of_stream": (2, "bool")},
    "HttpTrailers": {"trailers": (1, "HeaderMap")},
    "Namespace": {"key": (1, "string"), "value": (2, _STRUCT)},
    "Metadata": {"filter_metadata": (1, "*Namespace")},
    "ProtocolConfiguration": {"request_body_mode": (1, "int32"), "response_body_mode": (2, "int32")},
    "ProcessingRequest": {
        "request_headers": (2, "HttpHeaders"),
        "response_headers": (3, "HttpHeaders"),
        "request_body": (4, "HttpBody"),
        "response_body": (5, "HttpBody"),
        "request_trailers": (6, "HttpTrailers"),
        "response_trailers": (7, "HttpTrailers"),
        "metadata_context": (8, "Metadata"),
        "observability_mode": (10, "bool"),
        "protocol_config": (11, "ProtocolConfiguration"),
    },
    "HeaderValueOption": {"header": (1, "HeaderValue"), "append_action": (3, "int32")},
    "HeaderMutation": {"set_headers": (1, "*HeaderValueOption"), "remove_headers": (2, "*string")},
    "StreamedBodyResponse": {"body": (1, "bytes"), "end_of_stream": (2, "bool")},
    "BodyMutation": {
        "body": (1, "bytes"),
        "clear_body": (2, "bool"),
        "streamed_response": (3, "StreamedBodyResponse"),
    },
    "CommonResponse": {
        "status": (1, "int32"),
        "header_mutation": (2, "HeaderMutation"),
        "body_mutation": (3, "BodyMutation"),
    },
    "PartResponse": {"response": (1, "CommonResponse")},
    "TrailersResponse": {"header_mutation": (1, "HeaderMutation")},
    "HttpStatus": {"code": (1, "int32")},
    "ImmediateResponse": {
        "status": (1, "HttpStatus"),
        "headers": (2, "HeaderMutation"),
        "body": (3, "bytes"),
        "details": (5, "string"),
    },
    "ProcessingResponse": {
        "request_headers": (1, "PartResponse"),
        "response_headers": (2, "PartResponse"),
        "request_body": (3, "PartResponse"),
        "response_body": (4, "PartResponse"),
        "request_trailers": (5, "TrailersResponse"),
        "response_trailers": (6, "TrailersResponse"),
        "immediate_response": (7, "ImmediateResponse"),
        "dynamic_metadata": (8, _STRUCT),
    },
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="ext_proc_messages.proto",
        package="ext_proc",
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    for name, members in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in members.items():
            plain = kind.removeprefix("*")
            own = message.field.add(name=field, number=number, label=3 if kind != plain else 1)
            own.type = _TYPES.get(plain, _MESSAGE)
            if own.type == _MESSAGE:
                own.type_name = plain if plain.startswith(".") else f".ext_proc.{plain}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
_POOL.Add(_file())
ProcessingRequest, ProcessingResponse, Struct = (
    message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    for name in ("ext_proc.ProcessingRequest", "ext_proc.ProcessingResponse", "google.protobuf.Struct")
)


def header_map(headers: dict[str, str]) -> dict[str, Any]:
    return {"headers": [{"key": key, "raw_value": value.encode()} for key, value in headers.items()]}


def request(
    *, metadata: dict[str, Any] | None = None, modes: tuple[int, int] | None = None, **part: Any
) -> bytes:
    """One ProcessingRequest with one part; `metadata` is by namespace."""
    message = ProcessingRequest(**part)
    for namespace, members in (metadata or {}).items():
        entry = message.metadata_context.filter_metadata.add(key=namespace)
        entry.value.update(members)
    if modes is not None:
        message.protocol_config.SetInParent()
        message.protocol_config.request_body_mode, message.protocol_config.response_body_mode = modes
    return message.SerializeToString()


def response(data: bytes) -> Any:
    """One ProcessingResponse; fails where it has a field that Envoy would not know."""
    message = ProcessingResponse.FromString(data)
    again = ProcessingResponse.FromString(message.SerializeToString(deterministic=True))
    again.DiscardUnknownFields()
    assert again == message, "it has fields that Envoy does not know"
    return message


def kind(message: Any) -> str:
    """Which of its parts it has."""
    (found,) = (field.name for field, _ in message.ListFields() if field.name != "dynamic_metadata")
    return str(found)


def headers_of(mutation: Any) -> dict[str, str]:
    """What is set; every header replaces the ones before it."""
    assert all(one.append_action == 2 for one in mutation.set_headers)
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}
