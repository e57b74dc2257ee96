"""One request under way, as the stages of the pipeline hand it on."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.gateway.paths import Target
from penstock.gateway.wire.message import Request
from penstock.gateway.wire.server import Responder


@dataclass(slots=True)
class Call:
    """`started` is monotonic time; `model` is the name that the body says, "" where path or Host name the service."""

    request: Request
    respond: Responder
    id: str
    started: float
    target: Target
    model: str = ""
