"""gRPC's health checking protocol (grpc.health.v1), for the services that the endpoint picker protocol names.

HealthCheckRequest: 1 service. HealthCheckResponse: 1 status.
"""

from __future__ import annotations

from penstock.kit.errors import NotFound
from penstock.kit.protobuf import fields, number_field

CHECK = "/grpc.health.v1.Health/Check"
SERVING, NOT_SERVING = 1, 2
LIVENESS = "liveness"
READINESS = ("", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor")
"""The first stands for the whole process."""


def check(request: bytes, *, is_ready: bool) -> bytes:
    """Raises NotFound for a service that is not here, InvalidInput for what is no message."""
    name = ""
    for number, value in fields(request):
        if number == 1 and isinstance(value, bytes):
            name = value.decode("utf-8", "replace")
    if name == LIVENESS:
        return number_field(1, SERVING)
    if name in READINESS:
        return number_field(1, SERVING if is_ready else NOT_SERVING)
    raise NotFound(f"there is no service {name!r} here", code="unknown_service")
