"""How did a request end?"""

from __future__ import annotations

from typing import Literal

from penstock.gateway.call import Call

Outcome = Literal["ok", "error", "cancelled", "broken"]
CANCELLED = "cancelled"
"""`Call.error` of a request whose client went away."""


def outcome_of(call: Call) -> Outcome:
    """`broken`: the answer had begun and did not come to its end. `error`: the answer is an error, ours or the engine's."""
    if not call.error:
        return "ok" if 0 < call.respond.status < 400 else "error"
    if call.error == CANCELLED:
        return "cancelled"
    return "broken" if call.first_byte_at else "error"


def error_type(call: Call) -> str:
    """OpenTelemetry's `error.type`: our code, or the engine's status; "" where nothing went wrong."""
    status = call.respond.status
    return call.error or ("" if 0 < status < 400 else str(status or "none"))
