"""What a request's head says, worked out once for all requests with that head: where it leads, who asks, what is passed on.

A reading rests on the table in force, so a new table makes all of them void.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock.contracts.exchange import KeyRoute, ServiceRoute
from penstock.decide.deadline import HEADERS as DEADLINES
from penstock.decide.priority import PRIORITY, asks_for_batch
from penstock.decide.quota import Bucket
from penstock.gateway import access, paths
from penstock.gateway.access import Access
from penstock.gateway.dialects.dialect import Dialect
from penstock.gateway.dialects.known import DIALECTS
from penstock.gateway.names import Names
from penstock.gateway.paths import Target
from penstock.gateway.trace import TRACEPARENT, TRACESTATE
from penstock.gateway.wire.message import HOP_BY_HOP, Head, lines, named_by_connection
from penstock.kit.errors import NotFound

REQUEST_ID = b"x-request-id"
SESSION, BATCH = b"x-session-id", b"x-penstock-batch"
EXPLAIN = b"x-penstock-explain"
"""`true` asks to be told how the request was routed."""
MAX_REQUEST_ID = 128
MAX_SESSION = 256
_OURS = frozenset(
    (b"host", b"content-length", REQUEST_ID, b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host",
     b"x-forwarded-proto", TRACEPARENT, TRACESTATE, EXPLAIN, PRIORITY, *DEADLINES)
)  # fmt: skip
_DROPPED = HOP_BY_HOP | _OURS
_BODYS = frozenset((b"content-type", b"accept", b"accept-encoding", b"anthropic-version", b"anthropic-beta"))
"""What describes a body that is translated."""


@dataclass(slots=True)
class Reading:
    """`lines` are the header lines for the engine, `translated` those for a translated body. `request_id` is the caller's, "" if there is none.

    `starts` are first lines by endpoint, `who` says who asked, of the peer `peer`. `cleared` is the service that was last found to be
    within the key's reach, `buckets` are those of the limits that hold for it. `explains`: the caller wants to know how it is routed, and may.
    `session` is what the turns of its conversation have in common, `is_batch` says that the caller has time.
    """

    names: Names
    target: Target
    dialect: Dialect | None
    key: KeyRoute | None
    expires_at: float
    request_id: str
    traceparent: bytes
    tracestate: bytes
    has_deadline: bool
    is_form: bool
    lines: bytes
    translated: bytes
    starts: dict[str, bytes] = field(default_factory=dict)
    peer: str = ""
    who: bytes = b""
    cleared: ServiceRoute | None = None
    buckets: tuple[Bucket, ...] = ()
    explains: bool = False
    session: str = ""
    is_batch: bool = False


def read(head: Head, names: Names, gate: Access) -> Reading:
    """Raises NotFound, Unauthorized and Forbidden; who has no key, where one is asked for, does not learn what there is."""
    try:
        target = paths.parse(head, names)
    except NotFound:
        gate.caller(head.headers)
        raise
    grant = gate.authorize(head.headers, target.local)
    fields = dict(reversed(head.headers))
    explains = fields.get(EXPLAIN, b"").lower() == b"true"
    if explains:
        gate.check_explain(grant.key)
    return Reading(
        names=names,
        target=target,
        dialect=DIALECTS.get(target.protocol),
        key=grant.key,
        expires_at=grant.expires_at,
        request_id=_id(head),
        traceparent=fields.get(TRACEPARENT, b""),
        tracestate=fields.get(TRACESTATE, b""),
        has_deadline=any(name in fields for name in DEADLINES),
        is_form=fields.get(b"content-type", b"")[:19].lower() == b"multipart/form-data",
        lines=_lines(head, _DROPPED),
        translated=b"content-type: application/json\r\n" + _lines(head, _DROPPED | _BODYS),
        explains=explains,
        session=fields.get(SESSION, b"")[:MAX_SESSION].decode("latin-1"),
        is_batch=fields.get(BATCH, b"").lower() == b"true" or asks_for_batch(fields),
    )


def _lines(head: Head, dropped: frozenset[bytes]) -> bytes:
    """Headers that go on to the engine: neither those of this connection, nor ours, nor a key of ours."""
    dropped |= named_by_connection(head.headers)
    return lines(
        [
            (name, value)
            for name, value in head.headers
            if name not in dropped and not (name in access.CREDENTIALS and access.carries_key(name, value))
        ]
    )


def unread(head: Head, names: Names) -> Reading:
    """Of a request that is refused for its head: whose protocol to refuse it in, and under which id."""
    target = Target(paths.protocol_of(head.path))
    dialect = DIALECTS.get(target.protocol)
    return Reading(names, target, dialect, None, 0.0, _id(head), b"", b"", False, False, b"", b"")


def _id(head: Head) -> str:
    """The caller's own, if it is fit to be passed on."""
    given = head.header(REQUEST_ID).decode("latin-1")
    return given if len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable() else ""
