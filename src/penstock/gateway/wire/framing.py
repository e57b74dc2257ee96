"""What a request's head must be like beyond what llhttp demands (RFC 9112), so that no two readers see different requests."""

from __future__ import annotations

import re

from penstock.gateway.wire.message import NO_TRAILER, Headers, Limits

METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
REQUEST_LINE = re.compile(rb"[\r\n]*[A-Z-]{1,32} [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
"""RFC 9112 3, to the letter: llhttp also takes several spaces, no version at all, and other protocols' names. Of an empty line before it (2.2)
llhttp may have had the CR in an earlier packet, so any CR and LF are passed over here, as they are there.
"""
UPGRADES = (b"websocket",)
"""Protocols that are passed on to engines."""
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
"""RFC 3986 3.2.2 with an optional port."""


class Refusal(Exception):
    """A request that is not taken: status, a stable reason word, and a sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def check_head(  # noqa: PLR0912  one look at each header
    method: bytes, target: bytes, version: str, headers: Headers, limits: Limits
) -> bytes:
    """The request's target in origin form. Raises Refusal for what two readers might take for different requests."""
    host, length, encoding, hosts = b"", b"", b"", 0
    for name, value in headers:
        if name == b"host":
            host, hosts = value, hosts + 1
        elif name == b"content-length":
            if length:
                raise _ambiguous("Content-Length is given more than once")
            length = value
        elif name == b"transfer-encoding":
            if encoding:
                raise _ambiguous("Transfer-Encoding is given more than once")
            encoding = value or b"?"
    if version not in ("1.1", "1.0"):
        raise Refusal(505, "bad_version", f"found HTTP/{version}, expected HTTP/1.1")
    if method not in METHODS:
        raise Refusal(501, "method_not_offered", f"the method {method.decode()} is not offered")
    if hosts != 1 and (hosts or version == "1.1"):
        raise Refusal(400, "bad_host", "exactly one Host header is required")
    if hosts and not _is_host(host):
        raise Refusal(400, "bad_host", "the Host header is not a host with an optional port")
    if encoding:
        if length:
            raise _ambiguous("Transfer-Encoding stands beside Content-Length")
        if version == "1.0":
            raise _ambiguous("HTTP/1.0 has no Transfer-Encoding")
        if encoding.lower() != b"chunked":
            raise Refusal(
                501, "unknown_transfer_coding", "the only Transfer-Encoding that is taken is chunked"
            )
    elif length and int(length) > limits.max_body_bytes:
        raise too_large(limits)
    if b"#" in target:
        raise Refusal(400, "bad_target", "a fragment is not part of a request target")
    if target[:1] == b"/":
        return target
    return _origin_form(method, target, host)


def declined(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """The head without its offer to speak another protocol, where it has a body; b"" where it has none.

    RFC 9110 7.8: such an offer may be ignored, and the body is this protocol's, as for a POST of curl's `--http2` and of Java's
    HttpClient. llhttp takes it for the other one's. Raises Refusal where the offer is one that is taken.
    """
    if not any(n == b"transfer-encoding" or (n == b"content-length" and v.strip(b"0")) for n, v in headers):
        return b""
    if any(name == b"upgrade" and value.lower() in UPGRADES for name, value in headers):
        raise Refusal(501, "upgrade_with_body", "a request that offers another protocol may have no body")
    kept = [
        b"%b: %b\r\n" % (name, _without_upgrade(value) if name == b"connection" else value)
        for name, value in headers
        if name != b"upgrade"
    ]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version.encode(), b"".join(kept))


def _without_upgrade(connection: bytes) -> bytes:
    return b",".join(part for part in connection.split(b",") if part.strip().lower() != b"upgrade")


def check_trailer(name: bytes) -> None:
    """Raises Refusal for a field that may not come after the body (RFC 9110 6.5.1)."""
    if name in NO_TRAILER:
        raise _ambiguous(f"the field {name.decode('latin-1')!r} may not be a trailer")


def too_large(limits: Limits) -> Refusal:
    """The body is longer than what is taken."""
    return Refusal(413, "body_too_large", f"the body exceeds {limits.max_body_bytes} bytes")


def head_too_large(limits: Limits) -> Refusal:
    """The request line and the headers are longer than what is taken."""
    return Refusal(431, "head_too_large", f"request line and headers exceed {limits.max_head_bytes} bytes")


def _origin_form(method: bytes, target: bytes, host: bytes) -> bytes:
    """RFC 9112 3.2.2: a server must take the absolute form; the authority in it must be the one in Host."""
    if target == b"*" and method == b"OPTIONS":
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise Refusal(400, "bad_target", "the request target is neither a path nor an http URL")
    authority, slash, path = rest.partition(b"/")
    if not slash:
        authority, question, query = authority.partition(b"?")
        path = question + query
    if authority.lower() != host.lower():
        raise _ambiguous("the URL in the request line and the Host header name different hosts")
    return b"/" + path


def _is_host(value: bytes) -> bool:
    match = _HOST.fullmatch(value)
    return match is not None and int(match[1] or 0) < 65536


def _ambiguous(message: str) -> Refusal:
    return Refusal(400, "ambiguous_framing", message)
